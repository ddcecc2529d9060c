"""Bronze of a wide topic: a batch leaves few files, however many partitions the topic has."""

import pytest
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.jobs.commit.incremental_batch import SMALL_BATCH, IncrementalBatch
from k2.jobs.commit.lineage import BatchContents
from k2.jobs.layers.batches import BronzeLayer
from k2.jobs.telemetry.metrics import LayerState
from k2.schemas.channels import TRADES
from tests.spark.builders import HOUR, Lake

pytestmark = pytest.mark.spark

PARTITIONS = 40


class Backlog:
    """A source of one batch of rows, as many in each partition of a topic."""

    def __init__(self, rows: int) -> None:
        self._each = rows // PARTITIONS

    def rows(self, frame, epoch):
        return frame

    def contents(self, frame, epoch):
        offsets = {str(partition): [0, self._each - 1] for partition in range(PARTITIONS)}
        return BatchContents({"topic": offsets}, self._each * PARTITIONS, {"topic": "id"})


@pytest.mark.parametrize(("rows", "files_a_day"), [(400, 1), (SMALL_BATCH + PARTITIONS, 2)])
def test_a_batch_leaves_a_file_a_day_for_each_200_000_of_its_rows(lake: Lake, rows: int, files_a_day: int):
    lake.feed()
    number = F.col("id")
    at = F.lit(HOUR).cast("timestamp") + F.make_interval(days=number % 2)
    frame = lake.spark.range(0, rows, 1, PARTITIONS).select(
        F.lit(b"value").alias("value"), F.lit(b"key").alias("key"), F.lit("topic").alias("topic"),
        (number % PARTITIONS).cast("int").alias("partition"), (number / PARTITIONS).cast("bigint").alias("offset"),
        at.alias("timestamp"), F.lit(0).alias("timestampType"),
    )  # fmt: skip
    layer = BronzeLayer(lake.spark, TRADES, "binance", LayerState("bronze", "trades", "binance", "binance", 10.0))
    layer.begin("query")
    layer.commit(IncrementalBatch(Backlog(rows), frame, 0, "BINANCE"))
    assert lake.bronze().count() == rows
    files = lake.spark.table(f"{TRADES.bronze('binance').identifier}.files").groupBy("partition").count().collect()
    assert [row["count"] for row in files] == [files_a_day] * 2
