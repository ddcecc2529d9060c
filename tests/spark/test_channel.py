"""A channel of a test alone runs through Silver, Gold, audit, commit log, maintenance and purge.

It has what trades do not: no ids, a list column, two time columns of which one is often empty, an identity of two
columns, a category of its own, and a verdict of the adapter.
"""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from fastavro import parse_schema

from k2.common.schema_registry import Registry
from k2.jobs.app import App
from k2.jobs.audit import runner
from k2.jobs.commit.commit_log import CommitLog
from k2.jobs.maintenance.runner import Maintenance
from k2.jobs.purge import Purge
from k2.jobs.spark import tables as spark_tables
from k2.jobs.telemetry.server import jobs_status
from k2.schemas import tables, topics
from k2.schemas.channels import TRADES, Channel, Sequencing, exchange_tables
from k2.schemas.codecs.avro import RecordEncoder
from k2.schemas.tables import Column
from k2.schemas.validation import MISSING_FIELD, UNKNOWN_EXCHANGE, Rule, time_rules
from tests.spark.builders import HOUR, Lake, Record, consecutive, numbers

pytestmark = pytest.mark.spark

_TIME = {"type": "long", "logicalType": "timestamp-micros"}
_LEVEL = {"type": "record", "name": "Level", "fields": [{"name": name, "type": "long"} for name in ("price", "size")]}
_SCHEMA = {
    "type": "record",
    "name": "Depth",
    "fields": [
        {"name": "symbol", "type": "string"},
        {"name": "exchange", "type": "string"},
        {"name": "connection", "type": "string"},
        {"name": "ordinal", "type": "long"},
        {"name": "timestamp", "type": ["null", _TIME]},
        {"name": "ingestion_timestamp", "type": _TIME},
        {"name": "kind", "type": "string"},
        {"name": "note", "type": ["null", "string"]},
        {"name": "levels", "type": {"type": "array", "items": _LEVEL}},
        {"name": "verdict", "type": "string"},
    ],
}
_COLUMNS = (
    Column("symbol", "string", "normalised"),
    Column("exchange", "string", "in capitals"),
    Column("connection", "string", "of the ingest"),
    Column("ordinal", "bigint", "of the message within its connection"),
    Column("timestamp", "timestamp", "the exchange's, if it sends one", nullable=True),
    Column("ingestion_timestamp", "timestamp", "when the frame left the socket"),
    Column("kind", "string", "snapshot or delta"),
    Column("note", "string", "free text", nullable=True),
    Column("levels", "array<struct<price:bigint,size:bigint>>", "of the book"),
    Column("verdict", "string", "of the adapter"),
)
DEPTH = Channel(
    name="ladder",
    record=dict,
    schema=json.dumps(_SCHEMA),
    encoder=lambda schema_id: RecordEncoder(schema_id, parse_schema(_SCHEMA), dict),
    columns=_COLUMNS,
    gold=tables.gold("ladder", _COLUMNS, ("symbol", "connection", "ordinal"), ("ordinal",)),
    identity=("connection", "ordinal"),
    sequencing=Sequencing.CONNECTION,
    rules=(
        MISSING_FIELD,
        UNKNOWN_EXCHANGE,
        Rule("UNKNOWN_KIND", lambda record: record["kind"] > "snapshot", "{symbol} ({note}) is a {kind}, key {key}"),
        *time_rules("timestamp"),
    ),
    text_columns=frozenset({"symbol", "exchange", "connection", "kind", "verdict"}),
    time_columns=("timestamp", "ingestion_timestamp"),
    verdict_column="verdict",
)
LATER = HOUR + timedelta(hours=4)


def depth(ordinal: int, at: datetime, **changes: Any) -> dict[str, Any]:
    """Return a record that arrived at a time, without a time of the exchange."""
    fields = {
        "symbol": "BTCUSDT", "exchange": "BINANCE", "connection": "c1", "ordinal": ordinal, "timestamp": None,
        "ingestion_timestamp": at, "kind": "delta", "note": None, "levels": [{"price": ordinal, "size": 2}],
        "verdict": "verified",
    }  # fmt: skip
    return fields | changes


class DepthLake:
    """A lake with a feed and its topic of the channel."""

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        # Its time is years ago by now, which must not be its retention.
        self.feed = lake.feed(bronze={"retention": "3000d"}, silver={"retention": "3000d"})
        spark_tables.ensure(lake.spark, exchange_tables("binance", [DEPTH]))
        registry = Registry(lake.platform.registry)
        self.encoder = DEPTH.encoder(registry.register(topics.subject(self.feed.topic(DEPTH)), DEPTH.schema))

    def arrive(self, *records: dict[str, Any], run: Sequence[str] = ("silver", "gold")) -> None:
        """Commit one Bronze batch and run layers."""
        values = [
            Record(self.encoder.encode(record), record["symbol"], record["ingestion_timestamp"]) for record in records
        ]
        self.lake.arrive(self.feed, values, channel=DEPTH)
        self.lake.run(self.feed, *run, channel=DEPTH)

    def ordinals(self) -> list[int]:
        """Return the ordinals in Gold, in order."""
        return sorted(row[0] for row in self.lake.table(DEPTH.gold).select("ordinal").collect())

    def audit(self, **options: Any) -> runner.Report:
        """Audit this channel and trades."""
        channels = [TRADES, DEPTH]
        return runner.audit(self.lake.spark, self.lake.platform, channels=channels, now=LATER, **options)


