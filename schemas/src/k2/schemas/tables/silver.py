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
    """Return the table of one exchange's valid trades, typed and not deduplicated."""
    return Table(
        f"silver_{exchange}_trades",
        (
            *TRADE_FIELDS,
            Column("vendor_data", "map<string,string>", "further fields of the exchange"),
            Column("schema_id", "int", "id of the writer schema, from the header"),
            *KAFKA_POSITION,
            Column("bronze_timestamp", "timestamp", "when Bronze stored it"),
            Column("validation_timestamp", "timestamp", "when Silver validated it"),
        ),
        (Partition("timestamp", "day"),),
        properties=without_dictionary(*DISTINCT_COLUMNS, "offset"),
    )


DEAD_LETTERS_TABLE: Final = Table(
    DEAD_LETTERS,
    (
        Column("value", "binary", "the complete Kafka value"),
        Column("exchange", "string", "exchange of the topic"),
        *KAFKA_POSITION,
        Column("schema_id", "int", "id of the writer schema, from the header; null if malformed"),
        Column("error_category", "string", "MALFORMED_HEADER, UNKNOWN_SCHEMA, ..."),
        Column("error_message", "string", "explanation for people"),
        Column("dlq_timestamp", "timestamp", "when Silver validated it"),
    ),
    (Partition("dlq_timestamp", "day"),),
)
