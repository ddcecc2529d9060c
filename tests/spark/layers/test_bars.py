"""Bars of a minute equal what Gold gives, whoever writes Gold and however late its trades come."""

import random
from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest

from k2.jobs.app import App
from k2.jobs.layers.bars import RebuildUnit
from k2.jobs.maintenance.bar_maintenance import BarMaintainer
from k2.jobs.maintenance.runner import Maintenance
from k2.jobs.purge import Purge
from k2.jobs.spark.local_frames import local_frame
from k2.query.engine import Engine
from k2.query.sql import trade_sql
from k2.query.sql.trade_sql import TradeFilter
from k2.schemas import tables
from k2.schemas.snapshots import EXCHANGE, GOLD_SNAPSHOT, HOURS
from k2.schemas.values import decimal, from_micros
from tests.spark.builders import HOUR, Lake, consecutive, trade
from tests.spark.maintenance.test_purge import _ether, _other

pytestmark = pytest.mark.spark

BARS = tables.BARS_TABLE
TOLD = ("exchange", "symbol", "start", "open", "high", "low", "close", "volume", "trades", "vwap")
COLUMNS = ", ".join(f"`{column.name}` {column.type}" for column in tables.GOLD_TABLE.columns)


def _stored(lake: Lake, symbol: str = "BTCUSDT") -> list[dict[str, Any]]:
    rows = lake.table(BARS).where(f"symbol = '{symbol}'").selectExpr(*TOLD, "unix_micros(start) AS at").collect()
    found = [row.asDict() for row in sorted(rows, key=lambda row: (row["at"], row["exchange"]))]
    return [{name: row[name] for name in TOLD} | {"start": from_micros(row["at"])} for row in found]


def _asked(lake: Lake, symbol: str = "BTCUSDT") -> list[dict[str, Any]]:
    """The same, computed by the query engine from the trades."""
    with closing(Engine(lake.platform)) as engine:
        wanted = TradeFilter.of(symbol, None, None, None)
        return (
            engine._execute(
                wanted, trade_sql.ohlcv(wanted, timedelta(minutes=1)), wanted.parameters, None, hybrid=False
            )
            .read_all()
            .to_pylist()
        )


def _summaries(lake: Lake) -> list[str]:
    return [found.summary[GOLD_SNAPSHOT] for found in lake.snapshots(BARS) if GOLD_SNAPSHOT in found.summary]


def _spans(lake: Lake) -> set[tuple[Any, ...]]:
    """Each file's day and hours."""
    bounds = [f"hour(readable_metrics.start.{bound}_bound)" for bound in ("lower", "upper")]
    return {
        tuple(row)
        for row in lake.spark.table(f"{BARS.identifier}.files").selectExpr("partition.exchange", *bounds).collect()
    }


def _random_trades(count: int) -> list[dict[str, Any]]:
    """Trades that crowd: few minutes, equal times, ids with and without a number, the largest and smallest values."""
    rng = random.Random(1)
    values = [1, 3, 7, 10**8, 6_183_763_000_001, 10**18 - 1]
    rows = []
    for number in range(count):
        at = HOUR + timedelta(minutes=rng.choice([0, 1, 59, 60, 61]), seconds=rng.randint(0, 3))
        name = rng.choice([str(number), f"KRAKEN-{number:x}", str(2**64 + number), f"{number:05d}"])
        price, quantity = rng.choice(values), rng.choice(values[:4])
        rows.append(
            {
                "message_id": str(number), "trade_id": name, "symbol": rng.choice(["BTCUSDT", "ETHUSDT"]),
                "exchange": rng.choice(["BINANCE", "KRAKEN"]), "timestamp": at, "price": str(decimal(price)),
                "quantity": str(decimal(quantity)), "exchange_date": at.date().isoformat(), "exchange_hour": at.hour,
            }
        )  # fmt: skip
    return rows


def test_bars_of_any_trades_are_exactly_those_of_a_query(lake: Lake):
    lake.feed()
    rows = _random_trades(3000)
    local_frame(lake.spark, rows, COLUMNS).writeTo(tables.GOLD_TABLE.identifier).append()
    assert BarMaintainer(lake.spark).run() is True
    for symbol in ("BTCUSDT", "ETHUSDT"):
        found = _stored(lake, symbol)
        assert len(found) == 10
        assert found == _asked(lake, symbol)


