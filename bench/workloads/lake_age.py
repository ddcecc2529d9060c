"""`python -m bench.workloads.lake_age YEARS COMMITS`: commits of Gold's real writer to a table of an age; prints JSON.

The state of that age is built at once through Iceberg's API: a file for each hour, and the snapshots and tags that
maintenance retains, with summaries as large as those of a topic of forty partitions. All files of old hours are links
to one file.
"""

import json
import os
import random
import sys
import time
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from pyspark.sql import DataFrame, SparkSession

from k2.common.platform import Platform
from k2.jobs import bootstrap
from k2.jobs.commit.incremental_batch import IncrementalBatch
from k2.jobs.commit.lineage import BatchContents
from k2.jobs.commit.snapshots import SnapshotHistory
from k2.jobs.layers.batches import GoldLayer
from k2.jobs.maintenance.runner import Maintenance
from k2.jobs.spark import tables
from k2.jobs.spark.local_frames import local_frame
from k2.jobs.telemetry.metrics import LayerState
from k2.query.iceberg.catalog import connect
from k2.query.iceberg.tables import identifier
from k2.schemas.channels import TRADES, exchange_tables
from k2.schemas.feed.model import ExchangeFeed
from k2.schemas.records.trade import message_id
from k2.schemas.snapshots import EXCHANGE, FRONTIER, OFFSETS
from k2.schemas.tables import GOLD_TABLE, day_tag, hour_tag, month_tag

SYMBOLS: Final = 500
PARTITIONS: Final = 40
UNTAGGED: Final = 150  # snapshots of the last hours
TRIM_EVERY: Final = 60  # commits

_TOPIC: Final = "market.crypto.trades.binance"
_HOUR: Final = timedelta(hours=1)
_BATCH: Final = 20_000  # files an append


class Trades:
    """A source of batches: one trade of each symbol."""

    def __init__(self, spark: SparkSession) -> None:
        self._spark = spark
        self._next = {str(partition): 1_000_000_000 + 7_919 * partition for partition in range(PARTITIONS)}
        self._rng = random.Random(1)

    def rows(self, frame: DataFrame, epoch: int) -> DataFrame:
        """Return the rows of a batch."""
        now = datetime.now(UTC)
        columns = ", ".join(f"`{column.name}` {column.type}" for column in TRADES.silver("binance").columns)
        return local_frame(self._spark, (self._row(place, epoch, now) for place in range(SYMBOLS)), columns)

    def _row(self, place: int, epoch: int, now: datetime) -> dict[str, Any]:
        symbol, number = f"S{place:03}USDT", str(epoch * 10 + 1)
        return {
            "message_id": str(message_id("BINANCE", symbol, number)), "trade_id": number, "symbol": symbol,
            "exchange": "BINANCE", "base_asset": symbol[:4], "quote_currency": "USDT", "timestamp": now,
            "price": f"{60000 + epoch}.12", "quantity": "0.01", "side": "BUY", "ingestion_timestamp": now,
            "vendor_data": {"source": "live"}, "schema_id": 1, "topic": _TOPIC, "partition": place % PARTITIONS,
            "offset": epoch, "bronze_timestamp": now, "validation_timestamp": now,
        }  # fmt: skip

    def contents(self, frame: DataFrame, epoch: int) -> BatchContents:
        """Return the offsets of a batch."""
        offsets = {}
        for partition, first in self._next.items():
            last = first + self._rng.randrange(400)
            offsets[partition] = [first, last]
            self._next[partition] = last + 1
        return BatchContents({_TOPIC: offsets}, SYMBOLS, {_TOPIC: "AbCdEfGhIjKlMnOpQrStUv"})


def main(years: float, commits: int) -> int:
    """Build the state, commit, and print what was measured."""
    platform = Platform.read()
    spark = bootstrap.connect(platform, "local[2]", "2g")
    tables.ensure(spark, exchange_tables("binance"))
    layer = GoldLayer(spark, TRADES, "BINANCE", LayerState("gold", "trades", "binance", "binance", 60.0))
    layer.begin("5e7c0f6a-0000-4000-8000-000000000000")
    source, frame = Trades(spark), spark.range(1).toDF("id")
    layer.commit(IncrementalBatch(source, frame, 0, "BINANCE"))
    started = time.monotonic()
    _add_hours(spark, round(years * 8760))
    _add_history(spark, source, years)
    result: dict[str, Any] = {"built": time.monotonic() - started, "commit": [], "metadata": [], "trim": []}
    maintenance = Maintenance(spark, platform, [_feed()])
    folder = Path(urlsplit(str(SnapshotHistory(spark, GOLD_TABLE).java_table().location())).path) / "metadata"
    for epoch in range(1, commits + 1):
        stored = set(folder.iterdir())
        started = time.monotonic()
        layer.commit(IncrementalBatch(source, frame, epoch, "BINANCE"))
        result["commit"].append(time.monotonic() - started)
        written = [file for file in set(folder.iterdir()) - stored if not file.name.startswith(".")]
        result["metadata"].append(sum(file.stat().st_size for file in written))
        if epoch % TRIM_EVERY == 0:
            started = time.monotonic()
            report = maintenance.trim()
            result["trim"].append(time.monotonic() - started)
            assert not report["errors"], report
    result["plan"] = [_plan(platform) for _ in range(5)]
    started = time.monotonic()
    report = maintenance.run(orphans=False)
    result["maintenance"] = time.monotonic() - started
    assert not report["errors"], report
    history = SnapshotHistory(spark, GOLD_TABLE)
    result |= {"snapshots": history.count(), "tags": len(history.refs()) - 1}
    print(json.dumps(result), flush=True)
    return 0


