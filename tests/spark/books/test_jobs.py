"""Maintenance, rebuild and purge of quotes and books: no row is lost or repeated, and the audit stays clean."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from k2.common.schema_registry import Registry, SchemaCache
from k2.jobs.commit.commit_log import CommitLog
from k2.jobs.maintenance import history
from k2.jobs.maintenance import runner as maintenance
from k2.jobs.purge import Purge
from k2.jobs.rebuild import Rebuild
from k2.schemas import tables, topics
from k2.schemas.channels import BOOK, QUOTES
from k2.schemas.records.book import BookKind
from tests.spark.books.lake import CHANNELS, FIRST, SECOND, Books, books, delta, quote
from tests.spark.builders import Lake, Record

pytestmark = [pytest.mark.spark, pytest.mark.slow]

TABLES = [
    table for channel in CHANNELS for table in (channel.bronze("binance"), channel.silver("binance"), channel.gold)
]


@pytest.fixture(autouse=True)
def small_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compact two files instead of five, and keep one snapshot instead of a hundred: two batches are enough."""
    monkeypatch.setitem(maintenance._OPTIONS, "min-input-files", "2")  # type: ignore[index]
    monkeypatch.setattr(history, "MIN_SNAPSHOTS", 1)
    monkeypatch.setattr(history, "GOLD", replace(history.GOLD, age=timedelta(hours=1)))


def _batch(filled: Books, first: int) -> None:
    """Let four records of each channel pass through the layers: one cannot be read, one is the same each time."""
    whole = delta(first, kind=BookKind.SNAPSHOT, first_id=None)
    filled.arrive(whole, delta(first + 1), delta(1, connection=SECOND), Record(b"bad"))
    quotes = quote(first, sequence=None), quote(first + 1, sequence=None), quote(1, connection=SECOND, sequence=None)
    filled.arrive(*quotes, Record(b"bad"), channel=QUOTES)
    filled.run()
    CommitLog(filled.lake.spark, [filled.feed], CHANNELS).record()


def _rebuild(filled: Books) -> list[tuple[str, int, int, int]]:
    def schemas(topic: str) -> dict[int, str]:
        return dict(SchemaCache(Registry(filled.lake.platform.registry), topics.subject(topic)).schemas())

    return [
        (done.table, done.rows, done.before, done.stayed)
        for channel in CHANNELS
        for done in Rebuild(filled.lake.spark, filled.lake.platform, [filled.feed], channel, schemas).run("silver")
    ]


def test_tables_of_both_channels_are_maintained_rebuilt_and_purged(lake: Lake):
    filled = books(lake)
    _batch(filled, 1)
    _batch(filled, 3)
    job = maintenance.Maintenance(lake.spark, lake.platform, [filled.feed], CHANNELS)
    report = job.run(now=datetime.now(UTC) + timedelta(hours=2))
    assert report["errors"] == []
    for table in TABLES:
        assert report["tables"][table.name]["compacted_files"] >= 2
        assert report["tables"][table.name]["expired_snapshots"] >= 1

    _batch(filled, 5)  # the streams go on behind what was compacted and expired
    rows = [(FIRST, number, 10) for number in range(1, 7)] + [(SECOND, 1, 10)]
    assert filled.gold(BOOK) == filled.gold(QUOTES) == rows
    assert filled.audit().findings == []

    assert _rebuild(filled) == [
        entry
        for channel in CHANNELS
        for entry in ((channel.silver("binance").name, 9, 9, 0), (channel.gold.name, 7, 7, 0))
    ]
    assert filled.gold(BOOK) == filled.gold(QUOTES) == rows
    assert filled.audit(rebuild=True).findings == []

    assert filled.feed.channels != CHANNELS  # a purge covers what the feed does not record any more
    removed = Purge(lake.spark, lake.platform, filled.feed, exchange=False).run()
    counts = {"bronze": 12, "silver": 9, "gold": 7}
    assert {name: removed[name] for name in (table.name for table in TABLES)} == {
        table.name: counts[table.name.partition("_")[0]] for table in TABLES
    }
    assert removed[tables.DEAD_LETTERS_TABLE.name] == 6
    assert all(lake.table(table).isEmpty() for table in (*TABLES, tables.DEAD_LETTERS_TABLE))
    _batch(filled, 7)
    assert filled.gold(BOOK) == [(FIRST, 7, 10), (FIRST, 8, 10), (SECOND, 1, 10)]