def test_a_late_trade_corrects_its_bar_and_only_its_hour_is_written(lake: Lake):
    feed = lake.feed()
    lake.arrive(feed, [*consecutive(1, 90), trade(100, HOUR + timedelta(hours=1))])
    lake.run(feed, "silver", "gold")
    maintainer = BarMaintainer(lake.spark)
    assert maintainer.run()
    lake.arrive(feed, [trade(101, HOUR + timedelta(hours=1, minutes=1))])
    lake.run(feed, "silver", "gold")
    assert maintainer.run()  # from here on each hour has a file of its own
    first = _stored(lake)
    late = trade(
        0, HOUR - timedelta(seconds=-1, microseconds=1), price=1, ingestion_timestamp=trade(9).ingestion_timestamp
    )
    lake.arrive(feed, [late])
    lake.run(feed, "silver", "gold")
    assert maintainer.run()
    found = _stored(lake)
    assert found == _asked(lake)
    assert (found[0]["low"], found[0]["trades"]) == (decimal(1), first[0]["trades"] + 1)
    assert found[1:] == first[1:]
    newest = lake.snapshots(BARS)[0]
    assert newest.operation == "overwrite"


def test_two_feeds_write_one_table_and_each_finds_what_the_other_left(lake: Lake):
    feed, other, kraken = lake.feed(), _other(lake), lake.feed("kraken")
    for round_ in range(2):
        lake.arrive(feed, consecutive(round_ * 100, round_ * 100 + 90))
        lake.arrive(other, _ether(round_ * 100, round_ * 100 + 90))
        lake.arrive(kraken, consecutive(round_ * 100, round_ * 100 + 90, exchange="kraken"))
        for one in (feed, other, kraken):
            lake.run(one, "silver", "gold")
        assert [BarMaintainer(lake.spark).run() for _ in range(3)] == [True, False, False]
        for symbol in ("BTCUSDT", "ETHUSDT", "BTCUSD"):
            assert _stored(lake, symbol) == _asked(lake, symbol)


def test_of_two_that_rebuild_the_same_hour_at_once_the_later_takes_the_newer_gold(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
):
    feed = lake.feed()
    lake.arrive(feed, consecutive(1, 10))
    lake.run(feed, "silver", "gold")
    slow, quick = BarMaintainer(lake.spark), BarMaintainer(lake.spark)
    slow.run()
    lake.arrive(feed, consecutive(11, 20))
    lake.run(feed, "silver", "gold")
    commit, attempts = slow._commit, []

    def meanwhile(*arguments: Any) -> None:
        if not attempts:
            lake.arrive(feed, consecutive(21, 30))
            lake.run(feed, "silver", "gold")
            quick.run()
        attempts.append(1)
        commit(*arguments)

    monkeypatch.setattr(slow, "_commit", meanwhile)
    slow.run()
    assert _stored(lake) == _asked(lake)
    assert _stored(lake)[0]["trades"] == 30
    assert _summaries(lake)[0] == str(lake.snapshots(tables.GOLD_TABLE)[0].id)


def test_what_a_process_left_between_golds_commit_and_the_bars_is_done_by_the_next(lake: Lake):
    feed = lake.feed()
    lake.arrive(feed, consecutive(1, 10))
    lake.run(feed, "silver", "gold")
    BarMaintainer(lake.spark).run()
    for first in (4000, 8000):  # two commits of which the bars were never told, in two more hours
        lake.arrive(feed, consecutive(first, first + 10))
        lake.run(feed, "silver", "gold")
    assert BarMaintainer(lake.spark).run() is True
    assert _stored(lake) == _asked(lake)
    before = lake.snapshots(BARS)[0].id
    assert BarMaintainer(lake.spark).run() is False
    assert lake.snapshots(BARS)[0].id == before


def test_a_rebuild_that_is_done_again_gives_the_same_bars(lake: Lake):
    feed = lake.feed()
    lake.arrive(feed, consecutive(1, 100))
    lake.run(feed, "silver", "gold")
    maintainer = BarMaintainer(lake.spark)
    maintainer.run()
    first = _stored(lake)
    lake.sql(f"DELETE FROM {{}} WHERE start < TIMESTAMP '{HOUR + timedelta(minutes=1):%Y-%m-%d %H:%M:%S}'", BARS)
    assert len(_stored(lake)) < len(first)
    gold = lake.snapshots(tables.GOLD_TABLE)[0]
    maintainer._commit([RebuildUnit("BINANCE", HOUR.date(), HOUR.hour)], gold, lake.snapshots(BARS)[0])
    assert _stored(lake) == first
    maintainer._commit([RebuildUnit("BINANCE", HOUR.date())], gold, lake.snapshots(BARS)[0])
    assert _stored(lake) == first