def _feed() -> ExchangeFeed:
    return ExchangeFeed.from_body(
        {
            "apiVersion": "k2.marketdata.io/v1alpha1", "kind": "ExchangeFeed", "metadata": {"name": "binance"},
            "spec": {"exchange": "binance", "symbols": ["BTCUSDT"]},
        }
    )  # fmt: skip


def _add_hours(spark: SparkSession, hours: int) -> None:
    """Append a file to the partition of each hour before now."""
    table: Any = SnapshotHistory(spark, GOLD_TABLE).java_table()
    api: Any = spark._jvm.org.apache.iceberg  # type: ignore[union-attr]  # noqa: SLF001 - as in SnapshotHistory
    snapshot = table.currentSnapshot()
    file = next(iter(snapshot.addedDataFiles(table.io())))
    path = Path(urlsplit(str(file.location())).path)
    folder = path.parents[2] / "aged"
    folder.mkdir()
    end = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - 2 * _HOUR
    builder = api.DataFiles.builder(table.spec())
    for first in range(0, hours, _BATCH):
        append = table.newAppend()
        for number in range(first, min(hours, first + _BATCH)):
            hour = end - (hours - number) * _HOUR
            os.link(path, folder / f"{number}.parquet")
            builder = builder.copy(file).withPath(f"file:{folder}/{number}.parquet")
            builder = builder.withPartitionPath(f"exchange_date={hour:%Y-%m-%d}/exchange_hour={hour.hour}")
            append.appendFile(builder.build())
        append.commit()


def _add_history(spark: SparkSession, source: Trades, years: float) -> None:
    """Commit what remains of earlier commits: those with tags, and the last ones."""
    table: Any = SnapshotHistory(spark, GOLD_TABLE).java_table()
    names = _names(years)
    tagged = {}
    for name in [*names, *([""] * (UNTAGGED if years else 0))]:
        append = table.newFastAppend()
        for key, value in _summary(source).items():
            append.set(key, value)
        append.commit()
        if name:
            tagged[name] = int(table.currentSnapshot().snapshotId())
    if tagged:
        change = table.manageSnapshots()
        for name, snapshot in tagged.items():
            change = change.createTag(name, snapshot)
        change.commit()


def _names(years: float) -> list[str]:
    """Return the tags that Gold has at an age."""
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    days = round(years * 365)
    names = [month_tag(_months_before(hour.date(), number)) for number in range(1, round(years * 12) + 1)]
    names += [day_tag(hour.date() - timedelta(days=number)) for number in range(1, min(90, days) + 1)]
    return names + [hour_tag(hour - number * _HOUR) for number in range(1, min(168, days * 24) + 1)]


def _months_before(day: date, number: int) -> date:
    months = day.year * 12 + day.month - 1 - number
    return date(months // 12, months % 12 + 1, 1)


def _summary(source: Trades) -> Mapping[str, str]:
    contents = source.contents(None, 0)  # type: ignore[arg-type] - no frame is read
    frontier = {_TOPIC: {partition: last + 1 for partition, (_, last) in contents.offsets[_TOPIC].items()}}
    texts = {OFFSETS: json.dumps(contents.offsets), FRONTIER: json.dumps(frontier)}
    return {EXCHANGE: "BINANCE", **texts}


def _plan(platform: Platform) -> float:
    """Return the seconds in which PyIceberg, which has read nothing before, plans one hour."""
    hour = datetime.now(UTC) - 30 * _HOUR
    where = f"exchange_date == '{hour:%Y-%m-%d}' and exchange_hour == {hour.hour}"
    started = time.monotonic()
    list(connect(platform).load_table(identifier(GOLD_TABLE.name)).scan(row_filter=where).plan_files())
    return time.monotonic() - started


if __name__ == "__main__":
    bootstrap.exit_process(main(float(sys.argv[1]), int(sys.argv[2])))
