"""Sample tables of a few hours of several exchanges: trades, audited hours, gaps, dead letters, batches."""

import json
import random
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import pyarrow as pa

from k2.cli.embedded.layout import Layout
from k2.query.iceberg import catalog, tables
from k2.schemas.channels import BOOK, TRADES
from k2.schemas.records.trade import message_id
from k2.schemas.tables import (
    BATCHES_TABLE,
    COMPLETENESS_TABLE,
    DEAD_LETTERS_TABLE,
    GAPS_TABLE,
    GOLD_BOOK_TABLE,
    GOLD_TABLE,
    Table,
)

Row = dict[str, Any]

MARKETS: Final = (
    ("BINANCE", "BTCUSDT", "BTC", "USDT", 64_000.0),
    ("BINANCE", "ETHUSDT", "ETH", "USDT", 3_100.0),
    ("BINANCE", "SOLUSDT", "SOL", "USDT", 148.0),
    ("COINBASE", "BTCUSD", "BTC", "USD", 64_010.0),
    ("COINBASE", "ETHUSD", "ETH", "USD", 3_101.0),
    ("KRAKEN", "BTCUSD", "BTC", "USD", 64_020.0),
)
FRAME: Final = '{"e":"trade","s":"BTCUSDT","t":4711,"p":"<b>not a price</b>","q":"0.5"}'
HOURS: Final = 70  # audited
_HOUR: Final = timedelta(hours=1)
_SECOND: Final = timedelta(seconds=1)


