"""Bronze: Kafka records as they are, undecoded."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.jobs.layers import batch_time


def stored(records: DataFrame) -> DataFrame:
    """Kafka's columns under Bronze's names, with the time at which the batch began."""
    return records.select(
        "value",
        "key",
        "topic",
        "partition",
        "offset",
        F.col("timestamp").alias("kafka_timestamp"),
        batch_time.now().alias("bronze_timestamp"),
    )
