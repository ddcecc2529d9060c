"""Silver tables: valid trades of one exchange, and dead letters of all."""

from typing import Final

from k2.schemas.tables.spec import (
    DISTINCT_COLUMNS,
    KAFKA_POSITION,
    TRADE_FIELDS,
    Column,
    Partition,
    Table,
    without_dictionary,
)

DEAD_LETTERS: Final = "silver_dlq_trades"


def silver(exchange: str) -> Table:
    """Valid trades of one exchange, typed; a trade that arrived twice is here twice."""
    return Table(
        f"silver_{exchange}_trades",
        (
            *TRADE_FIELDS,
            Column("vendor_data", "map<string,string>", "what else the exchange sent"),
            Column("schema_id", "int", "the writer schema that the header named"),
            *KAFKA_POSITION,
            Column("bronze_timestamp", "timestamp", "when Bronze stored it"),
            Column("validation_timestamp", "timestamp", "when Silver judged it"),
        ),
        (Partition("timestamp", "day"),),
        properties=without_dictionary(*DISTINCT_COLUMNS, "offset"),
    )


DEAD_LETTERS_TABLE: Final = Table(
    DEAD_LETTERS,
    (
        Column("value", "binary", "the complete Kafka value"),
        Column("exchange", "string", "whose topic it came from"),
        *KAFKA_POSITION,
        Column("schema_id", "int", "from the header, where there is one"),
        Column("error_category", "string", "MALFORMED_HEADER, UNKNOWN_SCHEMA, ..."),
        Column("error_message", "string", "what was found, for a person"),
        Column("dlq_timestamp", "timestamp", "when Silver judged it"),
    ),
    (Partition("dlq_timestamp", "day"),),
)
