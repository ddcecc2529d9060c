"""Bronze tables: Kafka records, not decoded."""

from k2.schemas.tables.spec import KAFKA_POSITION, Column, Partition, Table, without_dictionary


def bronze(exchange: str, channel: str) -> Table:
    """Return the table of one exchange's Kafka records of a channel, not decoded."""
    return Table(
        f"bronze_{exchange}_{channel}",
        (
            Column("value", "binary", "the complete Kafka value, header included"),
            Column("key", "binary", "the Kafka key"),
            *KAFKA_POSITION,
            Column("kafka_timestamp", "timestamp", "the record's own timestamp"),
            Column("bronze_timestamp", "timestamp", "when the batch that stored it began"),
        ),
        (Partition("kafka_timestamp", "day"),),
        properties={
            "write.metadata.metrics.column.value": "none",
            **without_dictionary("value", "offset", "kafka_timestamp"),
        },
    )
