"""Bronze: undecoded Kafka records."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.jobs.layers import batch_time


def to_bronze(records: DataFrame) -> DataFrame:
    """Return Kafka records with the column names of Bronze and the start time of the batch."""
    return records.select(
        "value",
        "key",
        "topic",
        "partition",
        "offset",
        F.col("timestamp").alias("kafka_timestamp"),
        batch_time.now().alias("bronze_timestamp"),
    )
