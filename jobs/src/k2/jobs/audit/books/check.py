"""Checks that quotes equal the best bid and ask of the book in the state that they name.

Only for exchanges that number both alike. Books are rebuilt in this process, so that an audit takes a sample of the
hours that it judges: as many as have `_MOST` messages together, chosen by the hash of symbol and hour.
"""

from collections.abc import Iterator
from datetime import datetime
from hashlib import sha256
from typing import Final

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.jobs.audit.books.rebuilt import Best, Row, best_of, compared
from k2.jobs.audit.pinned_snapshots import PinnedSnapshots
from k2.jobs.audit.report import Finding
from k2.jobs.audit.scope import hour_text
from k2.jobs.layers.gold import record_time
from k2.schemas.channels import BOOK, QUOTES, Channel
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.states import Verdict
from k2.schemas.values import format_decimal

_MOST: Final = 20_000  # messages of books that are read
_MOST_FINDINGS: Final = 100
_HOUR: Final = 3_600_000_000
_MESSAGE: Final = (
    "kind", "part", "parts", "first_id", "last_id", "bids", "asks", "price_exponent", "quantity_exponent", "connection",
    "ordinal", "verdict",
)  # fmt: skip
_QUOTE: Final = (
    "sequence", "bid_price", "bid_quantity", "ask_price", "ask_quantity", "price_exponent", "quantity_exponent",
    "connection", "ordinal",
)  # fmt: skip


def check(pinned: PinnedSnapshots, exchange: str, since: datetime | None) -> tuple[dict[str, int], list[Finding]]:
    """Return how many quotes were compared and how many differ, and the findings. `since` leaves earlier hours out."""
    label = EXCHANGES[exchange].label
    books, quotes = (_rows(pinned.rows(channel.gold), channel, label, since) for channel in (BOOK, QUOTES))
    counts, findings = {"compared": 0, "disagreeing": 0}, []
    for symbol, hour in _sample(books):
        of_hour = (F.col("symbol") == symbol) & (F.col("hour") == hour)
        messages = books.where(of_hour)
        states = messages.where(F.col("verdict") == Verdict.VERIFIED.value).select(F.col("last_id").alias("sequence"))
        own = quotes.where((F.col("symbol") == symbol) & F.col("hour").between(hour - _HOUR, hour + _HOUR))
        named: dict[int, list[Row]] = {}
        for row in own.join(states.distinct(), "sequence").select(*_QUOTE).collect():
            named.setdefault(row["sequence"], []).append(row.asDict())
        if not named:
            continue
        ordered = messages.select(*_MESSAGE).orderBy("connection", "ordinal")
        for quote, best in compared((row.asDict() for row in ordered.toLocalIterator()), named):
            counts["compared"] += 1
            if best_of(quote) != best:
                counts["disagreeing"] += 1
                findings.append(_finding(label, symbol, hour, quote, best))
    return counts, findings[:_MOST_FINDINGS]


def _rows(gold: DataFrame, channel: Channel, label: str, since: datetime | None) -> DataFrame:
    own, micros = gold.where(F.col("exchange") == label), F.unix_micros(record_time(channel))
    recent = own if since is None else own.where(record_time(channel) >= F.lit(since))
    return recent.withColumn("hour", _hour(micros))


def _hour(micros: Column) -> Column:
    return micros - F.pmod(micros, F.lit(_HOUR))


def _sample(books: DataFrame) -> Iterator[tuple[str, int]]:
    """Yield symbols and hours, at least one, until the messages that are read are as many as is allowed."""
    counts = books.groupBy("symbol", "hour").count().collect()
    total = 0
    for row in sorted(counts, key=lambda row: sha256(f"{row['symbol']}|{row['hour']}".encode()).digest()):
        if total and total + row["count"] > _MOST:
            continue
        total += row["count"]
        yield row["symbol"], row["hour"]


def _finding(label: str, symbol: str, hour: int, quote: Row, best: Best) -> Finding:
    text = (
        f"{QUOTES.gold.name}: {label} {symbol} {hour_text(hour)}: quote {quote['sequence']} (connection "
        f"{quote['connection']}, ordinal {quote['ordinal']}) is {_text(best_of(quote))}, and the book in that "
        f"state has {_text(best)}"
    )
    return Finding(label, QUOTES.name, "quote_mismatch", text, QUOTES.gold.name, symbol, hour_text(hour))


def _text(best: Best) -> str:
    return " / ".join(
        "none" if level is None else f"{format_decimal(level[1])} at {format_decimal(level[0])}" for level in best
    )
