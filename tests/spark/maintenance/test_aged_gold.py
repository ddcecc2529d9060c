"""A Gold that is years old: its commits write little metadata, and time travel reaches back for a week."""

import json
import random
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.jobs.commit.appender import Appender
from k2.jobs.commit.snapshots import SnapshotHistory
from k2.jobs.maintenance.runner import Maintenance
from k2.query.engine import Engine
from k2.schemas.snapshots import EPOCH, EXCHANGE, FRONTIER, OFFSETS, QUERY
from k2.schemas.tables import GOLD_TABLE, day_tag
from tests.spark.builders import Lake, trade

pytestmark = pytest.mark.spark

LABELS = ("BINANCE", "KRAKEN", "COINBASE", "BYBIT", "OKX")
STATES = 4
EACH = timedelta(days=2)  # time of each state of Gold
STEP = timedelta(minutes=10)
MOST_BYTES = 1_000_000  # of metadata that a commit writes
HOURS = 1_000  # partitions beside those of the trades


def _summary(rng: random.Random, label: str, epoch: int) -> dict[str, str]:
    """Return the parts of a commit's summary that take most of it, for a topic of forty partitions.

    The commits belong to no query: those of one would have to be in the ledger too.
    """
    firsts = {str(partition): rng.randrange(10**9) for partition in range(40)}
    offsets = {partition: [first, first + rng.randrange(500)] for partition, first in firsts.items()}
    topic = f"market.crypto.trades.{label.lower()}"
    return {
        EXCHANGE: label, QUERY: "", EPOCH: str(epoch),
        OFFSETS: json.dumps({topic: offsets}, separators=(",", ":")), FRONTIER: json.dumps({topic: firsts}),
    }  # fmt: skip


def _local(path: str) -> Path:
    return Path(urlsplit(path).path)


def _age(lake: Lake, states: list[dict[str, Any]], now: datetime) -> None:
    """Write metadata by which each state of Gold was committed again every ten minutes, five feeds in turns."""
    catalog = urlsplit(lake.platform.catalog_uri).path.removeprefix("/")
    with closing(sqlite3.connect(f"/{catalog}")) as connection, connection:
        (location,) = connection.execute(
            "SELECT metadata_location FROM iceberg_tables WHERE table_name = ?", (GOLD_TABLE.name,)
        ).fetchone()
        assert location.endswith(".gz.metadata.json")
        java_table = SnapshotHistory(lake.spark, GOLD_TABLE).java_table()
        to_json = lake.spark._jvm.org.apache.iceberg.TableMetadataParser.toJson  # type: ignore[union-attr]
        metadata = json.loads(to_json(java_table.operations().current()))
        metadata |= _history(states, now)
        aged = f"{location.removesuffix('.gz.metadata.json')}-aged.metadata.json"
        _local(aged).write_text(json.dumps(metadata), "utf-8")
        connection.execute(
            "UPDATE iceberg_tables SET metadata_location = ? WHERE table_name = ?", (aged, GOLD_TABLE.name)
        )


def _history(states: list[dict[str, Any]], now: datetime) -> dict[str, Any]:
    rng = random.Random(7)
    snapshots: list[dict[str, Any]] = []
    at, begin = now - STATES * EACH, now - STATES * EACH
    while at < now:
        number = len(snapshots) + 1
        state = states[int((at - begin) / EACH)]
        listed = _local(state["manifest-list"])
        manifest_list = listed.with_name(f"aged-{number}.avro")
        shutil.copy(listed, manifest_list)
        snapshots.append(
            state
            | {
                "snapshot-id": number, "sequence-number": number, "timestamp-ms": int(at.timestamp() * 1000),
                "manifest-list": f"file:{manifest_list}",
                "summary": state["summary"] | _summary(rng, LABELS[number % 5], number),
            }
            | ({"parent-snapshot-id": number - 1} if number > 1 else {})
        )  # fmt: skip
        at += STEP
    for snapshot in snapshots[:1]:
        snapshot.pop("parent-snapshot-id", None)
    log = [{"snapshot-id": one["snapshot-id"], "timestamp-ms": one["timestamp-ms"]} for one in snapshots]
    newest = snapshots[-1]
    return {
        "snapshots": snapshots, "snapshot-log": log, "metadata-log": [], "last-sequence-number": len(snapshots),
        "last-updated-ms": newest["timestamp-ms"], "current-snapshot-id": newest["snapshot-id"],
        "refs": {"main": {"snapshot-id": newest["snapshot-id"], "type": "branch"}},
    }  # fmt: skip


