"""Bars from the stored table equal those computed from Gold, for any commits and any query."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from k2.cli.embedded.layout import Layout
from k2.query import arrow_schema
from k2.query.candles.intervals import Interval, parse_interval
from k2.query.engine import Engine
from k2.query.errors import BadQuery
from k2.query.iceberg import catalog, tables
from k2.query.sql import bars, symbols, trade_sql
from k2.query.sql.record_sql import RecordFilter
from k2.schemas.bars import encode_hours
from k2.schemas.channels import TRADES
from k2.schemas.snapshots import DELETED, EXCHANGE, GOLD_SNAPSHOT, HOURS
from k2.schemas.tables import BARS_TABLE, GOLD, GOLD_TABLE
from tests.unit.query.conftest import NOON, trade

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
_MINUTES = (
    f"SELECT exchange, symbol, {Interval(MINUTE).bucket('timestamp')} AS open_time, {trade_sql.FIRST} AS open, "
    f"max(price) AS high, min(price) AS low, {trade_sql.LAST} AS close, sum(quantity) AS volume, "
    "count(*) AS trade_count, NULL AS vwap, sum(price * quantity) AS notional, min(timestamp) AS first_trade_time, "
    "'' AS first_id, max(timestamp) AS last_trade_time, '' AS last_id, min(exchange_date) AS exchange_date "
    "FROM gold_crypto_trades GROUP BY ALL"
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tables:
    """Gold and the bars, filled as the jobs fill them."""

    gold: Any
    bars: Any
    engine: Engine

    def trades(
        self, rows: Sequence[dict[str, Any]], exchange: str | None = "BINANCE", *, with_hours: bool = True
    ) -> int:
        """Commit trades of one exchange; return the snapshot."""
        hours = encode_hours(int(row["timestamp"].timestamp()) // 3600 for row in rows)
        summary = {EXCHANGE: exchange} if exchange else {}
        self.gold.append(_arrow(rows, self.gold), snapshot_properties=summary | ({HOURS: hours} if with_hours else {}))
        return self._newest(self.gold)

    def rebuild(self) -> int:
        """Compute the bars of everything in Gold; return Gold's snapshot."""
        made_of = self._newest(self.gold)
        rows = self.engine.sql(_MINUTES)
        rows = rows.cast(self.bars.schema().as_arrow().with_metadata(None)) if rows.num_rows else rows
        self.bars.overwrite(rows, snapshot_properties={GOLD_SNAPSHOT: str(made_of)})
        return made_of

    def spoil(self) -> None:
        """Change every price in the bars, so that a result shows its source."""
        rows = self.bars.scan().to_arrow()
        wrong = pa.array([Decimal("7.00000000")] * rows.num_rows, rows.schema.field("open").type)
        rows = rows.set_column(rows.schema.get_field_index("open"), "open", wrong)
        made_of = self.bars.current_snapshot().summary[GOLD_SNAPSHOT]
        self.bars.overwrite(rows, snapshot_properties={GOLD_SNAPSHOT: made_of})

    def from_gold(self, interval: str, **query: Any) -> list[dict[str, Any]]:
        """Return the bars computed from Gold alone."""
        as_of = query.pop("as_of", None)
        trade_filter = RecordFilter.of("BTCUSDT", query.get("exchange"), query.get("start"), query.get("end"))
        return (
            self.engine._execute(
                trade_filter,
                trade_sql.ohlcv(trade_filter, parse_interval(interval)),
                trade_filter.parameters,
                as_of,
                hybrid=False,
            )
            .read_all()
            .to_pylist()
        )

    def symbols_from_gold(self, as_of: int | None = None) -> list[dict[str, Any]]:
        """Return the symbols computed from Gold alone."""
        return self.engine.execute(symbols.from_trades(GOLD), {GOLD: None}, as_of=as_of).to_pylist()

    def kafka(self, rows: Sequence[dict[str, Any]]) -> None:
        """Make these trades the Kafka tail after Gold."""

        def tail(_gold: Any, _snapshot_id: int, trade_filter: RecordFilter) -> pa.Table:
            return pa.Table.from_pylist(
                [row for row in rows if _is_of(row, trade_filter)], schema=arrow_schema.records(TRADES)
            )

        self.engine._trades.hybrid._tail_rows = tail

    def from_engine(self, interval: str, **query: Any) -> list[dict[str, Any]]:
        """Return the engine's bars."""
        trade_filter = RecordFilter.of("BTCUSDT", query.get("exchange"), query.get("start"), query.get("end"))
        as_of, hybrid = query.get("as_of"), query.get("hybrid", False)
        rows = self.engine.bars_by_time(trade_filter, parse_interval(interval), as_of=as_of, hybrid=hybrid)
        return rows.read_all().to_pylist()

    @staticmethod
    def _newest(table: Any) -> int:
        return table.refresh().current_snapshot().snapshot_id


