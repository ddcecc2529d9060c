"""Bars by time: of any interval and zone, the newest, of several symbols, filled, and judged by the ledger."""

import random
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from k2.cli.embedded.layout import Layout
from k2.query.candles.intervals import parse_interval
from k2.query.candles.ledger import FALSE, TRUE, UNVERIFIABLE, Ledger
from k2.query.engine import Engine
from k2.query.errors import BadQuery
from k2.query.iceberg import catalog, tables
from k2.schemas.tables import COMPLETENESS_TABLE, GAPS_TABLE, Table
from k2.schemas.values import to_micros
from tests.unit.query.conftest import NOON, Append, trade

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
PAIR = ("BINANCE", "BTCUSDT")
Insert = Callable[..., None]


@pytest.fixture
def insert(layout: Layout, append: Append) -> Iterator[Insert]:
    """Append a row of BTCUSDT to a table of the audit."""
    with closing(catalog.connect(layout.platform())) as opened:

        def row(spec: Table, **fields: Any) -> None:
            (table,) = tables.ensure(opened, [spec])
            values = {"exchange": "BINANCE", "channel": "trades", "symbol": "BTCUSDT"} | fields
            table.append(pa.Table.from_pylist([values], schema=table.schema().as_arrow()))

        yield row


def reference(trades: list[dict[str, Any]], interval: str, zone: str) -> list[tuple[Any, ...]]:
    """Return the bars of trades of one exchange that are in order."""
    parsed, bars = parse_interval(interval, zone), {}
    for row in trades:
        bars.setdefault((parsed.floor(row["timestamp"]), row["symbol"]), []).append(row)
    return [
        (
            opened, symbol, rows[0]["price"], max(row["price"] for row in rows), min(row["price"] for row in rows),
            rows[-1]["price"], sum(row["quantity"] for row in rows), len(rows),
            sum(row["price"] * row["quantity"] for row in rows),
        )
        for (opened, symbol), rows in sorted(bars.items())
    ]  # fmt: skip


def of(rows: list[dict[str, Any]], *names: str) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in names) for row in rows]


def test_bars_of_every_interval_and_zone_equal_the_reference(engine: Engine, append: Append) -> None:
    chance, start = random.Random(3), NOON.replace(month=10, day=23, year=2025)  # clocks change on October 26
    moments = sorted(start + timedelta(seconds=chance.randrange(40 * 86_400)) for _ in range(400))
    trades = [
        trade(number, moment - NOON, symbol=chance.choice(["BTCUSDT", "ETHUSDT"]), price=Decimal(number % 97 + 1))
        for number, moment in enumerate(moments)
    ]
    append(trades[::-1])
    names = ("open_time", "symbol", "open", "high", "low", "close", "volume", "trade_count", "notional")
    for interval, zone in (
        ("45s", "Asia/Kolkata"), ("4h", "Europe/Berlin"), ("1d", "Europe/Berlin"), ("1d", "Atlantic/Azores"),
        ("1w", "UTC"),
        ("1w", "America/New_York"), ("1M", "UTC"), ("1M", "Asia/Tokyo"), ("1h", "UTC"),
    ):  # fmt: skip
        rows = engine.ohlcv(symbol=["BTCUSDT", "ETHUSDT"], interval=interval, tz=zone).to_pylist()
        assert of(rows, *names) == reference(trades, interval, zone), (interval, zone)


