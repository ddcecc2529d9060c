"""The time of a batch is correct and does not make Spark recompile the batch's code."""

from datetime import UTC, datetime, timedelta

import pytest
from pyspark.sql import SparkSession

from k2.jobs.layers import batch_time
from tests.spark.builders import Lake, trade

pytestmark = pytest.mark.spark


def test_now_is_now_and_the_same_in_every_row(spark: SparkSession):
    before = datetime.now(UTC)
    times = {row[0] for row in spark.range(1000, numPartitions=4).select(batch_time.now()).collect()}
    assert len(times) == 1
    assert before <= times.pop().replace(tzinfo=UTC) <= before + timedelta(minutes=1)


def compilations(spark: SparkSession) -> int:
    """Return how often Spark has compiled generated code."""
    metrics = spark._jvm.org.apache.spark.metrics.source.CodegenMetrics
    return metrics.METRIC_COMPILATION_TIME().getCount()


def test_the_code_of_a_batch_is_compiled_once(lake: Lake, spark: SparkSession):
    feed, counts = lake.feed(), []
    for number in range(4):
        lake.arrive(feed, [trade(number * 10 + index) for index in range(10)])
        lake.run(feed, "silver")
        lake.run(feed, "gold")
        counts.append(compilations(spark))
    assert counts[0] > 0
    assert counts[-1] == counts[-2]
