"""One-minute bars equal those of Gold's trades, with concurrent writers and late trades."""

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
from k2.query.candles.intervals import MINUTE, Interval
from k2.query.engine import Engine
from k2.query.sql import trade_sql
from k2.query.sql.record_sql import RecordFilter
from k2.schemas import tables
from k2.schemas.snapshots import EXCHANGE, GOLD_SNAPSHOT, HOURS
from k2.schemas.values import decimal, from_micros
from tests.spark.builders import HOUR, Lake, consecutive, trade
from tests.spark.maintenance.test_purge import _ether, _other

pytestmark = pytest.mark.spark

BARS = tables.BARS_TABLE
QUERY_COLUMNS = (
    "exchange",
    "symbol",
    "open_time",
    "open",
    "high",
    "low",
    "close",
    "volume",
    "trade_count",
    "vwap",
    "notional",
)
COLUMNS = ", ".join(f"`{column.name}` {column.type}" for column in tables.GOLD_TABLE.columns)


def _stored(lake: Lake, symbol: str = "BTCUSDT") -> list[dict[str, Any]]:
    rows = (
        lake.table(BARS)
        .where(f"symbol = '{symbol}'")
        .selectExpr(*QUERY_COLUMNS, "unix_micros(open_time) AS at")
        .collect()
    )
    bars = [row.asDict() for row in sorted(rows, key=lambda row: (row["at"], row["exchange"]))]
    return [{name: row[name] for name in QUERY_COLUMNS} | {"open_time": from_micros(row["at"])} for row in bars]


def _queried(lake: Lake, symbol: str = "BTCUSDT") -> list[dict[str, Any]]:
    """Return the same bars, computed by the query engine from the trades."""
    with closing(Engine(lake.platform)) as engine:
        trade_filter = RecordFilter.of(symbol, None, None, None)
        return (
            engine._execute(
                trade_filter,
                trade_sql.ohlcv(trade_filter, Interval(MINUTE)),
                trade_filter.parameters,
                None,
                hybrid=False,
            )
            .read_all()
            .to_pylist()
        )


def _gold_snapshots(lake: Lake) -> list[str]:
    return [snapshot.summary[GOLD_SNAPSHOT] for snapshot in lake.snapshots(BARS) if GOLD_SNAPSHOT in snapshot.summary]


def _file_hours(lake: Lake) -> set[tuple[Any, ...]]:
    """Return the exchange and the first and last hour of each file."""
    bounds = [f"hour(readable_metrics.open_time.{bound}_bound)" for bound in ("lower", "upper")]
    return {
        tuple(row)
        for row in lake.spark.table(f"{BARS.identifier}.files").selectExpr("partition.exchange", *bounds).collect()
    }


def _random_trades(count: int) -> list[dict[str, Any]]:
    """Return trades in few minutes, with equal times, numeric and other ids, the largest and smallest values."""
    rng = random.Random(1)
    values = [1, 3, 7, 10**12, 61_837_630_000_000_001, 10**24 - 1]
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


def test_bars_of_random_trades_equal_those_of_a_query(lake: Lake):
    lake.feed()
    rows = _random_trades(3000)
    local_frame(lake.spark, rows, COLUMNS).writeTo(tables.GOLD_TABLE.identifier).append()
    assert BarMaintainer(lake.spark).run() is True
    for symbol in ("BTCUSDT", "ETHUSDT"):
        bars = _stored(lake, symbol)
        assert len(bars) == 10
        assert bars == _queried(lake, symbol)


def test_a_late_trade_corrects_its_bar_and_rewrites_only_its_hour(lake: Lake):
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
    bars = _stored(lake)
    assert bars == _queried(lake)
    assert (bars[0]["low"], bars[0]["trade_count"]) == (decimal(1), first[0]["trade_count"] + 1)
    assert bars[1:] == first[1:]
    newest = lake.snapshots(BARS)[0]
    assert newest.operation == "overwrite"


def test_maintainers_of_several_feeds_share_the_work(lake: Lake):
    feed, other, kraken = lake.feed(), _other(lake), lake.feed("kraken")
    for round_ in range(2):
        lake.arrive(feed, consecutive(round_ * 100, round_ * 100 + 90))
        lake.arrive(other, _ether(round_ * 100, round_ * 100 + 90))
        lake.arrive(kraken, consecutive(round_ * 100, round_ * 100 + 90, exchange="kraken"))
        for one in (feed, other, kraken):
            lake.run(one, "silver", "gold")
        assert [BarMaintainer(lake.spark).run() for _ in range(3)] == [True, False, False]
        for symbol in ("BTCUSDT", "ETHUSDT", "BTCUSD"):
            assert _stored(lake, symbol) == _queried(lake, symbol)


def test_of_two_concurrent_rebuilds_the_later_uses_the_newer_gold(lake: Lake, monkeypatch: pytest.MonkeyPatch):
    feed = lake.feed()
    lake.arrive(feed, consecutive(1, 10))
    lake.run(feed, "silver", "gold")
    slow, quick = BarMaintainer(lake.spark), BarMaintainer(lake.spark)
    slow.run()
    lake.arrive(feed, consecutive(11, 20))
    lake.run(feed, "silver", "gold")
    commit, attempts = slow._commit, []

    def commit_after_another(*arguments: Any) -> None:
        if not attempts:
            lake.arrive(feed, consecutive(21, 30))
            lake.run(feed, "silver", "gold")
            quick.run()
        attempts.append(1)
        commit(*arguments)

    monkeypatch.setattr(slow, "_commit", commit_after_another)
    slow.run()
    assert _stored(lake) == _queried(lake)
    assert _stored(lake)[0]["trade_count"] == 30
    assert _gold_snapshots(lake)[0] == str(lake.snapshots(tables.GOLD_TABLE)[0].id)


