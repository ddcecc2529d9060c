"""The queries over Gold, and their SQL for DuckDB and ClickHouse."""

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
    """The kinds of query, with their titles."""

    HOUR = "one hour of one symbol"
    BARS = "one day of 1-minute bars"
    PRICE = "last price of all symbols"
    RECENT = "last 15 minutes of one symbol, hybrid"
    MILLION = "one day of one symbol, all its trades"


@dataclass(frozen=True, slots=True)
class Query:
    """One query for a symbol (empty for all symbols) within [start, end)."""

    kind: Kind
    symbol: str
    start: datetime
    end: datetime

    def hours(self) -> Iterator[datetime]:
        """Yield the hours that the query touches; files are partitioned by hour."""
        hour = self.start.replace(minute=0, second=0, microsecond=0)
        while hour < self.end:
            yield hour
            hour += HOUR


def random_query(kind: Kind, first: datetime, end: datetime, rng: random.Random) -> Query:
    """Return a random query of a kind over the trades in [first, end)."""
    symbol = f"{rng.choice(BASES)}USDT"
    match kind:
        case Kind.HOUR:
            minutes = int((end - first - HOUR) / timedelta(minutes=1))
            start = first + timedelta(minutes=rng.randrange(minutes))
            return Query(kind, symbol, start, start + HOUR)
        case Kind.BARS | Kind.MILLION:
            hours = int((end - first - DAY) / HOUR)
            start = first + rng.randrange(hours) * HOUR
            return Query(kind, symbol, start, start + DAY)
        case Kind.PRICE:
            return Query(kind, "", end - HOUR, end)
        case Kind.RECENT:
            return Query(kind, symbol, end - RECENT, end)


def duckdb_sql(query: Query, files: Mapping[datetime, Sequence[str]]) -> str:
    """Return DuckDB's SQL over the Parquet files of the hours that the query touches."""
    paths = ", ".join(f"'{file}'" for hour in query.hours() for file in files.get(hour, ()))
    time_range = f"timestamp >= '{query.start.isoformat()}' AND timestamp < '{query.end.isoformat()}'"
    source = f"read_parquet([{paths}]) WHERE {time_range}"
    bucket = "time_bucket(INTERVAL 1 MINUTE, timestamp)"
    return _statement(query, source, bucket, "arg_min(price, timestamp)", "arg_max(price, timestamp)", "count(*)")


def clickhouse_sql(query: Query, table: str) -> str:
    """Return ClickHouse's SQL over its own table."""
    start, end = (f"fromUnixTimestamp64Micro({_micros(at)}, 'UTC')" for at in (query.start, query.end))
    source = f"{table} WHERE timestamp >= {start} AND timestamp < {end}"
    bucket = "toStartOfMinute(timestamp)"
    return _statement(query, source, bucket, "argMin(price, timestamp)", "argMax(price, timestamp)", "count()")


def _statement(query: Query, source: str, bucket: str, first: str, last: str, count: str) -> str:
    match query.kind:
        case Kind.PRICE:
            return f"SELECT exchange, symbol, {last} AS price FROM {source} GROUP BY exchange, symbol ORDER BY 1, 2"
        case Kind.BARS:
            return (
                f"SELECT exchange, symbol, {bucket} AS open_time, {first} AS open, max(price) AS high, "
                f"min(price) AS low, {last} AS close, sum(quantity) AS volume, {count} AS trade_count "
                f"FROM {source} AND symbol = '{query.symbol}' GROUP BY exchange, symbol, open_time ORDER BY open_time"
            )
    return f"SELECT {COLUMNS} FROM {source} AND symbol = '{query.symbol}' ORDER BY timestamp, trade_id"


def _micros(at: datetime) -> int:
    return int(at.timestamp()) * 1_000_000 + at.microsecond
