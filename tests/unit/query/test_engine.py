from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from k2.query.engine import Engine
from k2.query.errors import BadQuery
from k2.query.iceberg import data_files
from k2.query.sql.record_sql import RecordFilter
from k2.schemas.tables import GOLD
from tests.unit.query.conftest import NOON, Append, trade

HOUR = timedelta(hours=1)


def ids(engine: Engine, **query) -> list[str]:
    return engine.trades(**query).column("trade_id").to_pylist()


def test_trades_come_in_order_of_time_then_number(engine: Engine, append: Append) -> None:
    append([trade(10, 1), trade(9, 1), trade("x", 1), trade(11)])
    assert ids(engine) == ["11", "9", "10", "x"]


def test_a_range_includes_its_start_and_excludes_its_end(engine: Engine, append: Append) -> None:
    append([trade(1, -1), trade(2, 0), trade(3, 59), trade(4, 60)])
    assert ids(engine, start=NOON, end=NOON + timedelta(minutes=1)) == ["2", "3"]


def test_a_window_is_a_start_before_the_end(engine: Engine, append: Append) -> None:
    append([trade(1, -61), trade(2, -60), trade(3, 0)])
    assert ids(engine, end=NOON, window=timedelta(minutes=1)) == ["2"]


def test_a_limit_returns_the_first_from_a_start_and_otherwise_the_newest(engine: Engine, append: Append) -> None:
    append([trade(n, n) for n in range(5)])
    assert ids(engine, start=NOON, limit=2) == ["0", "1"]
    assert ids(engine, limit=2) == ["3", "4"]


def test_only_the_files_of_the_hour_and_symbol_are_planned(engine: Engine, append: Append) -> None:
    for hour in range(3):
        append([trade(hour, HOUR * hour)])
        append([trade(hour, HOUR * hour, symbol="ETHUSDT")])
    trade_filter = RecordFilter.of("BTCUSDT", None, NOON, NOON + HOUR)
    assert len(engine._planner.plan(GOLD, trade_filter.expression("timestamp")).files) == 1
    assert len(engine._planner.plan(GOLD).files) == 6
    assert ids(engine, symbol="btcusdt", start=NOON, end=NOON + HOUR) == ["0"]


def test_a_range_over_midnight_includes_both_days(engine: Engine, append: Append) -> None:
    append([trade(1, HOUR * 11), trade(2, HOUR * 13), trade(3, HOUR * 14)])
    assert ids(engine, start=NOON + HOUR * 11, end=NOON + HOUR * 14) == ["1", "2"]


def test_the_largest_and_smallest_decimals_stay_exact(engine: Engine, append: Append) -> None:
    most, least = Decimal("9999999999.99999999"), Decimal("0.00000001")
    append([trade(1, price=most, quantity=least), trade(2, 1, price=least, quantity=most)])
    table = engine.trades()
    assert table.column("price").to_pylist() == [most, least]
    assert table.column("quantity").to_pylist() == [least, most]
    (bar,) = engine.ohlcv(symbol="BTCUSDT").to_pylist()
    assert (bar["open"], bar["high"], bar["low"], bar["close"]) == (most, most, least, least)
    assert bar["volume"] == Decimal("10000000000.00000000")


def test_a_bar_opens_and_closes_by_time_and_then_by_number(engine: Engine, append: Append) -> None:
    prices = {"9": 1, "10": 7, "11": 5, "12": 3}
    at = {"9": 0, "10": 0, "11": 30, "12": 30}
    append([trade(n, at[n], price=Decimal(p), quantity=Decimal(2)) for n, p in reversed(prices.items())])
    append([trade(13, 60, price=Decimal(2))])
    first, second = engine.ohlcv(symbol="BTCUSDT", interval="1m").to_pylist()
    assert [first[name] for name in ("open", "high", "low", "close")] == [1, 7, 1, 3]
    assert (first["volume"], first["trades"], first["vwap"]) == (8, 4, 4)
    assert (first["start"], second["start"]) == (NOON, NOON + timedelta(minutes=1))


def test_vwap_is_rounded_half_up_to_eight_places(engine: Engine, append: Append) -> None:
    append([trade(1, price=Decimal(1), quantity=Decimal(1)), trade(2, price=Decimal(2), quantity=Decimal(2))])
    assert engine.ohlcv(symbol="BTCUSDT").column("vwap").to_pylist() == [Decimal("1.66666667")]


