"""Rebuild: one commit a table, the rows that the source gives, what it lacks stays, and everything goes on."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from py4j.protocol import Py4JError

from k2.common.schema_registry import Registry, SchemaCache
from k2.jobs.audit import runner
from k2.jobs.commit.commit_log import CommitLog
from k2.jobs.commit.replacement import Replacement
from k2.jobs.commit.snapshots import SnapshotHistory
from k2.jobs.maintenance import stream_positions
from k2.jobs.maintenance.bar_maintenance import BarMaintainer
from k2.jobs.rebuild import TAG, Rebuild, drop_tags
from k2.jobs.stream import CheckpointInUse
from k2.schemas import tables, topics
from k2.schemas.channels import TRADES
from k2.schemas.codecs import avro, wire
from k2.schemas.states import Cause
from tests.spark.builders import Lake, Record, numbers, trade
from tests.spark.saved_lakes import prepared

pytestmark = pytest.mark.spark

BRONZE, SILVER, GOLD = TRADES.bronze("binance"), TRADES.silver("binance"), tables.GOLD_TABLE
UNREGISTERED = 4711
HOUR = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=5)


def at(number: int, **changes):
    return trade(number, HOUR + timedelta(seconds=number), **changes)


def _of_unknown_schema(lake: Lake, number: int) -> Record:
    record = lake.record(at(number))
    return Record(wire.header(UNREGISTERED) + record.value[wire.HEADER_SIZE :], record.key, record.at)


def _filled(lake: Lake):
    return prepared(lake, _fill)


def _fill(lake: Lake):
    """Trades 1 to 8, 3 of them twice and 5 a dead letter, beside one of another exchange and one that is no record."""
    feed, other = lake.feed(), lake.feed("kraken")
    lake.arrive(feed, [at(1), at(2), at(3), at(3), at(4), _of_unknown_schema(lake, 5)])
    lake.arrive(feed, [at(6), at(7), at(8), Record(b"bad", "BTCUSDT", HOUR)])
    lake.arrive(other, [at(1, exchange="kraken", symbol="BTCUSD", quote_currency="USD")])
    lake.run(feed, "silver", "gold")
    lake.run(other, "silver", "gold")
    _record(lake, feed, other)
    return feed


def _record(lake: Lake, *feeds):
    CommitLog(lake.spark, feeds).record()
    BarMaintainer(lake.spark).run()


def _rebuild(lake: Lake, feed, layer: str = "silver", *, mended: bool = False, since: datetime | None = None):
    def schemas(topic: str):
        stored = SchemaCache(Registry(lake.platform.registry), topics.subject(topic)).schemas()
        return {**stored, UNREGISTERED: avro.text()} if mended else stored

    return {one.table: one for one in Rebuild(lake.spark, lake.platform, [feed], TRADES, schemas, since).run(layer)}


def _findings(lake: Lake, **options) -> list[str]:
    report = runner.audit(lake.spark, lake.platform, now=datetime.now(UTC), **options)
    return [finding.text for finding in report.findings if finding.check != "missing_ids"]


def _binance(lake: Lake) -> list[int]:
    return numbers(lake.gold.where("exchange = 'BINANCE'"))


def test_a_rebuild_that_changes_nothing_is_one_commit_a_table_and_everything_goes_on(lake: Lake):
    feed = _filled(lake)
    assert _findings(lake) == []
    before = {table.name: lake.snapshots(table)[0] for table in (SILVER, GOLD)}
    done = _rebuild(lake, feed)
    assert [(one.rows, one.before, one.stayed) for one in (done[SILVER.name], done[GOLD.name])] == [
        (8, 8, 0),
        (7, 7, 0),
    ]
    for table in (SILVER, GOLD):
        newest = lake.snapshots(table)[0]
        assert (newest.operation, newest.parent) == ("overwrite", before[table.name].id)
        tag = done[table.name].tag
        assert lake.spark.read.option("versionAsOf", tag).table(table.identifier).count() == lake.table(table).count()
    assert lake.gold.where("exchange = 'KRAKEN'").count() == 1
    _record(lake, feed)
    assert _findings(lake, rebuild=True) == []
    verdicts = lake.table(tables.COMPLETENESS_TABLE).where("exchange = 'BINANCE'").collect()
    assert [row["cause"] for row in verdicts] == [Cause.FIRST]

    lake.arrive(feed, [at(9), at(3), at(10)])
    lake.run(feed, "silver", "gold")
    _record(lake, feed)
    assert _binance(lake) == [1, 2, 3, 4, 6, 7, 8, 9, 10]
    assert (lake.silver().count(), lake.dead.count()) == (11, 2)
    assert _findings(lake) == []
    assert {name.partition(": ")[2][: len(TAG)] for name in drop_tags(lake.spark, [SILVER, GOLD])} == {TAG}
    assert drop_tags(lake.spark, [SILVER, GOLD]) == []


@pytest.mark.slow
def test_a_mended_cause_moves_dead_letters_and_verdicts_name_the_rebuild(lake: Lake):
    feed = _filled(lake)
    assert _findings(lake) == []
    lake.sql("UPDATE {} SET price = price * 10 WHERE trade_id = '4'", SILVER)
    lake.sql("UPDATE {} SET price = price * 7 WHERE trade_id = '6'", GOLD)
    assert _findings(lake) != []
    done = _rebuild(lake, feed, mended=True)
    assert (done[SILVER.name].rows, done[SILVER.name].before) == (9, 8)
    assert _binance(lake) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [row["error_category"] for row in lake.dead.collect()] == ["MALFORMED_HEADER"]
    for rows in (lake.silver(), lake.gold):
        assert rows.select("price").distinct().count() == 1
    _record(lake, feed)
    assert _findings(lake) == []
    causes = lake.table(tables.COMPLETENESS_TABLE).where("exchange = 'BINANCE'").orderBy("checked_at").collect()
    assert causes[-1]["cause"] in {Cause.REBUILT, Cause.REDRIVEN}
    assert causes[-1]["actual"] == 8
    assert _findings(lake) == []
    again = _rebuild(lake, feed, mended=True)
    assert (again[SILVER.name].rows, again[SILVER.name].before, lake.dead.count()) == (9, 9, 1)


@pytest.mark.slow
def test_rows_that_are_changed_after_a_rebuild_was_judged_are_findings(lake: Lake):
    feed = _filled(lake)
    assert _findings(lake) == []
    _rebuild(lake, feed)
    assert _findings(lake) == []
    for table in (SILVER, GOLD):  # alike, so only verdicts tell
        lake.sql("UPDATE {} SET price = price * 10 WHERE trade_id = '4' AND exchange = 'BINANCE'", table)
    _record(lake, feed)
    tables_named = {text.partition(":")[0] for text in _findings(lake)}
    assert tables_named == {SILVER.name, GOLD.name}


def test_a_changed_row_of_bronze_is_a_finding_also_after_a_rebuild(lake: Lake):
    feed = _filled(lake)
    assert _findings(lake) == []
    other = lake.record(at(4, price=10**12)).value
    lake.sql(f"UPDATE {{}} SET value = X'{other.hex()}' WHERE offset = 4", BRONZE)
    _rebuild(lake, feed)
    assert any("bronze_binance_trades" in text for text in _findings(lake))


def test_what_bronze_lost_stays_in_silver_and_gold(lake: Lake):
    feed = _filled(lake)
    lake.sql("DELETE FROM {} WHERE offset < 3", BRONZE)
    done = _rebuild(lake, feed)
    assert [(one.rows, one.stayed) for one in (done[SILVER.name], done[GOLD.name])] == [(5, 3), (7, 0)]
    assert _binance(lake) == [1, 2, 3, 4, 6, 7, 8]
    assert numbers(lake.silver()) == [1, 2, 3, 3, 4, 6, 7, 8]
    part = _rebuild(lake, feed, since=HOUR + timedelta(seconds=7))
    assert part[SILVER.name].rows == 2
    assert numbers(lake.silver()) == [1, 2, 3, 3, 4, 6, 7, 8]


def test_gold_alone_is_built_from_silver(lake: Lake):
    feed = _filled(lake)
    lake.sql("DELETE FROM {} WHERE trade_id = '2' AND exchange = 'BINANCE'", GOLD)
    before = lake.snapshots(SILVER)[0].id
    assert list(_rebuild(lake, feed, "gold")) == [GOLD.name]
    assert (_binance(lake), lake.snapshots(SILVER)[0].id) == ([1, 2, 3, 4, 6, 7, 8], before)


def test_a_layer_that_is_behind_catches_up_first_and_one_that_runs_is_not_rebuilt(lake: Lake):
    feed = _filled(lake)
    lake.arrive(feed, [at(9)])
    lake.run(feed, "silver")
    lake.arrive(feed, [at(10)])
    assert _rebuild(lake, feed)[SILVER.name].rows == 10
    assert _binance(lake) == [1, 2, 3, 4, 6, 7, 8, 9, 10]
    _record(lake, feed)
    assert _findings(lake) == []
    with lake.stream(feed, "gold") as running:
        running.start()
        with pytest.raises(CheckpointInUse):
            _rebuild(lake, feed)


def test_another_feed_commits_during_a_rebuild_and_files_are_compacted_and_nothing_is_lost_or_twice(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
):
    feed, other = _filled(lake), lake.feed("kraken")

    def kraken(number: int):
        return at(number, exchange="kraken", symbol="BTCUSD", quote_currency="USD")

    for number in (2, 3):
        lake.arrive(other, [kraken(number)])
        lake.run(other, "silver", "gold")
    lake.sql("DELETE FROM {} WHERE trade_id = '2' AND exchange = 'BINANCE'", GOLD)
    _compact(lake)
    (mixed,) = lake.spark.table(f"{GOLD.identifier}.files").collect()
    assert mixed["record_count"] == 9
    swap, before_swaps, staged_paths = Replacement._swap, [], []

    def swap_after_others(replacement: Replacement, *arguments) -> None:
        if not before_swaps:
            lake.arrive(other, [kraken(4)])
            lake.run(other, "silver", "gold")
            _compact(lake)
            history = SnapshotHistory(lake.spark, GOLD)
            readers = stream_positions.rebuilds(history.refs())
            assert stream_positions.snapshots_needed(readers, list(history.snapshots()))[0] == 3
        before_swaps.append((_binance(lake), numbers(lake.gold.where("exchange = 'KRAKEN'"))))
        ((staged,),) = (one.added for one in replacement._staged.values())
        staged_paths.append(Path(str(staged.location()).removeprefix("file:")))
        swap(replacement, *arguments)

    monkeypatch.setattr(Replacement, "_swap", swap_after_others)
    assert _rebuild(lake, feed, "gold")[GOLD.name].rows == 7
    assert before_swaps == [([1, 3, 4, 6, 7, 8], [1, 2, 3, 4])] * 2
    assert _binance(lake) == [1, 2, 3, 4, 6, 7, 8]
    assert numbers(lake.gold.where("exchange = 'KRAKEN'")) == [1, 2, 3, 4]
    assert not stream_positions.rebuilds(SnapshotHistory(lake.spark, GOLD).refs())
    assert [path.exists() for path in staged_paths] == [False, True]
    _record(lake, feed, other)
    assert _findings(lake) == []

    monkeypatch.setattr(Replacement, "_swap", swap)
    stage = Replacement._stage

    def stage_before_a_commit_of_the_exchange(replacement: Replacement, *arguments) -> None:
        stage(replacement, *arguments)
        lake.sql("UPDATE {} SET price = price * 2 WHERE trade_id = '2' AND exchange = 'BINANCE'", GOLD)

    monkeypatch.setattr(Replacement, "_stage", stage_before_a_commit_of_the_exchange)
    with pytest.raises(Py4JError, match="Found conflicting files"):
        _rebuild(lake, feed, "gold")
    assert lake.gold.where("trade_id = '2'").select("price").distinct().count() == 2


def _compact(lake: Lake) -> None:
    arguments = f"table => '{GOLD.identifier}', options => map('rewrite-all', 'true')"
    lake.spark.sql(f"CALL {tables.CATALOG}.system.rewrite_data_files({arguments})")