def test_a_limit_returns_the_newest_intervals(engine: Engine, append: Append) -> None:
    seconds = [0, 61, 3600, 90_000, 90_061]
    append([trade(number, second) for number, second in enumerate(seconds)])
    append([trade(9, 3600, symbol="ETHUSDT")])
    opens = [NOON + timedelta(seconds=second - second % 60) for second in seconds]
    for limit in range(1, 7):
        rows = engine.ohlcv(symbol="BTCUSDT", limit=limit).to_pylist()
        assert of(rows, "open_time") == [(opened,) for opened in opens[-limit:]]
    several = engine.ohlcv(symbol="BTCUSDT,ETHUSDT", limit=3).to_pylist()
    assert of(several, "symbol", "open_time") == [
        ("BTCUSDT", opens[2]), ("ETHUSDT", opens[2]), ("BTCUSDT", opens[3]), ("BTCUSDT", opens[4]),
    ]  # fmt: skip
    within = engine.ohlcv(symbol="BTCUSDT", limit=2, start=opens[1], end=opens[4]).to_pylist()
    assert of(within, "open_time") == [(opens[2],), (opens[3],)]


def test_intervals_without_trades_are_filled_as_requested(engine: Engine, append: Append) -> None:
    append([trade(1, -3 * 86_400, price=Decimal(7)), trade(2, 60, price=Decimal(9)), trade(3, 180, exchange="KRAKEN")])
    query = {"symbol": "BTCUSDT", "exchange": "binance", "start": NOON, "end": NOON + 3 * MINUTE}
    names = ("open", "high", "low", "close", "volume", "trade_count", "vwap", "notional")
    traded = (9, 9, 9, 9, 1, 1, 9, 9)
    previous = engine.ohlcv(**query, fill="previous")
    assert of(previous.to_pylist(), *names) == [(7, 7, 7, 7, 0, 0, None, 0), traded, (9, 9, 9, 9, 0, 0, None, 0)]
    empty = (None, None, None, None, None, 0, None, None)
    assert of(engine.ohlcv(**query, fill="null").to_pylist(), *names) == [empty, traded, empty]
    assert of(engine.ohlcv(**query).to_pylist(), *names) == [traded]
    assert engine.ohlcv(**query).schema == previous.schema
    both = engine.ohlcv(symbol="BTCUSDT", limit=2, end=NOON + 4 * MINUTE, fill="null").to_pylist()
    assert of(both, "exchange", "trade_count") == [("BINANCE", 0), ("KRAKEN", 0), ("BINANCE", 0), ("KRAKEN", 1)]
    assert [row["open_time"] for row in both[::2]] == [NOON + 2 * MINUTE, NOON + 3 * MINUTE]
    with pytest.raises(BadQuery, match="more than 1000000 intervals; with fill, shorten it"):
        engine.ohlcv(symbol="BTCUSDT", interval="1s", start=NOON - 20 * DAY, fill="null")


def test_a_range_of_all_times_is_answered(engine: Engine, append: Append) -> None:
    append([trade(1)])
    always = {"start": datetime.min.replace(tzinfo=UTC), "end": datetime.max.replace(tzinfo=UTC)}
    for query in ({"interval": "1M", "tz": "Asia/Tokyo", "fill": "null"}, {"interval": "1d"}, {"bars": "run:1"}):
        rows = engine.ohlcv(symbol="BTCUSDT", **query, **always).to_pylist()
        assert sum(row["trade_count"] for row in rows) == 1
    with pytest.raises(BadQuery, match="more than 1000000 intervals"):
        engine.ohlcv(symbol="BTCUSDT", interval="1s", fill="null", **always)


def test_a_misspelt_symbol_among_several_is_an_error(engine: Engine, append: Append) -> None:
    append([trade(1)])
    with pytest.raises(BadQuery, match='no trade of "BTCUDST" is stored'):
        engine.ohlcv(symbol="BTCUSDT,BTCUDST")
    with pytest.raises(BadQuery, match="give 1 to 50 symbols"):
        engine.ohlcv(symbol=",".join(f"S{number}" for number in range(51)))


