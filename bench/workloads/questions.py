"""What everyone is asked over Gold, in the words of each contestant that speaks SQL."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from bench.workloads.datasets import BASES
from k2.query.sql.trade_sql import COLUMNS

HOUR: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)
RECENT: Final = timedelta(minutes=15)


class Kind(StrEnum):
    """What is asked for."""

    HOUR = "one hour of one symbol"
    BARS = "one day of 1-minute bars"
    PRICE = "last price of all symbols"
    RECENT = "last 15 minutes of one symbol, hybrid"
    MILLION = "one day of one symbol, all its trades"


@dataclass(frozen=True, slots=True)
class Question:
    """One of a kind: of a symbol, where it is of one, within [start, end)."""

    kind: Kind
    symbol: str
    start: datetime
    end: datetime

    def hours(self) -> Iterator[datetime]:
        """The hours that it touches, by which files lie in folders."""
        hour = self.start.replace(minute=0, second=0, microsecond=0)
        while hour < self.end:
            yield hour
            hour += HOUR


def of(kind: Kind, first: datetime, end: datetime, chance: random.Random) -> Question:
    """A random question of a kind to a table of the trades in [first, end)."""
    symbol = f"{chance.choice(BASES)}USDT"
    match kind:
        case Kind.HOUR:
            minutes = int((end - first - HOUR) / timedelta(minutes=1))
            start = first + timedelta(minutes=chance.randrange(minutes))
            return Question(kind, symbol, start, start + HOUR)
        case Kind.BARS | Kind.MILLION:
            hours = int((end - first - DAY) / HOUR)
            start = first + chance.randrange(hours) * HOUR
            return Question(kind, symbol, start, start + DAY)
        case Kind.PRICE:
            return Question(kind, "", end - HOUR, end)
        case Kind.RECENT:
            return Question(kind, symbol, end - RECENT, end)


def duckdb(question: Question, files: Mapping[datetime, Sequence[str]]) -> str:
    """DuckDB's SQL over the Parquet files of the hours that are touched, which somebody has found already."""
    named = ", ".join(f"'{file}'" for hour in question.hours() for file in files.get(hour, ()))
    within = f"timestamp >= '{question.start.isoformat()}' AND timestamp < '{question.end.isoformat()}'"
    source = f"read_parquet([{named}]) WHERE {within}"
    bucket = "time_bucket(INTERVAL 1 MINUTE, timestamp)"
    return _statement(question, source, bucket, "arg_min(price, timestamp)", "arg_max(price, timestamp)", "count(*)")


def clickhouse(question: Question, table: str) -> str:
    """ClickHouse's SQL over a table of its own."""
    start, end = (f"fromUnixTimestamp64Micro({_micros(at)}, 'UTC')" for at in (question.start, question.end))
    source = f"{table} WHERE timestamp >= {start} AND timestamp < {end}"
    bucket = "toStartOfMinute(timestamp)"
    return _statement(question, source, bucket, "argMin(price, timestamp)", "argMax(price, timestamp)", "count()")


def _statement(question: Question, source: str, bucket: str, first: str, last: str, count: str) -> str:
    match question.kind:
        case Kind.PRICE:
            return f"SELECT exchange, symbol, {last} AS price FROM {source} GROUP BY exchange, symbol ORDER BY 1, 2"
        case Kind.BARS:
            return (
                f"SELECT exchange, symbol, {bucket} AS start, {first} AS open, max(price) AS high, min(price) AS low, "
                f"{last} AS close, sum(quantity) AS volume, {count} AS trades "
                f"FROM {source} AND symbol = '{question.symbol}' GROUP BY exchange, symbol, start ORDER BY start"
            )
    return f"SELECT {COLUMNS} FROM {source} AND symbol = '{question.symbol}' ORDER BY timestamp, trade_id"


def _micros(at: datetime) -> int:
    return int(at.timestamp()) * 1_000_000 + at.microsecond