def test_hours_that_compaction_put_into_one_file_are_rebuilt_with_their_day(lake: Lake):
    feed, maintainer = lake.feed(), BarMaintainer(lake.spark)
    for hour in range(6):
        lake.arrive(feed, [trade(hour + 1, HOUR + timedelta(hours=hour))])
        lake.run(feed, "silver", "gold")
        maintainer.run()
    assert len(_spans(lake)) == 6
    report = Maintenance(lake.spark, lake.platform, [feed]).run(now=HOUR + timedelta(days=2), orphans=False)
    assert report["errors"] == []
    assert _spans(lake) == {("BINANCE", HOUR.hour, HOUR.hour + 5)}
    lake.arrive(feed, [trade(100, HOUR + timedelta(hours=2, minutes=2))])
    lake.run(feed, "silver", "gold")
    assert maintainer.run()
    assert _stored(lake) == _asked(lake)
    assert len(_stored(lake)) == 7


def test_golds_compaction_gives_the_bars_nothing_to_do(lake: Lake):
    feed, maintainer = lake.feed(), BarMaintainer(lake.spark)
    for number in range(6):
        lake.arrive(feed, [trade(number + 1)])
        lake.run(feed, "silver", "gold")
    maintainer.run()
    Maintenance(lake.spark, lake.platform, [feed]).run(now=HOUR + timedelta(days=2), orphans=False)
    assert lake.snapshots(tables.GOLD_TABLE)[0].operation == "replace"
    assert maintainer.run() is False


def test_a_commit_of_gold_says_which_hours_it_touches(lake: Lake):
    feed = lake.feed()
    lake.arrive(feed, [trade(1), trade(2, HOUR + timedelta(hours=1)), trade(3, HOUR + timedelta(hours=5))])
    lake.run(feed, "silver", "gold")
    summary = lake.snapshots(tables.GOLD_TABLE)[0].summary
    hour = int(HOUR.timestamp()) // 3600
    assert (summary[EXCHANGE], summary[HOURS]) == ("BINANCE", f"[[{hour},{hour + 1}],[{hour + 5},{hour + 5}]]")


def test_rows_deleted_by_hand_leave_the_bars_too(lake: Lake):
    feed, maintainer = lake.feed(), BarMaintainer(lake.spark)
    lake.arrive(feed, [*consecutive(1, 100), trade(5000)])
    lake.run(feed, "silver", "gold")
    maintainer.run()
    lake.sql("DELETE FROM {} WHERE trade_id = '5000'", tables.GOLD_TABLE)
    assert maintainer.run()
    assert _stored(lake) == _asked(lake)
    assert len(_stored(lake)) == 2


def test_a_purge_takes_a_feeds_bars_and_leaves_the_others(lake: Lake, monkeypatch: pytest.MonkeyPatch):
    feed, other, kraken, maintainer = lake.feed(), _other(lake), lake.feed("kraken"), BarMaintainer(lake.spark)
    lake.arrive(feed, consecutive(1, 10))
    lake.arrive(other, _ether(1, 10))
    lake.arrive(kraken, consecutive(1, 10, exchange="kraken"))
    for one in (feed, other, kraken):
        lake.run(one, "silver", "gold")
    maintainer.run()
    done = Purge(lake.spark, lake.platform, other, exchange=False).run()
    assert done[tables.BARS] == 1
    assert _stored(lake, "ETHUSDT") == []
    found = {row[0] for row in lake.table(BARS).select("symbol").collect()}
    assert found == {"BTCUSDT", "BTCUSD"}
    units, wanted = maintainer._units, list[RebuildUnit]()
    monkeypatch.setattr(maintainer, "_units", lambda touched: wanted.extend(units(touched)) or wanted)
    maintainer.run()
    assert wanted == [RebuildUnit("BINANCE")]
    assert _stored(lake) == _asked(lake)


def test_an_app_that_drains_leaves_the_bars_equal_to_gold(lake: Lake):
    feed = lake.feed()
    lake.arrive(feed, consecutive(1, 10))
    lake.run(feed, "silver", "gold")
    App(lake.spark, lake.platform, [feed], ("gold",), restart=False)._finish_bars()
    assert len(_stored(lake)) == 1
    assert _stored(lake) == _asked(lake)