def _is_of(row: dict[str, Any], trade_filter: RecordFilter) -> bool:
    return (
        trade_filter.symbol in (None, row["symbol"])
        and trade_filter.exchange in (None, row["exchange"])
        and (trade_filter.start is None or row["timestamp"] >= trade_filter.start)
        and (trade_filter.end is None or row["timestamp"] < trade_filter.end)
    )


def _arrow(rows: Sequence[dict[str, Any]], table: Any) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=table.schema().as_arrow())


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Tables]:
    with closing(_opened(tmp_path)) as opened:
        yield opened.tables


class _opened:  # noqa: N801 - a context, used as a function
    def __init__(self, folder: Path) -> None:
        platform = Layout.at(folder).platform()
        self._catalog = catalog.connect(platform, create=True)
        gold, made = tables.ensure(self._catalog, [GOLD_TABLE, BARS_TABLE])
        self.tables = Tables(gold, made, Engine(platform))

    def close(self) -> None:
        self.tables.engine.close()
        self._catalog.close()


_PRICES = st.sampled_from(
    ["0.000000000001", "0.00000003", "1.00000000", "3.333333333333", "61837.630000000001", "9999999999.99999999"]
)
_QUANTITIES = st.sampled_from(["0.000000000001", "0.00000007", "1.00000000", "2.500000000001"])
_IDS = st.one_of(st.integers(1, 50).map(str), st.integers(1, 50).map(lambda number: f"KRAKEN-{number}"))
_TRADES = st.lists(
    st.tuples(st.integers(-7_200, 7_200), _IDS, _PRICES, _QUANTITIES, st.sampled_from(["BTCUSDT", "ETHUSDT"])),
    min_size=1,
    max_size=15,
)
_BOUND = st.one_of(st.none(), st.integers(-8_000, 8_000))


def _rows(drawn: Sequence[tuple[int, str, str, str, str]], exchange: str, batch: int) -> list[dict[str, Any]]:
    return [
        trade(f"{name}{batch}{place}", seconds, price=Decimal(price), quantity=Decimal(quantity), symbol=symbol,
              exchange=exchange)
        for place, (seconds, name, price, quantity, symbol) in enumerate(drawn)
    ]  # fmt: skip


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    batches=st.lists(st.tuples(_TRADES, st.sampled_from(["BINANCE", "BYBIT"])), min_size=1, max_size=4),
    rebuilt=st.integers(0, 3),
    asked=st.integers(0, 4),
    interval=st.sampled_from(["1m", "2m", "5m", "1h", "1d", "90s", "30s"]),
    bounds=st.tuples(_BOUND, _BOUND),
    exchange=st.sampled_from([None, "binance"]),
)
def test_bars_equal_those_computed_from_gold_for_any_commits_range_and_snapshot(
    batches, rebuilt, asked, interval, bounds, exchange
) -> None:
    start, end = (NOON + timedelta(seconds=bound) if bound is not None else None for bound in bounds)
    if start and end and start > end:
        start, end = end, start
    with TemporaryDirectory() as folder, closing(_opened(Path(folder))) as opened:
        lake, snapshots = opened.tables, []
        for number, (drawn, whose) in enumerate(batches):
            snapshots.append(lake.trades(_rows(drawn, whose, number), whose))
            if number == rebuilt:
                lake.rebuild()
        as_of = snapshots[asked] if asked < len(snapshots) else None
        assert lake.engine.symbols(as_of).to_pylist() == lake.symbols_from_gold(as_of)
        query = {"start": start, "end": end, "exchange": exchange, "as_of": as_of}
        try:
            expected = lake.from_gold(interval, **query)
        except BadQuery as error:
            with pytest.raises(BadQuery, match=str(error)[:20]):
                lake.from_engine(interval, **query)
            return
        assert lake.from_engine(interval, **query) == expected


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    batches=st.lists(st.tuples(_TRADES, st.sampled_from(["BINANCE", "BYBIT"])), min_size=1, max_size=3),
    newer=_TRADES,
    again=st.integers(0, 5),
    moved=st.sampled_from([0, 0.9, -0.9]),
    rebuilt=st.integers(0, 3),
    interval=st.sampled_from(["1m", "5m", "1h", "90s"]),
    bounds=st.tuples(_BOUND, _BOUND),
    exchange=st.sampled_from([None, "binance"]),
)
def test_hybrid_bars_equal_those_of_gold_after_it_consumed_the_tail(
    batches, newer, again, moved, rebuilt, interval, bounds, exchange
) -> None:
    start, end = (NOON + timedelta(seconds=bound) if bound is not None else None for bound in bounds)
    if start and end and start > end:
        start, end = end, start
    with TemporaryDirectory() as folder, closing(_opened(Path(folder))) as opened:
        lake, gold_rows = opened.tables, []
        for number, (drawn, whose) in enumerate(batches):
            rows = _rows(drawn, whose, number)
            gold_rows += rows
            lake.trades(rows, whose)
            if number == rebuilt:
                lake.rebuild()
        rows = _rows(newer, "BINANCE", 9)
        repeated = [row | {"timestamp": row["timestamp"] + timedelta(seconds=moved)} for row in gold_rows[:again]]
        lake.kafka([*rows, *repeated])
        query = {"start": start, "end": end, "exchange": exchange}
        hybrid_bars = _rows_or_error(lake.from_engine, interval, hybrid=True, **query)
        lake.trades(rows)
        assert hybrid_bars == _rows_or_error(lake.from_gold, interval, **query)