def test_bars_of_gold_commits_before_a_restart_are_built_later(lake: Lake):
    feed = lake.feed()
    lake.arrive(feed, consecutive(1, 10))
    lake.run(feed, "silver", "gold")
    BarMaintainer(lake.spark).run()
    for first in (4000, 8000):  # two commits without a rebuild, in two more hours
        lake.arrive(feed, consecutive(first, first + 10))
        lake.run(feed, "silver", "gold")
    assert BarMaintainer(lake.spark).run() is True
    assert _stored(lake) == _queried(lake)
    before = lake.snapshots(BARS)[0].id
    assert BarMaintainer(lake.spark).run() is False
    assert lake.snapshots(BARS)[0].id == before


def test_a_repeated_rebuild_gives_the_same_bars(lake: Lake):
    feed = lake.feed()
    lake.arrive(feed, consecutive(1, 100))
    lake.run(feed, "silver", "gold")
    maintainer = BarMaintainer(lake.spark)
    maintainer.run()
    first = _stored(lake)
    lake.sql(f"DELETE FROM {{}} WHERE open_time < TIMESTAMP '{HOUR + timedelta(minutes=1):%Y-%m-%d %H:%M:%S}'", BARS)
    assert len(_stored(lake)) < len(first)
    gold = lake.snapshots(tables.GOLD_TABLE)[0]
    maintainer._commit([RebuildUnit("BINANCE", HOUR.date(), HOUR.hour)], gold, lake.snapshots(BARS)[0])
    assert _stored(lake) == first
    maintainer._commit([RebuildUnit("BINANCE", HOUR.date())], gold, lake.snapshots(BARS)[0])
    assert _stored(lake) == first


def test_hours_that_compaction_merged_are_rebuilt_with_their_day(lake: Lake):
    feed, maintainer = lake.feed(), BarMaintainer(lake.spark)
    for hour in range(6):
        lake.arrive(feed, [trade(hour + 1, HOUR + timedelta(hours=hour))])
        lake.run(feed, "silver", "gold")
        maintainer.run()
    assert len(_file_hours(lake)) == 6
    report = Maintenance(lake.spark, lake.platform, [feed]).run(now=HOUR + timedelta(days=2), orphans=False)
    assert report["errors"] == []
    assert _file_hours(lake) == {("BINANCE", HOUR.hour, HOUR.hour + 5)}
    lake.arrive(feed, [trade(100, HOUR + timedelta(hours=2, minutes=2))])
    lake.run(feed, "silver", "gold")
    assert maintainer.run()
    assert _stored(lake) == _queried(lake)
    assert len(_stored(lake)) == 7


def test_compaction_of_gold_rebuilds_no_bars(lake: Lake):
    feed, maintainer = lake.feed(), BarMaintainer(lake.spark)
    for number in range(6):
        lake.arrive(feed, [trade(number + 1)])
        lake.run(feed, "silver", "gold")
    maintainer.run()
    Maintenance(lake.spark, lake.platform, [feed]).run(now=HOUR + timedelta(days=2), orphans=False)
    assert lake.snapshots(tables.GOLD_TABLE)[0].operation == "replace"
    assert maintainer.run() is False


def test_the_summary_of_a_gold_commit_has_the_hours_of_its_trades(lake: Lake):
    feed = lake.feed()
    lake.arrive(feed, [trade(1), trade(2, HOUR + timedelta(hours=1)), trade(3, HOUR + timedelta(hours=5))])
    lake.run(feed, "silver", "gold")
    summary = lake.snapshots(tables.GOLD_TABLE)[0].summary
    hour = int(HOUR.timestamp()) // 3600
    assert (summary[EXCHANGE], summary[HOURS]) == ("BINANCE", f"[[{hour},{hour + 1}],[{hour + 5},{hour + 5}]]")


def test_manually_deleted_rows_are_removed_from_the_bars(lake: Lake):
    feed, maintainer = lake.feed(), BarMaintainer(lake.spark)
    lake.arrive(feed, [*consecutive(1, 100), trade(5000)])
    lake.run(feed, "silver", "gold")
    maintainer.run()
    lake.sql("DELETE FROM {} WHERE trade_id = '5000'", tables.GOLD_TABLE)
    assert maintainer.run()
    assert _stored(lake) == _queried(lake)
    assert len(_stored(lake)) == 2


def test_a_purge_deletes_only_the_feeds_bars(lake: Lake, monkeypatch: pytest.MonkeyPatch):
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
    symbols = {row[0] for row in lake.table(BARS).select("symbol").collect()}
    assert symbols == {"BTCUSDT", "BTCUSD"}
    units, rebuilt = maintainer._units, list[RebuildUnit]()
    monkeypatch.setattr(maintainer, "_units", lambda touched: rebuilt.extend(units(touched)) or rebuilt)
    maintainer.run()
    assert rebuilt == [RebuildUnit("BINANCE")]
    assert _stored(lake) == _queried(lake)


def test_a_drained_app_leaves_the_bars_equal_to_gold(lake: Lake):
    feed = lake.feed()
    lake.arrive(feed, consecutive(1, 10))
    lake.run(feed, "silver", "gold")
    App(lake.spark, lake.platform, [feed], ("gold",), restart=False)._finish_bars()
    assert len(_stored(lake)) == 1
    assert _stored(lake) == _queried(lake)
