"""One-minute OHLCV bars of Gold's trades, and the files that a change replaces.

DataFrames in, DataFrames out. Bars are rebuilt from all trades of an hour, or of the day where a file holds more than
that hour, and never incremented: a late trade corrects its bar, and a repeated rebuild changes nothing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import reduce
from operator import or_
from typing import Final

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.jobs.layers import exact
from k2.schemas.tables import BARS_TABLE

_HOUR: Final = 3600
_DAY: Final = 24
_MAX_HOURS: Final = 8  # hours that are rebuilt on their own; beyond that whole days are rebuilt
_LAST_NUMBER: Final = f"{2**64 - 1}"  # sorts ids that are not numbers last


@dataclass(frozen=True, slots=True)
class RebuildUnit:
    """The unit of a rebuild: an hour of an exchange; None in a field means all hours, all days, all exchanges."""

    exchange: str | None = None
    day: date | None = None
    hour: int | None = None

    def gold_filter(self) -> Column:
        """Return the filter for the Gold trades of the unit."""
        rows = self._days()
        return rows if self.hour is None else rows & (F.col("exchange_hour") == self.hour)

    def bars_filter(self) -> Column:
        """Return the filter for the bars that the unit replaces."""
        rows = self._days()
        if self.hour is None or self.day is None:
            return rows
        start = datetime(self.day.year, self.day.month, self.day.day, self.hour, tzinfo=UTC)
        return rows & (F.col("open_time") >= F.lit(start)) & (F.col("open_time") < F.lit(start + timedelta(hours=1)))

    def _days(self) -> Column:
        rows = F.lit(True) if self.exchange is None else F.col("exchange") == self.exchange
        return rows if self.day is None else rows & (F.col("exchange_date") == F.lit(self.day))


@dataclass(frozen=True, slots=True)
class BarFile:
    """A data file of bars: its exchange and day, and the first and last hour of the day in it."""

    exchange: str
    day: date
    first: int
    last: int


def rebuild_units(touched: Mapping[str, Iterable[int]], files: Iterable[BarFile]) -> list[RebuildUnit]:
    """Return what to rebuild after these hours (since 1970) of exchanges changed. Only whole files can be replaced."""
    wide = {
        (file.exchange, file.day, hour)
        for file in files
        if file.first != file.last
        for hour in range(file.first, file.last + 1)
    }
    changed = [(exchange, *_day_and_hour(hour)) for exchange, hours in touched.items() for hour in hours]
    days = {(exchange, day) for exchange, day, hour in changed if (exchange, day, hour) in wide}
    hours = {(exchange, day, hour) for exchange, day, hour in changed if (exchange, day) not in days}
    if len(hours) > _MAX_HOURS:
        days |= {(exchange, day) for exchange, day, _ in hours}
        hours = set()
    return [RebuildUnit(*key) for key in sorted(days)] + [RebuildUnit(*key) for key in sorted(hours)]


def _day_and_hour(hour: int) -> tuple[date, int]:
    return datetime.fromtimestamp(hour * _HOUR, UTC).date(), hour % _DAY


def bars_of_units(gold: DataFrame, units: Iterable[RebuildUnit]) -> DataFrame:
    """Return the bars of rebuild units: one file for each hour, or for each day of an exchange."""
    units = list(units)
    parts = [bars_of_trades(gold.where(unit.gold_filter())).coalesce(1) for unit in units if unit.hour is not None]
    if days := [unit.gold_filter() for unit in units if unit.hour is None]:
        parts.append(bars_of_trades(gold.where(reduce(or_, days))).repartition("exchange", "exchange_date"))
    return reduce(DataFrame.unionByName, parts)


def bars_of_trades(trades: DataFrame) -> DataFrame:
    """Return one bar for each exchange, symbol and minute that has trades."""
    ordered = F.struct(
        F.col("timestamp").alias("at"), _number().alias("number"), F.col("trade_id").alias("id"), "price"
    )
    minute = F.expr("timestamp_micros(unix_micros(timestamp) div 60000000 * 60000000)").alias("open_time")
    grouped = trades.groupBy("exchange", "symbol", minute).agg(
        F.min(ordered).alias("first"),
        F.max(ordered).alias("last"),
        F.max("price").alias("high"),
        F.min("price").alias("low"),
        exact.total(F.col("quantity")).alias("volume"),
        F.count("*").alias("trade_count"),
        exact.total(exact.product(F.col("price"), F.col("quantity"))).alias("notional"),
    )
    computed = {
        "open": F.col("first.price"),
        "close": F.col("last.price"),
        "vwap": exact.ratio(F.col("notional"), F.col("volume")),
        "first_trade_time": F.col("first.at"),
        "first_id": F.col("first.id"),
        "last_trade_time": F.col("last.at"),
        "last_id": F.col("last.id"),
        "exchange_date": F.to_date("open_time"),
    }
    return grouped.select(
        *(computed.get(column.name, F.col(column.name)).cast(column.type).alias(column.name)
          for column in BARS_TABLE.columns)
    )  # fmt: skip


def _number() -> Column:
    """Return a trade's id as a number, in the order that queries use."""
    number = "try_cast(trade_id AS decimal(20,0))"
    return F.expr(f"CASE WHEN {number} BETWEEN 0 AND {_LAST_NUMBER} THEN {number} ELSE {_LAST_NUMBER} END")