def _rows_or_error(
    execute: Callable[..., list[dict[str, Any]]], *args: Any, **query: Any
) -> list[dict[str, Any]] | str:
    try:
        return execute(*args, **query)
    except BadQuery as error:
        return str(error)


def test_a_hybrid_query_uses_stored_bars_where_the_tail_has_no_trades(lake: Tables) -> None:
    lake.trades([trade(1, -2 * HOUR), trade(2, -0.5), trade(3)])
    lake.rebuild()
    lake.spoil()
    lake.kafka([trade(4, 1), trade(3, -0.5)])
    rows = lake.from_engine("1m", hybrid=True)
    assert _opens(rows) == ["7", "1E+2", "1E+2"]
    assert [row["trade_count"] for row in rows] == [1, 1, 2]
    lake.kafka([trade(2, 0.2)])  # Gold has it in the previous hour
    assert [row["trade_count"] for row in lake.from_engine("1m", hybrid=True)] == [1, 1, 1]
    lake.kafka([])
    assert _opens(lake.from_engine("1m", hybrid=True)) == ["7", "7", "7"]
    with pytest.raises(BadQuery, match="leave out as-of or hybrid"):
        lake.from_engine("1m", hybrid=True, as_of=NOON)


def test_the_tail_invalidates_minutes_and_hours_where_those_are_too_many(lake: Tables) -> None:
    lake.trades([trade(number, 60 * number) for number in range(60)] + [trade(90, -HOUR)])
    lake.rebuild()
    lake.spoil()
    lake.kafka([trade(100, 60 * 30 + 1), trade(101, 60 * 31 + 1)])
    rows = _opens(lake.from_engine("1m", hybrid=True))
    assert (rows.count("7"), [at - 1 for at, price in enumerate(rows) if price == "1E+2"]) == (59, [30, 31])
    lake.kafka([trade(100 + number, 60 * number + 1) for number in range(0, 60, 2)])
    assert _opens(lake.from_engine("1m", hybrid=True)) == ["7"] + ["1E+2"] * 60


def _opens(rows: list[dict[str, Any]]) -> list[str]:
    return [str(row["open"].normalize()) for row in rows]


def test_unchanged_hours_come_from_stored_bars_and_changed_ones_from_gold(lake: Tables) -> None:
    lake.trades([trade(1, -HOUR), trade(2)])
    lake.rebuild()
    lake.spoil()
    assert _opens(lake.from_engine("1m")) == ["7", "7"]
    lake.trades([trade(3, 60)])
    assert _opens(lake.from_engine("1m")) == ["7", "1E+2", "1E+2"]
    assert _opens(lake.from_engine("30s")) == ["1E+2"] * 3


def test_symbols_are_counted_from_bars_and_assets_read_from_the_last_hour(lake: Tables) -> None:
    assert lake.engine.symbols().num_rows == 0
    lake.trades([trade(1, -30 * HOUR), trade(2), trade(3, 1), trade(4, -HOUR, symbol="ETHUSDT", base_asset="ETH")])
    lake.rebuild()
    Path(
        lake.gold.scan(row_filter=f"timestamp < '{(NOON - 2 * HOUR).isoformat()}'")
        .plan_files()[0]
        .file.file_path.removeprefix("file://")
    ).unlink()
    lake.trades([trade(5, HOUR, symbol="XRPUSDT", base_asset="XRP"), trade(6, HOUR)])
    rows = {row["symbol"]: row for row in lake.engine.symbols().to_pylist()}
    assert {name: (row["base_asset"], row["trades"]) for name, row in rows.items()} == {
        "BTCUSDT": ("BTC", 4), "ETHUSDT": ("ETH", 1), "XRPUSDT": ("XRP", 1)
    }  # fmt: skip
    assert (rows["BTCUSDT"]["first_trade"], rows["BTCUSDT"]["last_trade"]) == (NOON - 30 * HOUR, NOON + HOUR)


