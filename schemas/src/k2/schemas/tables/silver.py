"""Silver tables: valid records of one exchange and channel, and the dead letters of all."""

from collections.abc import Iterable
from typing import Final

from k2.schemas.tables.spec import KAFKA_POSITION, Column, Partition, Table, without_dictionary

DEAD_LETTERS: Final = "silver_dlq_trades"


def silver(
    exchange: str,
    channel: str,
    columns: Iterable[Column],
    time: str,
    distinct: Iterable[str],
    sort: tuple[str, ...] = (),
) -> Table:
    """Return the table of one exchange's valid records of a channel, typed and not deduplicated.

    It is partitioned by the day of the column `time`. `distinct` are columns whose values are mostly distinct. `sort`
    orders the rows within a file; without it they are in the order of Kafka.
    """
    return Table(
        f"silver_{exchange}_{channel}",
        (
            *columns,
            Column("schema_id", "int", "id of the writer schema, from the header"),
            *KAFKA_POSITION,
            Column("bronze_timestamp", "timestamp", "when Bronze stored it"),
            Column("validation_timestamp", "timestamp", "when Silver validated it"),
        ),
        (Partition(time, "day"),),
        sort=sort,
        properties=without_dictionary(*distinct, "offset"),
    )


DEAD_LETTERS_TABLE: Final = Table(
    DEAD_LETTERS,
    (
        Column("value", "binary", "the complete Kafka value"),
        Column("exchange", "string", "exchange of the topic"),
        Column("channel", "string", "channel of the topic"),
        *KAFKA_POSITION,
        Column("schema_id", "int", "id of the writer schema, from the header; null if malformed"),
        Column("error_category", "string", "MALFORMED_HEADER, UNKNOWN_SCHEMA, ..."),
        Column("error_message", "string", "explanation for people"),
        Column("dead_lettered_at", "timestamp", "when Silver validated it"),
    ),
    (Partition("dead_lettered_at", "day"),),
)