@pytest.fixture
def aged(lake: Lake) -> Lake:
    feed = lake.feed(bronze={"retention": "3000d"}, silver={"retention": "3000d"})
    states = []
    to_json = lake.spark._jvm.org.apache.iceberg.SnapshotParser.toJson  # type: ignore[union-attr]
    for number in range(1, STATES + 1):
        lake.arrive(feed, [trade(number)])
        lake.run(feed, "silver", "gold")
        states.append(json.loads(to_json(SnapshotHistory(lake.spark, GOLD_TABLE).java_table().currentSnapshot())))
    _age(lake, states, datetime.now(UTC))
    lake.spark.catalog.refreshTable(GOLD_TABLE.identifier)
    return lake


def test_a_week_can_be_travelled_back_by_time_and_by_tag_after_the_history_is_trimmed(aged: Lake):
    now, feed = datetime.now(UTC), aged.feed(bronze={"retention": "3000d"}, silver={"retention": "3000d"})
    snapshots = SnapshotHistory(aged.spark, GOLD_TABLE)
    before = snapshots.count()
    maintenance = Maintenance(aged.spark, aged.platform, [feed])
    assert maintenance.run(now=now, orphans=False)["errors"] == []
    assert snapshots.count() < before / 2
    begin = now - STATES * EACH
    with closing(Engine(aged.platform)) as engine:
        for hours in (0, 1, 5, 47, 49, 95, 97, 143, 145, 160, 167):
            moment = now - timedelta(hours=hours)
            rows = engine.trades(as_of=moment).num_rows
            states = [1 + int((moment - early - begin) / EACH) for early in (timedelta(), timedelta(hours=1), STEP)]
            assert rows in states, f"{hours} hours ago"
        day = (now - timedelta(days=5)).date()
        end = datetime(day.year, day.month, day.day, 1, tzinfo=UTC) + timedelta(days=1)
        assert engine.trades(as_of=day_tag(day)).num_rows == 1 + int((end - STEP - begin) / EACH)
        assert engine.trades().num_rows == STATES


@pytest.mark.slow
def test_a_commit_writes_at_most_a_megabyte_of_metadata(aged: Lake):
    spark, feed = aged.spark, aged.feed()
    hour = F.timestamp_seconds(F.lit(1_600_000_000) + F.col("id") * 3600)
    columns = {column.name: F.lit("0").cast(column.type) for column in GOLD_TABLE.columns if "(" in column.type}
    columns |= {column.name: F.lit(column.name) for column in GOLD_TABLE.columns if column.type == "string"}
    columns |= {column.name: hour for column in GOLD_TABLE.columns if column.type == "timestamp"}
    columns |= {"exchange_date": F.to_date(hour), "exchange_hour": F.hour(hour)}
    old = spark.range(HOURS).coalesce(1).select(*(columns[name].alias(name) for name in GOLD_TABLE.column_names))
    old.writeTo(GOLD_TABLE.identifier).option("fanout-enabled", "false").append()
    Maintenance(spark, aged.platform, [feed]).trim()
    history = SnapshotHistory(spark, GOLD_TABLE)
    assert len(history.refs()) > 150
    folder = _local(str(history.java_table().location())) / "metadata"
    appender, rng, stored = Appender(spark, GOLD_TABLE, "query"), random.Random(9), set(folder.iterdir())
    one = spark.table(GOLD_TABLE.identifier).limit(1).localCheckpoint()
    written = []
    for epoch in range(21):  # the twentieth merges manifests
        appender.append(one, epoch, _summary(rng, "BINANCE", epoch))
        files = set(folder.iterdir())
        written.append(sum(file.stat().st_size for file in files - stored))
        stored = files
    assert max(written) <= MOST_BYTES, written
    assert any(snapshot.summary["manifests-replaced"] != "0" for snapshot in aged.snapshots(GOLD_TABLE)[:21])