def test_partial_minutes_at_both_ends_of_a_range_come_from_gold(lake: Tables) -> None:
    lake.trades([trade(n, n * 30) for n in range(6)])
    lake.rebuild()
    lake.spoil()
    rows = lake.from_engine("1m", start=NOON + timedelta(seconds=30), end=NOON + timedelta(seconds=150))
    assert _opens(rows) == ["1E+2", "7", "1E+2"]
    assert [row["trade_count"] for row in rows] == [1, 2, 1]


def test_an_older_snapshot_uses_newer_bars_for_hours_that_did_not_change(lake: Tables) -> None:
    old = lake.trades([trade(1, -HOUR), trade(2)])
    lake.trades([trade(3, 1)])
    lake.rebuild()
    lake.spoil()
    rows = lake.from_engine("1m", as_of=old)
    assert _opens(rows) == ["7", "1E+2"]
    assert [row["trade_count"] for row in rows] == [1, 1]


def test_after_a_commit_without_hours_its_exchange_is_read_from_gold(lake: Tables) -> None:
    lake.trades([trade(1)])
    lake.trades([trade(1, exchange="BYBIT")], "BYBIT")
    lake.rebuild()
    lake.spoil()
    lake.trades([trade(2, 1, exchange="BYBIT")], "BYBIT", with_hours=False)
    assert _opens(lake.from_engine("1m", exchange="binance")) == ["7"]
    assert _opens(lake.from_engine("1m", exchange="bybit")) == ["1E+2"]
    assert _opens(lake.from_engine("1m")) == ["1E+2", "1E+2"]
    lake.trades([trade(3, 2)], None)
    assert _opens(lake.from_engine("1m", exchange="binance")) == ["1E+2"]


def test_after_deleting_rows_only_their_exchange_is_read_from_gold_if_it_is_recorded(
    lake: Tables,
) -> None:
    lake.trades([trade(1), trade(2, 1)])
    lake.trades([trade(1, exchange="BYBIT")], "BYBIT")
    lake.rebuild()
    lake.spoil()
    lake.gold.delete("trade_id == '2'")
    assert _opens(lake.from_engine("1m")) == ["1E+2", "1E+2"]
    with lake.gold.transaction() as changes:
        changes.set_properties({f"{DELETED}{lake.gold.current_snapshot().snapshot_id}": "BINANCE"})
    assert _opens(lake.from_engine("1m", exchange="bybit")) == ["7"]
    assert _opens(lake.from_engine("1m", exchange="binance")) == ["1E+2"]


def test_bars_without_a_gold_snapshot_are_not_used(lake: Tables) -> None:
    lake.trades([trade(1)])
    lake.rebuild()
    lake.spoil()
    lake.bars.refresh().append(lake.bars.scan().to_arrow())  # without a Gold snapshot in its summary
    assert _opens(lake.from_engine("1m")) == ["7"]  # the bars of the commit before it
    assert [row["trade_count"] for row in lake.from_engine("1m")] == [1]


def test_a_bar_with_a_minute_whose_notional_is_null_has_no_vwap(lake: Tables) -> None:
    lake.trades([trade(1), trade(2, MINUTE)])
    lake.rebuild()
    rows = lake.bars.scan().to_arrow().sort_by("open_time")
    place = rows.schema.get_field_index("notional")
    second = rows.column("notional").to_pylist()[1]
    lake.bars.overwrite(
        rows.set_column(place, "notional", pa.array([None, second], rows.schema.field("notional").type)),
        snapshot_properties={GOLD_SNAPSHOT: lake.bars.current_snapshot().summary[GOLD_SNAPSHOT]},
    )
    assert [bar["vwap"] for bar in lake.from_engine("1m")] == [None, 100]
    (hour,) = lake.from_engine("1h")
    assert (hour["vwap"], hour["volume"], hour["trade_count"]) == (None, 2, 2)


def test_an_unknown_symbol_is_an_error_and_a_range_without_trades_is_not(lake: Tables) -> None:
    lake.trades([trade(1)])
    lake.rebuild()
    with pytest.raises(BadQuery, match='no trade of "DOGE" is stored; available symbols: BTCUSDT'):
        lake.engine.ohlcv(symbol="DOGE")
    assert lake.from_engine("1m", start=NOON + HOUR) == []


def test_a_day_of_bars_reads_one_file_and_no_trades(lake: Tables) -> None:
    lake.trades([trade(n, timedelta(minutes=n)) for n in range(300)])
    lake.rebuild()
    trade_filter = RecordFilter.of("BTCUSDT", None, NOON - HOUR * 12, NOON + HOUR * 12)
    bar_plan = bars.plan_bars(lake.engine._planner, trade_filter, None)
    assert bar_plan is not None
    assert (len(bar_plan.bars.files), len(bar_plan.gold.files)) == (1, 0)