def test_a_bar_is_complete_if_every_hour_of_it_is(engine: Engine, append: Append, insert: Insert) -> None:
    append([trade(number, number * HOUR) for number in range(6)])

    def complete(interval: str, **query: Any) -> list[str]:
        return engine.ohlcv(symbol="BTCUSDT", interval=interval, **query).column("complete").to_pylist()

    assert complete("1h") == [UNVERIFIABLE] * 6
    for hour, state in ((0, "complete"), (1, "complete"), (2, "incomplete"), (3, "unverifiable"), (4, "open")):
        insert(COMPLETENESS_TABLE, hour=NOON + hour * HOUR, state=state, checked_at=NOON, by_source=[])
    insert(GAPS_TABLE, gap_id="g", state="open", detected_at=NOON + 5.5 * HOUR, missing=[])
    insert(GAPS_TABLE, gap_id="h", state="repaired", detected_at=NOON + 3 * HOUR, missing=[])
    assert complete("1h") == [TRUE, TRUE, FALSE, UNVERIFIABLE, FALSE, FALSE]
    assert complete("2h") == [TRUE, FALSE, FALSE]
    assert complete("1m") == [TRUE, TRUE, FALSE, UNVERIFIABLE, FALSE, FALSE]
    assert complete("1d") == [FALSE]
    insert(COMPLETENESS_TABLE, hour=NOON + 2 * HOUR, state="complete", checked_at=NOON + HOUR, by_source=[])
    assert complete("4h") == [UNVERIFIABLE, FALSE]
    assert complete("2h", start=NOON, end=NOON + HOUR) == [FALSE]  # the range cuts the bar
    rows = engine.ohlcv(symbol="BTCUSDT", interval="30m", fill="null", start=NOON, end=NOON + 2 * HOUR).to_pylist()
    assert of(rows, "trade_count", "complete") == [(1, TRUE), (0, TRUE), (1, TRUE), (0, TRUE)]  # nothing was traded


def test_an_older_snapshot_is_judged_as_it_was(engine: Engine, append: Append, insert: Insert) -> None:
    first = append([trade(1)])
    insert(COMPLETENESS_TABLE, hour=NOON, state="incomplete", checked_at=NOON, by_source=[])
    assert engine.ohlcv(symbol="BTCUSDT", as_of=first).column("complete").to_pylist() == [FALSE]
    append([trade(2, 1)])  # a repair, which the next audit accepts
    insert(COMPLETENESS_TABLE, hour=NOON, state="complete", checked_at=NOON + HOUR, by_source=[])
    assert engine.ohlcv(symbol="BTCUSDT").column("complete").to_pylist() == [TRUE]
    assert engine.ohlcv(symbol="BTCUSDT", as_of=first).column("complete").to_pylist() == [FALSE]


def test_the_current_bar_is_not_complete() -> None:
    def micros(moment: datetime) -> int:
        return to_micros(moment)

    ledger = Ledger(micros(NOON + HOUR), {PAIR: {micros(NOON) // 3_600_000_000: "complete"}})
    assert ledger.complete(PAIR, micros(NOON), micros(NOON + HOUR)) == TRUE
    assert ledger.complete(PAIR, micros(NOON), micros(NOON + HOUR) + 1) == FALSE
    assert ledger.complete(("KRAKEN", "BTCUSDT"), micros(NOON), micros(NOON + HOUR)) == UNVERIFIABLE


def test_a_bar_by_activity_depends_on_every_hour_of_its_day_up_to_its_end(
    engine: Engine, append: Append, insert: Insert
) -> None:
    append([trade(number, number * HOUR) for number in range(-1, 6)])
    for hour in range(-12, 3):
        insert(COMPLETENESS_TABLE, hour=NOON + hour * HOUR, state="complete", checked_at=NOON, by_source=[])
    rows = engine.ohlcv(symbol="BTCUSDT", bars="tick:2").to_pylist()
    assert of(rows, "trade_count", "complete") == [(2, TRUE), (2, TRUE), (2, UNVERIFIABLE), (1, UNVERIFIABLE)]
    insert(COMPLETENESS_TABLE, hour=NOON - HOUR, state="incomplete", checked_at=NOON + HOUR, by_source=[])
    assert engine.ohlcv(symbol="BTCUSDT", bars="tick:2").column("complete").to_pylist() == [FALSE] * 4