def test_a_day_bar_begins_at_midnight_utc_and_exchanges_stay_apart(engine: Engine, append: Append) -> None:
    append([trade(1), trade(2, exchange="BYBIT")])
    bars = engine.ohlcv(symbol="BTCUSDT", interval="1d").to_pylist()
    assert [(bar["exchange"], bar["start"]) for bar in bars] == [
        (name, datetime(2026, 1, 31, tzinfo=UTC)) for name in ("BINANCE", "BYBIT")
    ]


def test_the_past_is_read_by_snapshot_and_by_time(engine: Engine, append: Append) -> None:
    first = append([trade(1)])
    committed = engine.snapshots().column("committed_at").to_pylist()[0]
    append([trade(2, 1)])
    assert ids(engine, as_of=first) == ids(engine, as_of=committed) == ["1"]
    assert engine.sql(f"SELECT count(*) AS n FROM {GOLD}", as_of=first).to_pylist() == [{"n": 1}]
    assert ids(engine) == ["1", "2"]
    assert engine.snapshot_id(committed) == first
    with pytest.raises(BadQuery, match="nothing as of"):
        engine.trades(as_of=committed - timedelta(days=1))
    with pytest.raises(BadQuery, match="the snapshot 1;"):
        engine.trades(as_of=1)


def test_the_past_is_read_by_a_tag_as_long_as_it_exists(engine: Engine, append: Append) -> None:
    first = append([trade(1)])
    append([trade(2, 1)])
    gold = engine.catalog.load_table(("market_data", GOLD))
    gold.manage_snapshots().create_tag(first, "day-2026-01-31").commit()
    assert ids(engine, as_of="day-2026-01-31") == ["1"]
    assert engine.snapshot_id("day-2026-01-31") == first
    assert engine.sql(f"SELECT count(*) AS n FROM {GOLD}", as_of="day-2026-01-31").to_pylist() == [{"n": 1}]
    assert engine.snapshots().column("tags").to_pylist() == ["day-2026-01-31", None]
    with pytest.raises(BadQuery, match=r'has no tag "day-2026-02-01"; .* such as 2026-01-31T14:00:00Z'):
        engine.trades(as_of="day-2026-02-01")
    with pytest.raises(BadQuery, match='has no tag "main"'):  # a branch is not a tag: it moves
        engine.trades(as_of="main")


def test_snapshots_list_what_each_commit_added(engine: Engine, append: Append) -> None:
    made = [append([trade(1)]), append([trade(2), trade(3)])]
    table = engine.snapshots()
    assert table.column("snapshot_id").to_pylist() == made
    assert table.column("added_rows").to_pylist() == [1, 2]
    assert table.column("total_rows").to_pylist() == [1, 3]
    assert table.column("current").to_pylist() == [False, True]


def test_an_empty_table_returns_no_rows(engine: Engine) -> None:
    assert engine.trades(symbol="BTCUSDT").num_rows == 0
    assert engine.sql(f"SELECT price FROM {GOLD}").num_rows == 0


def test_an_unknown_symbol_is_an_error_and_an_hour_without_trades_is_not(engine: Engine, append: Append) -> None:
    append([trade(1)])
    assert engine.trades(symbol="BTCUSDT", start=NOON + HOUR).num_rows == 0
    with pytest.raises(BadQuery, match="available symbols: BTCUSDT"):
        engine.trades(symbol="ETHUSDT")


def test_a_dataset_of_the_same_files_has_the_same_rows(engine: Engine, append: Append) -> None:
    append([trade(1), trade(2, HOUR)])
    plan = engine._planner.plan(GOLD)
    assert sorted(data_files.dataset(plan).to_table().column("trade_id").to_pylist()) == ["1", "2"]
    assert data_files.dataset(plan).schema.names == [field.name for field in plan.schema.fields]


def test_a_renamed_and_an_added_column_are_right_in_old_files(engine: Engine, append: Append) -> None:
    append([trade(1)])
    with engine.catalog.load_table(("market_data", GOLD)).update_schema() as update:
        update.rename_column("side", "aggressor")
        from pyiceberg.types import LongType

        update.add_column("sequence", LongType())
    append([trade(2)])
    rows = engine.sql(f"SELECT aggressor, sequence FROM {GOLD} WHERE trade_id = '1'").to_pylist()
    assert rows == [{"aggressor": "BUY", "sequence": None}]


def test_cached_metadata_is_replaced_after_a_commit(engine: Engine, append: Append) -> None:
    first = append([trade(1)])
    assert [engine.trades(start=NOON).num_rows for _ in range(2)] == [1, 1]
    append([trade(2, 1)])
    assert engine.trades(start=NOON).num_rows == 2
    assert engine.trades(start=NOON, as_of=first).num_rows == 1
    assert engine.trades(start=NOON + timedelta(seconds=1)).num_rows == 1
