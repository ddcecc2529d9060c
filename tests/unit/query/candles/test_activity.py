"""Bars by activity equal a reference in plain Python, wherever a query begins and however the trades arrived."""

import random
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.query import arrow_schema
from k2.query.candles import activity_sql
from k2.query.candles.activity import BarCounter, parse_bars
from k2.query.engine import Engine
from k2.query.errors import BadQuery
from k2.schemas.channels import TRADES
from tests.unit.query.candles.reference import reference_bars
from tests.unit.query.conftest import NOON, Append, trade

MIDNIGHT = NOON.replace(hour=0)
COLUMNS = ["exchange", "symbol", "open_time", "close_time", "open", "high", "low", "close", "volume", "trade_count"]
RULES = [
    "tick:7", "tick:1", "volume:2.5", "dollar:250", "imbalance:3", "imbalance:volume:1.5", "imbalance:dollar:99.9",
    "run:4", "run:volume:2", "run:dollar:100.000000000001",
]  # fmt: skip


def parts(rule: str) -> tuple[str, str, Decimal]:
    """Return the arguments of the reference."""
    kind, *rest = rule.split(":")
    measure = rest[0] if len(rest) == 2 else "tick"
    return (kind, measure, Decimal(rest[-1])) if kind in {"imbalance", "run"} else ("sum", kind, Decimal(rest[-1]))