class Lake:
    """A lake in a folder."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        layout.root.mkdir(parents=True, exist_ok=True)

    def append(self, table: Table, rows: list[Row]) -> None:
        """Append rows to a table as one snapshot."""
        with closing(catalog.connect(self.layout.platform(), create=True)) as opened:
            (loaded,) = tables.ensure(opened, [table])
            loaded.append(pa.Table.from_pylist(rows, schema=loaded.schema().as_arrow()))

    def fill(self, now: datetime, hours: int = 8) -> None:
        """Append everything that the console shows."""
        chance = random.Random(7)
        self.append(GOLD_TABLE, [row for market in MARKETS for row in walk(chance, market, now, hours)])
        self.append(COMPLETENESS_TABLE, list(audited_hours(chance, now)))
        self.append(GAPS_TABLE, list(gaps(chance, now)))
        self.append(DEAD_LETTERS_TABLE, list(dead_letters(now)))
        self.append(BATCHES_TABLE, list(batches(chance, now)))
        self.append(GOLD_BOOK_TABLE, list(book_messages(now)))
        self.append(COMPLETENESS_TABLE, list(judged_seconds(now)))


def trade(market: tuple[str, str, str, str, float], number: int, at: datetime, price: float, quantity: float) -> Row:
    """Return a row of Gold."""
    exchange, symbol, base, quote, _ = market
    return {
        "message_id": str(message_id(exchange, symbol, str(number))),
        "trade_id": str(number), "symbol": symbol, "exchange": exchange, "base_asset": base, "quote_currency": quote,
        "timestamp": at, "price": Decimal(f"{price:.2f}"), "quantity": Decimal(f"{quantity:.5f}"),
        "side": "BUY" if number % 3 else "SELL", "ingestion_timestamp": at + timedelta(milliseconds=40),
        "vendor_data": json.dumps({"source": "live"}), "gold_ingestion_timestamp": at + _SECOND,
        "exchange_date": at.date(), "exchange_hour": at.hour,
    }  # fmt: skip


def walk(chance: random.Random, market: tuple[str, str, str, str, float], now: datetime, hours: int) -> Iterator[Row]:
    """A random walk of trades up to now."""
    price, at, number = market[4], now - hours * _HOUR, 1_000_000
    while at < now:
        yield trade(market, number, at, price, chance.expovariate(4))
        price *= 1 + chance.gauss(0, 0.00022)
        number += 1
        at += timedelta(seconds=chance.expovariate(0.2))


def audited_hours(chance: random.Random, now: datetime) -> Iterator[Row]:
    """Three days of hours: most complete, some repaired, a few that miss ids."""
    newest = now.replace(minute=0, second=0, microsecond=0)
    for market in MARKETS:
        for back in range(HOURS):
            luck = chance.random()
            state = "open" if not back else "incomplete" if luck < 0.012 else "complete"
            repaired = chance.randrange(3, 90) if 0.012 <= luck < 0.06 else 0
            expected, first = chance.randrange(9_000, 14_000), 5_000_000 + back * 20_000
            lost = 12 if state == "incomplete" else 0
            yield {
                "exchange": market[0], "symbol": market[1], "hour": newest - back * _HOUR,
                "first_id": str(first), "last_id": str(first + expected - 1), "expected": expected,
                "channel": TRADES.name,
                "actual": expected - lost, "state": state, "gold_snapshot_id": 4_411_223_344_556_677_889,
                "missing": [{"first_id": str(first + 100), "last_id": str(first + 111)}] if lost else [],
                "by_source": [("live", expected - lost - repaired)] + ([("backfill", repaired)] if repaired else []),
                "checked_at": now,
            }  # fmt: skip


def book_messages(now: datetime) -> Iterator[Row]:
    """A snapshot of an order book, and a change of it each second, of the last 20 minutes."""
    exchange, symbol = MARKETS[0][:2]
    for number in range(1_200):
        at = now - timedelta(seconds=1_200 - number)
        kind, moved = ("delta", number % 7) if number else ("snapshot", 0)
        yield {
            "exchange": exchange, "symbol": symbol, "timestamp": at, "ingestion_timestamp": at,
            "kind": kind, "part": 1, "parts": 1, "first_id": number, "last_id": number, "previous_id": None,
            "bids": [{"price": 6_400_000 - level, "quantity": 100 + 10 * level + moved} for level in range(15)],
            "asks": [{"price": 6_400_010 + level, "quantity": 90 + 20 * level} for level in range(15)],
            "price_exponent": -2, "quantity_exponent": -3, "connection": "a", "ordinal": number + 1,
            "verdict": "verified", "clock_offset_ms": None, "gold_ingestion_timestamp": at + _SECOND,
            "exchange_date": at.date(), "exchange_hour": at.hour,
        }  # fmt: skip


def judged_seconds(now: datetime) -> Iterator[Row]:
    """Some hours of the book: one that has suspect seconds, the others verified."""
    newest = now.replace(minute=0, second=0, microsecond=0)
    for back in range(1, 13):
        suspect = 25 if back == 4 else 0
        yield {
            "exchange": MARKETS[0][0], "symbol": MARKETS[0][1], "hour": newest - back * _HOUR, "channel": BOOK.name,
            "state": "incomplete" if suspect else "complete", "actual": 36_000, "checked_at": now,
            "seconds": [("verified", 3600 - suspect), ("suspect", suspect), ("silence", 1)],
        }  # fmt: skip


def gaps(chance: random.Random, now: datetime) -> Iterator[Row]:
    """Gaps in every state."""
    for number, state in enumerate(["open", *["repaired"] * 9, "unrecoverable"]):
        at = now - timedelta(minutes=3 + 47 * number)
        first = 5_000_000 + 977 * number
        yield {
            "gap_id": f"gap-{number}", "exchange": MARKETS[number % 4][0], "feed": MARKETS[number % 4][0].lower(),
            "channel": TRADES.name,
            "symbol": MARKETS[number % 4][1], "first_id": str(first), "last_id": str(first + chance.randrange(3, 90)),
            "detected_at": at, "resolved_at": at + 2 * _SECOND if state == "repaired" else None, "state": state,
            "resolution": {"open": None, "repaired": "rest"}.get(state, "older than the exchange keeps"),
        }  # fmt: skip


def dead_letters(now: datetime) -> Iterator[Row]:
    """One dead letter that is text, and one that is not."""
    values = [(FRAME.encode(), "UNDECODABLE", "the price is not a number"), (bytes(range(64)), "MALFORMED_HEADER", "")]
    for offset, (value, category, message) in enumerate(values):
        yield {
            "value": value, "exchange": "BINANCE", "topic": "market.crypto.trades.binance", "partition": 3,
            "channel": TRADES.name,
            "offset": 100 + offset, "schema_id": None if offset else 1, "error_category": category,
            "error_message": message or "there is no magic byte", "dead_lettered_at": now - offset * _HOUR,
        }  # fmt: skip


def batches(chance: random.Random, now: datetime) -> Iterator[Row]:
    """The newest batches of every layer."""
    for exchange in sorted({market[0] for market in MARKETS}):
        for layer, age in (("bronze", 4), ("silver", 11), ("gold", 26)):
            rows = chance.randrange(20_000, 90_000)
            at = now - age * _SECOND
            yield {
                "layer": layer, "exchange": exchange, "query_id": f"{exchange}-{layer}", "epoch": 12,
                "channel": TRADES.name,
                "offset_ranges": [], "rows_in": rows, "rows_out": rows - (2 if layer == "silver" else 0),
                "dead_letters": 2 if (layer, exchange) == ("silver", "BINANCE") else 0,
                "duplicates_dropped": chance.randrange(40) if layer == "gold" else 0, "snapshot_id": 1,
                "started_at": at - _SECOND, "committed_at": at,
            }  # fmt: skip


def now() -> datetime:
    """The clock, to the second."""
    return datetime.now(UTC).replace(microsecond=0)
