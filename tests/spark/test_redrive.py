"""Redrive: dead letters whose cause is mended become records, once; the others come back; the counts balance."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from k2.common.schema_registry import Registry, SchemaCache
from k2.jobs.audit import runner
from k2.jobs.commit.commit_log import CommitLog
from k2.jobs.redrive import Redrive, RedriveRuns, only_one
from k2.schemas import tables, topics
from k2.schemas.channels import TRADES
from k2.schemas.codecs import avro, wire
from k2.schemas.states import Cause
from tests.spark.builders import Lake, Record, consecutive, numbers, trade
from tests.spark.saved_lakes import prepared

pytestmark = pytest.mark.spark

SILVER = TRADES.silver("binance")
UNREGISTERED = 4711
NOW = datetime.now(UTC)
HOUR = NOW.replace(minute=0, second=0, microsecond=0) - timedelta(hours=5)


def at(number: int):
    return trade(number, HOUR + timedelta(seconds=number))


def _of_unknown_schema(lake: Lake, number: int) -> Record:
    """The record of a trade whose schema the registry does not have yet."""
    record = lake.record(at(number))
    return Record(wire.header(UNREGISTERED) + record.value[wire.HEADER_SIZE :], record.key, record.at)


def _filled(lake: Lake):
    return prepared(lake, _fill)


def _fill(lake: Lake):
    """Trades 1 to 9, of which 4, 5 and 9 are dead letters, and one record that no schema can mend."""
    feed = lake.feed()
    lake.arrive(feed, [*map(at, (1, 2, 3)), _of_unknown_schema(lake, 4), _of_unknown_schema(lake, 5), at(6)])
    lake.arrive(feed, [at(7), at(8), _of_unknown_schema(lake, 9), Record(wire.header(UNREGISTERED) + b"?", at=HOUR)])
    lake.run(feed, "silver", "gold")
    CommitLog(lake.spark, [feed]).record()
    return feed


def _redrive(lake: Lake, feed, category: str = "UNKNOWN_SCHEMA", *, mended: bool = True):
    topic = topics.subject(feed.topic(TRADES))
    schemas = SchemaCache(Registry(lake.platform.registry), topic).schemas()
    if mended:
        schemas = {**schemas, UNREGISTERED: avro.text()}
    return Redrive(lake.spark, feed, TRADES, lambda: schemas).run(category)


def _audit(lake: Lake, **options):
    return runner.audit(lake.spark, lake.platform, now=datetime.now(UTC), **options)


def _state(lake: Lake) -> tuple[list[int], int]:
    return numbers(lake.silver()), lake.dead.count()


def test_mended_dead_letters_reach_gold_once_and_the_counts_balance(lake: Lake):
    feed = _filled(lake)
    assert _state(lake) == ([1, 2, 3, 6, 7, 8], 4)
    done = _redrive(lake, feed)
    assert (done.valid, done.came_back, done.not_in_bronze) == (3, {"UNDECODABLE": 1}, 0)
    assert _state(lake) == ([*range(1, 10)], 1)
    lake.run(feed, "gold")
    assert numbers(lake.gold) == [*range(1, 10)]
    again = _redrive(lake, feed)
    assert (again.valid, again.came_back) == (0, {"UNDECODABLE": 1})
    lake.run(feed, "silver", "gold")
    assert numbers(lake.gold) == [*range(1, 10)]
    report = _audit(lake)
    assert [finding.text for finding in report.findings if finding.check != "missing_ids"] == []
    assert report.exchanges["BINANCE"]["trades"].rows == {"bronze": 10, "silver": 9, "dead_letters": 1, "gold": 9}


def test_the_ledger_names_the_redrive(lake: Lake):
    feed = _filled(lake)
    _redrive(lake, feed)
    lake.arrive(feed, [at(10)])
    lake.run(feed, "silver", "gold")
    lake.arrive(feed, [at(11)])
    lake.run(feed, "silver", "gold")
    CommitLog(lake.spark, [feed]).record()
    assert [finding.text for finding in _audit(lake).findings] == []
    rows = lake.table(tables.BATCHES_TABLE).where("query_id LIKE 'redrive-binance-%'").collect()
    assert [(row["layer"], row["rows_in"], row["rows_out"], row["dead_letters"]) for row in rows] == [
        ("silver", 3, 3, 0)
    ]
    (gold,) = [snapshot for snapshot in lake.snapshots(tables.GOLD_TABLE) if "k2.redriven" in snapshot.summary]
    assert json.loads(gold.summary["k2.redriven"]) == {feed.topic(TRADES): 3}
    assert json.loads(gold.summary["k2.offsets"])[feed.topic(TRADES)] == {"0": [10, 10]}


def test_gold_reads_a_redrive_also_if_nothing_else_came(lake: Lake):
    feed = _filled(lake)
    _redrive(lake, feed)
    lake.run(feed, "gold")
    CommitLog(lake.spark, [feed]).record()
    newest = lake.snapshots(tables.GOLD_TABLE)[0]
    assert (newest.rows, newest.summary["k2.offsets"]) == (3, "{}")
    copied = lake.table(tables.BATCHES_TABLE).where(f"snapshot_id = {newest.id}").collect()
    assert [(row["layer"], row["rows_in"]) for row in copied] == [("gold", 3)]
    assert [finding.text for finding in _audit(lake).findings] == []


def test_a_verdict_of_before_gets_a_revision_that_names_the_redrive(lake: Lake):
    feed = _filled(lake)
    before = _audit(lake)
    assert {finding.check for finding in before.findings} == {"missing_ids"}
    _redrive(lake, feed)
    lake.run(feed, "gold")
    CommitLog(lake.spark, [feed]).record()
    assert [finding.text for finding in _audit(lake).findings] == []
    verdicts = lake.table(tables.COMPLETENESS_TABLE).orderBy("revision").collect()
    assert [(row["cause"], row["actual"]) for row in verdicts] == [(Cause.FIRST, 6), (Cause.REDRIVEN, 9)]
    assert [finding.text for finding in _audit(lake, incremental=True).findings] == []


def test_a_cause_that_is_still_there_says_how_many_came_back(lake: Lake):
    feed = _filled(lake)
    before = _state(lake)
    done = _redrive(lake, feed, mended=False)
    assert (done.valid, done.came_back) == (0, {"UNKNOWN_SCHEMA": 4})
    assert _state(lake) == before


def test_an_interrupted_redrive_is_finished_without_a_second_copy(lake: Lake, monkeypatch: pytest.MonkeyPatch):
    feed = _filled(lake)
    with monkeypatch.context() as patched:
        patched.setattr(Redrive, "_delete", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            _redrive(lake, feed)
    assert _state(lake) == ([*range(1, 10)], 4)
    done = _redrive(lake, feed)
    assert (done.finished, done.valid, done.came_back) == (3, 0, {"UNDECODABLE": 1})
    assert _state(lake) == ([*range(1, 10)], 1)


def _interrupt(self: Redrive, category: str) -> None:
    raise KeyboardInterrupt


def test_a_record_that_contradicts_one_in_silver_comes_back(lake: Lake):
    feed = _filled(lake)
    lake.arrive(feed, [trade(4, HOUR + timedelta(seconds=4), price=1_000_000_000_000)])
    lake.run(feed, "silver")
    done = _redrive(lake, feed)
    assert (done.valid, done.came_back) == (2, {"ID_CONFLICT": 1, "UNDECODABLE": 1})
    assert numbers(lake.silver()) == [*range(1, 10)]


def test_what_bronze_does_not_have_any_more_is_counted_and_stays(lake: Lake):
    feed = _filled(lake)
    lake.sql("DELETE FROM {} WHERE offset < 5", TRADES.bronze("binance"))
    done = _redrive(lake, feed)
    assert (done.valid, done.came_back, done.not_in_bronze) == (1, {"UNDECODABLE": 1}, 2)
    assert _state(lake) == ([1, 2, 3, 6, 7, 8, 9], 3)


def test_a_deleted_dead_letter_that_is_nowhere_stays_a_finding(lake: Lake):
    feed = _filled(lake)
    _redrive(lake, feed)
    lake.run(feed, "gold")
    lake.sql("DELETE FROM {}", tables.DEAD_LETTERS_TABLE)
    checks = {finding.check for finding in _audit(lake).findings}
    assert "dead_letters_changed" in checks


def test_a_record_that_somebody_put_in_the_place_of_a_dead_letter_is_a_finding(lake: Lake):
    _filled(lake)
    columns = [column.name for column in SILVER.columns]
    changes = {"offset": "CAST(3 AS BIGINT)", "trade_id": "'4'", "price": "CAST(1 AS DECIMAL(38,12))"}
    selected = ", ".join(f"{changes.get(name, f'`{name}`')} AS `{name}`" for name in columns)
    lake.sql(f"INSERT INTO {{0}} SELECT {selected} FROM {{0}} WHERE offset = 2", SILVER)
    lake.sql("DELETE FROM {} WHERE offset = 3", tables.DEAD_LETTERS_TABLE)
    findings = [finding.text for finding in _audit(lake).findings if finding.check == "dead_letters_changed"]
    assert len(findings) == 1
    assert "market.crypto.trades.binance/0 offset 3" in findings[0]


def test_two_redrives_of_a_feed_exclude_each_other(lake: Lake):
    feed = lake.feed()
    with (
        only_one(lake.platform, feed),
        pytest.raises(RedriveRuns, match="binance are being judged again"),
        only_one(lake.platform, feed),
    ):
        pass


def test_other_categories_and_feeds_stay_as_they_are(lake: Lake):
    feed, other = _filled(lake), lake.feed("kraken")
    lake.arrive(other, [Record(wire.header(UNREGISTERED) + b"?", "BTCUSD", HOUR)])
    lake.run(other, "silver")
    lake.arrive(feed, [Record(b"bad", "BTCUSDT", HOUR), *consecutive(20, 21)])
    lake.run(feed, "silver")
    _redrive(lake, feed)
    left = {(row["exchange"], row["error_category"]) for row in lake.dead.collect()}
    assert left == {("BINANCE", "UNKNOWN_SCHEMA"), ("BINANCE", "MALFORMED_HEADER"), ("KRAKEN", "UNKNOWN_SCHEMA")}
