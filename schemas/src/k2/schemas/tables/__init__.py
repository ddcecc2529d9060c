"""Specs of all Iceberg tables. Spark and PyIceberg create tables from these only."""

from typing import Final

from k2.schemas.tables.audit import (
    BATCHES,
    BATCHES_TABLE,
    COMPLETENESS,
    COMPLETENESS_TABLE,
    GAPS,
    GAPS_TABLE,
)
from k2.schemas.tables.bronze import bronze
from k2.schemas.tables.gold import BARS, BARS_TABLE, GOLD, GOLD_TABLE, day_tag
from k2.schemas.tables.silver import DEAD_LETTERS, DEAD_LETTERS_TABLE, silver
from k2.schemas.tables.spec import CATALOG, NAMESPACE, TRADE_COLUMNS, Column, Partition, Table

__all__ = [
    "BARS",
    "BARS_TABLE",
    "BATCHES",
    "BATCHES_TABLE",
    "CATALOG",
    "COMPLETENESS",
    "COMPLETENESS_TABLE",
    "DEAD_LETTERS",
    "DEAD_LETTERS_TABLE",
    "GAPS",
    "GAPS_TABLE",
    "GOLD",
    "GOLD_TABLE",
    "NAMESPACE",
    "SHARED",
    "TRADE_COLUMNS",
    "Column",
    "Partition",
    "Table",
    "bronze",
    "day_tag",
    "of_exchange",
    "silver",
]

SHARED: Final = (DEAD_LETTERS_TABLE, GOLD_TABLE, BARS_TABLE, GAPS_TABLE, COMPLETENESS_TABLE, BATCHES_TABLE)


def of_exchange(exchange: str) -> tuple[Table, ...]:
    """Return the tables of one exchange and those that all exchanges share."""
    return bronze(exchange), silver(exchange), *SHARED