@pytest.fixture
def filled(lake: Lake) -> DepthLake:
    return DepthLake(lake)


def test_records_are_typed_and_those_that_break_a_rule_are_dead_letters_with_its_message(filled: DepthLake):
    filled.arrive(
        depth(1, HOUR, timestamp=HOUR - timedelta(seconds=1)),
        depth(2, HOUR, kind="trade"),
        depth(3, HOUR, connection="", verdict=""),
        depth(4, HOUR, exchange="OKX"),
        depth(5, HOUR, timestamp=HOUR + timedelta(minutes=2)),
        run=["silver"],
    )
    (row,) = filled.lake.table(DEPTH.silver("binance")).collect()
    assert [level.asDict() for level in row["levels"]] == [{"price": 1, "size": 2}]
    letters = filled.lake.dead.orderBy("offset").collect()
    assert {row["channel"] for row in letters} == {"ladder"}
    assert [(row["error_category"], row["error_message"]) for row in letters] == [
        ("UNKNOWN_KIND", "BTCUSDT (null) is a trade, key BTCUSDT"),
        ("MISSING_FIELD", "empty: connection verdict"),
        ("UNKNOWN_EXCHANGE", "exchange is OKX, not BINANCE"),
        ("FUTURE_TIMESTAMP", "timestamp is 2026-03-02 10:02:00, over 1 minute ahead"),
    ]


def test_gold_has_each_identity_once_in_the_hour_of_its_first_time_that_is_not_null(filled: DepthLake):
    before = HOUR - timedelta(seconds=1)
    filled.arrive(depth(1, HOUR), depth(1, HOUR), depth(1, HOUR, connection="c2"), depth(2, HOUR, timestamp=before))
    filled.arrive(depth(2, HOUR, timestamp=before), depth(3, HOUR))
    rows = filled.lake.table(DEPTH.gold).select("connection", "ordinal", "exchange_hour").collect()
    assert sorted(map(tuple, rows)) == [("c1", 1, 10), ("c1", 2, 9), ("c1", 3, 10), ("c2", 1, 10)]


def test_a_corruption_is_a_finding_of_the_channel_that_names_the_record(filled: DepthLake):
    filled.arrive(*(depth(number, HOUR) for number in (1, 2, 3)))
    filled.lake.arrive(filled.feed, consecutive(1, 3))
    filled.lake.run(filled.feed, "silver", "gold")
    filled.lake.sql("DELETE FROM {} WHERE ordinal = 2", DEPTH.gold)
    report = filled.audit()
    assert [(finding.channel, finding.check) for finding in report.findings] == [("ladder", "gold_missing")]
    assert report.findings[0].text == "BTCUSDT record (connection c1, ordinal 2) is in Silver but not in Gold"
    assert report.exchanges["BINANCE"]["trades"].rows["gold"] == 3


def test_maintenance_and_the_commit_log_cover_the_channel_and_nothing_is_lost(filled: DepthLake):
    lake = filled.lake
    for number in range(1, 7):
        filled.arrive(depth(number, HOUR + timedelta(minutes=number)))
    # Gold's commit names the topic, as Bronze's and Silver's do.
    assert CommitLog(lake.spark, [filled.feed], [DEPTH]).record() == 18
    assert CommitLog(lake.spark, [filled.feed]).record() == 0
    rows = lake.table(tables.BATCHES_TABLE).collect()
    assert {(row["exchange"], row["channel"]) for row in rows} == {("BINANCE", "ladder")}
    report = Maintenance(lake.spark, lake.platform, [filled.feed], [TRADES, DEPTH]).run(now=LATER + timedelta(days=1))
    assert report["errors"] == []
    for table in (DEPTH.bronze("binance"), DEPTH.silver("binance"), DEPTH.gold):
        assert report["tables"][table.name]["compacted_files"] == 6
    filled.arrive(depth(6, HOUR + timedelta(minutes=6)), depth(7, HOUR + timedelta(minutes=7)))
    assert filled.ordinals() == list(range(1, 8))
    assert filled.audit().findings == []


@pytest.mark.parametrize("exchange", [False, True])
def test_a_purge_removes_the_rows_of_every_channel(filled: DepthLake, *, exchange: bool):
    lake = filled.lake
    filled.arrive(depth(1, HOUR), depth(2, HOUR, exchange="OKX"))
    lake.arrive(filled.feed, consecutive(1, 3))
    lake.run(filled.feed, "silver", "gold")
    removed = Purge(lake.spark, lake.platform, filled.feed, exchange=exchange, channels=[TRADES, DEPTH]).run()
    assert removed["silver_binance_ladder"] == ("dropped" if exchange else 1)
    assert (removed[DEPTH.gold.name], removed[tables.GOLD], removed[tables.DEAD_LETTERS]) == (1, 3, 1)
    assert filled.ordinals() == numbers(lake.gold) == []


def test_an_app_has_a_query_of_each_channel_and_layer_and_one_of_gaps(filled: DepthLake):
    lake, layers = filled.lake, ("bronze", "silver", "gold")
    app = App(lake.spark, lake.platform, [filled.feed], layers, restart=False, channels=[TRADES, DEPTH])
    assert {stream.name for stream in app.streams} == {
        *(f"binance-{channel}-{layer}" for channel in ("trades", "ladder") for layer in layers), "binance-gaps",
    }  # fmt: skip
    status = jobs_status(stream.state for stream in app.streams)
    assert set(status.feeds["binance"]) == {*layers, *(f"ladder/{layer}" for layer in layers), "gaps"}
