"""Specs of all Iceberg tables. Spark and PyIceberg create tables from these only."""

from k2.schemas.tables.audit import (
    BATCHES,
    BATCHES_TABLE,
    COMPLETENESS,
    COMPLETENESS_TABLE,
    EVIDENCE,
    EVIDENCE_TABLE,
    GAPS,
    GAPS_TABLE,
)
from k2.schemas.tables.bronze import bronze
from k2.schemas.tables.gold import (
    BARS,
    BARS_TABLE,
    GOLD,
    GOLD_QUOTES_TABLE,
    GOLD_TABLE,
    QUOTE_DISTINCT_COLUMNS,
    day_tag,
    gold,
    hour_tag,
    month_tag,
)
from k2.schemas.tables.instruments import INSTRUMENTS, INSTRUMENTS_TABLE
from k2.schemas.tables.silver import DEAD_LETTERS, DEAD_LETTERS_TABLE, silver
from k2.schemas.tables.spec import (
    CATALOG,
    DISTINCT_COLUMNS,
    NAMESPACE,
    QUOTE_FIELDS,
    TRADE_COLUMNS,
    TRADE_FIELDS,
    Column,
    Partition,
    Table,
)

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
    "DISTINCT_COLUMNS",
    "EVIDENCE",
    "EVIDENCE_TABLE",
    "GAPS",
    "GAPS_TABLE",
    "GOLD",
    "GOLD_QUOTES_TABLE",
    "GOLD_TABLE",
    "INSTRUMENTS",
    "INSTRUMENTS_TABLE",
    "NAMESPACE",
    "QUOTE_DISTINCT_COLUMNS",
    "QUOTE_FIELDS",
    "TRADE_COLUMNS",
    "TRADE_FIELDS",
    "Column",
    "Partition",
    "Table",
    "bronze",
    "day_tag",
    "gold",
    "hour_tag",
    "month_tag",
    "silver",
]
