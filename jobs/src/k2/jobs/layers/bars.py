"""Bars of a minute, made from Gold's trades, and which of their files a change replaces. Exact: nothing is counted up.

DataFrames in, DataFrames out. Bars are rebuilt from all trades of an hour, or of the day where a file holds more than
that hour; so a trade that comes late corrects its bar, and a rebuild that is done twice changes nothing.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import reduce
from operator import or_
from typing import Final

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.schemas.tables import BARS_TABLE

_HOUR: Final = 3600
_DAY: Final = 24
_MOST_HOURS: Final = 8  # hours that are rebuilt alone; of more, whole days are
_LAST_NUMBER: Final = f"{2**64 - 1}"  # ids without a number come last


@dataclass(frozen=True, slots=True)
class Unit:
    """What is rebuilt as one: an hour of an exchange; without `hour` a day; without `day` all; of every exchange."""

    exchange: str | None = None
    day: date | None = None
    hour: int | None = None

    def of_gold(self) -> Column:
        """The trades that it is made from."""
        rows = self._days()
        return rows if self.hour is None else rows & (F.col("exchange_hour") == self.hour)

    def of_bars(self) -> Column:
        """The bars that it replaces."""
        rows = self._days()
        if self.hour is None or self.day is None:
            return rows
        start = datetime(self.day.year, self.day.month, self.day.day, self.hour, tzinfo=UTC)
        return rows & (F.col("start") >= F.lit(start)) & (F.col("start") < F.lit(start + timedelta(hours=1)))

    def _days(self) -> Column:
        rows = F.lit(True) if self.exchange is None else F.col("exchange") == self.exchange
        return rows if self.day is None else rows & (F.col("exchange_date") == F.lit(self.day))


@dataclass(frozen=True, slots=True)
class File:
    """A file of bars: whose they are, and the first and last hour of the day that it holds."""

    exchange: str
    day: date
    first: int
    last: int


def units(touched: Mapping[str, Iterable[int]], files: Iterable[File]) -> list[Unit]:
    """What must be rebuilt where these hours (since 1970) have changed. Only whole files can be replaced."""
    wide = {
        (file.exchange, file.day, hour)
        for file in files
        if file.first != file.last
        for hour in range(file.first, file.last + 1)
    }
    places = [(exchange, *_placed(hour)) for exchange, hours in touched.items() for hour in hours]
    days = {(exchange, day) for exchange, day, hour in places if (exchange, day, hour) in wide}
    alone = {(exchange, day, hour) for exchange, day, hour in places if (exchange, day) not in days}
    if len(alone) > _MOST_HOURS:
        days |= {(exchange, day) for exchange, day, _ in alone}
        alone = set()
    return [Unit(*place) for place in sorted(days)] + [Unit(*place) for place in sorted(alone)]


def _placed(hour: int) -> tuple[date, int]:
    return datetime.fromtimestamp(hour * _HOUR, UTC).date(), hour % _DAY


def of_units(gold: DataFrame, wanted: Iterable[Unit]) -> DataFrame:
    """The bars of some units, an hour in a file of its own, a day of an exchange in one."""
    wanted = list(wanted)
    parts = [of(gold.where(unit.of_gold())).coalesce(1) for unit in wanted if unit.hour is not None]
    if days := [unit.of_gold() for unit in wanted if unit.hour is None]:
        parts.append(of(gold.where(reduce(or_, days))).repartition("exchange", "exchange_date"))
    return reduce(DataFrame.unionByName, parts)


def of(trades: DataFrame) -> DataFrame:
    """One bar for each exchange, symbol and minute that has trades."""
    place = F.struct(F.col("timestamp").alias("at"), _number().alias("number"), F.col("trade_id").alias("id"), "price")
    minute = F.expr("timestamp_micros(unix_micros(timestamp) div 60000000 * 60000000)").alias("start")
    traded = F.col("price") * F.col("quantity")
    grouped = trades.groupBy("exchange", "symbol", minute).agg(
        F.min(place).alias("first"),
        F.max(place).alias("last"),
        F.max("price").alias("high"),
        F.min("price").alias("low"),
        F.sum("quantity").alias("volume"),
        F.count("*").alias("trades"),
        F.try_sum(traded).alias("notional"),
    )
    found = {
        "open": F.col("first.price"),
        "close": F.col("last.price"),
        "vwap": F.col("notional") / F.col("volume"),
        "first_at": F.col("first.at"),
        "first_id": F.col("first.id"),
        "last_at": F.col("last.at"),
        "last_id": F.col("last.id"),
        "exchange_date": F.to_date("start"),
    }
    return grouped.select(
        *(found.get(column.name, F.col(column.name)).cast(column.type).alias(column.name)
          for column in BARS_TABLE.columns)
    )  # fmt: skip


def _number() -> Column:
    """A trade's id as a number, as queries order by it."""
    number = "try_cast(trade_id AS decimal(20,0))"
    return F.expr(f"CASE WHEN {number} BETWEEN 0 AND {_LAST_NUMBER} THEN {number} ELSE {_LAST_NUMBER} END")