def drawn(seed: int, count: int) -> list[dict[str, Any]]:
    """Return trades of two symbols over three days, many of them at one instant."""
    chance = random.Random(seed)
    return [
        trade(
            number,
            timedelta(hours=-36 + 72 * number // count) + timedelta(minutes=chance.randrange(4)),
            symbol=chance.choice(["BTCUSDT", "BTCUSDT", "ETHUSDT"]),
            price=Decimal(chance.randrange(1, 10**6)) / 10**4,
            quantity=Decimal(chance.randrange(1, 10**6)) / 10**6,
            side=chance.choice(["BUY", "SELL"]),
        )
        for number in range(count)
    ]


def values(rows: Sequence[dict[str, Any]]) -> list[list[Any]]:
    return [[row[name] for name in (*COLUMNS, "notional")] for row in rows]


def test_every_rule_equals_the_reference_whatever_the_order_of_arrival() -> None:
    trades = [row for row in drawn(7, 300) if row["timestamp"].date() == MIDNIGHT.date()]
    names = ["exchange", "symbol", "trade_id", "timestamp", "price", "quantity", "side"]
    random.Random(2).shuffle(trades)
    schema = arrow_schema.records(TRADES)
    rows = pa.Table.from_pylist(trades, schema=pa.schema([schema.field(name) for name in names]))
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("trades", rows)
        activity_sql.load(connection, "true", {})
        for rule in RULES:
            expected = reference_bars(trades, *parts(rule))
            assert len(expected) > 3
            assert values(activity_sql.bars(connection, parse_bars(rule)).to_pylist()) == expected, rule


def test_every_start_gives_the_same_bars_with_late_and_repaired_trades(engine: Engine, append: Append) -> None:
    trades = drawn(7, 300)
    late = trades[20:40] + trades[150:170]
    append([row for row in trades if row not in late][::-1])
    append(late)  # committed after trades that follow them
    expected = reference_bars(trades, *parts("imbalance:volume:1.5"))
    query = {"symbol": "BTCUSDT,ETHUSDT", "bars": "imbalance:volume:1.5"}
    assert values(engine.ohlcv(**query).to_pylist()) == expected
    for first, hours in ((7, 9), (101, 1), (190, 30)):
        start = trades[first]["timestamp"]
        end = start + timedelta(hours=hours)
        within = [bar for bar in expected if start <= bar[2] < end]
        assert within
        assert values(engine.ohlcv(**query, start=start, end=end).to_pylist()) == within
    assert values(engine.ohlcv(**query, limit=5).to_pylist()) == expected[-5:]


@given(st.data())
def test_a_bar_ends_with_the_trade_that_reaches_the_threshold_however_the_day_is_cut(data: st.DataObject) -> None:
    rule = parse_bars(data.draw(st.sampled_from(["volume:0.00000000001", "imbalance:3", "run:3"])))
    items = data.draw(st.lists(st.tuples(st.integers(1, 12), st.booleans()), max_size=30))
    cut = data.draw(st.integers(0, 30))
    whole, cut_up = BarCounter(rule), BarCounter(rule)
    whole.add(*zip(*items, strict=True)) if items else None
    for part in (items[:cut], items[cut:]):
        cut_up.add([value for value, _ in part], [buy for _, buy in part])
    assert whole.ends == cut_up.ends


def test_a_trade_beyond_38_digits_ends_a_bar_and_leaves_no_error(engine: Engine, append: Append) -> None:
    most = Decimal("9" * 26)
    append([trade(1), trade(2, 1, price=most, quantity=most), trade(3, 2, side="SELL"), trade(4, 3)])
    for rule in ("dollar:10000000000000", "imbalance:dollar:10000000000000"):
        rows = engine.ohlcv(symbol="BTCUSDT", bars=rule).to_pylist()
        assert [(row["trade_count"], row["notional"], row["vwap"]) for row in rows] == [(2, None, None), (2, 200, 100)]


@pytest.mark.parametrize(
    "text",
    ["", "tick", "tick:", "tick:0", "tick:1.5", "tick:-1", "volume:1e3", "volume:0.0000000000001", "volume:tick:1",
     "dollar:10000000000001", "imbalance:usd:5", "run:tick:1:2", "time:1", "TICK:1", "sum:tick:1"],
)  # fmt: skip
def test_what_names_no_bars_is_refused(text: str) -> None:
    with pytest.raises(BadQuery, match="does not name bars; write tick:1000"):
        parse_bars(text)


def test_bars_by_activity_have_no_interval_zone_or_fill(engine: Engine, append: Append) -> None:
    append([trade(1)])
    for extra in ({"interval": "1m"}, {"tz": "UTC"}, {"fill": "null"}):
        with pytest.raises(BadQuery, match="have no interval, tz or fill"):
            engine.ohlcv(symbol="BTCUSDT", bars="tick:1", **extra)
    with pytest.raises(BadQuery, match='no trade of "DOGE" is stored'):
        engine.ohlcv(symbol="DOGE", bars="tick:1")


_COUNT = 10_000_000
_TEN_MILLION = f"""CREATE TABLE trades AS SELECT 'BINANCE' AS exchange, 'BTCUSDT' AS symbol, i::VARCHAR AS trade_id,
    TIMESTAMPTZ '2026-01-31 00:00:00+00' + to_microseconds((i // 3) * 20000) AS timestamp,
    (60000 + hash(i) % 100000 / 100)::DECIMAL(38,12) AS price, ((hash(i + 1) % 99999 + 1) / 100000)::DECIMAL(38,12)
    AS quantity, CASE WHEN hash(i + 2) % 100 < 52 THEN 'BUY' ELSE 'SELL' END AS side
    FROM range({_COUNT}) AS numbers(i) ORDER BY hash(i + 3)"""


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["tick:1000", "volume:100", "dollar:10000000", "imbalance:500", "run:volume:300"])
def test_ten_million_trades_equal_the_reference_in_bounded_memory(tmp_path: Path, rule: str) -> None:
    settings = {"memory_limit": "1GB", "temp_directory": str(tmp_path / "spill"), "threads": 2}
    with duckdb.connect(tmp_path / "trades.db", config=settings) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(_TEN_MILLION)

        def ordered() -> Iterator[list[dict[str, Any]]]:
            reader = connection.cursor().sql("SELECT * FROM trades ORDER BY timestamp, trade_id::BIGINT")
            for batch in reader.to_arrow_reader(100_000):
                yield batch.to_pylist()

        activity_sql.load(connection, "true", {})
        rows = activity_sql.bars(connection, parse_bars(rule)).to_pylist()
        assert rows[-1]["close_time"] < datetime(2026, 2, 1, tzinfo=UTC)
        expected, rest = [], []
        for part in ordered():  # the reference, in parts that end with a bar
            bars = reference_bars([*rest, *part], *parts(rule))
            size = bars[-1][-2]
            rest = [*rest, *part][-size:]
            expected += bars[:-1]
        expected += reference_bars(rest, *parts(rule))
        assert values(rows) == expected
