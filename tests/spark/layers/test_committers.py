"""Two processes of one query, as `tests/unit/jobs/commit/test_committers.py` has them, on real tables."""

import pytest
from pyspark.sql import DataFrame

from k2.jobs.commit.incremental_batch import IncrementalBatch
from k2.jobs.commit.lineage import BatchContents
from k2.jobs.layers.batches import BronzeLayer
from k2.jobs.spark.local_frames import local_frame
from k2.jobs.telemetry.metrics import LayerState
from k2.schemas.channels import TRADES
from tests.spark.builders import HOUR, Lake, numbers, trade
from tests.unit.jobs.commit.test_committers import TOPIC, History

pytestmark = pytest.mark.spark

KAFKA = "value binary, key binary, topic string, partition int, offset bigint, timestamp timestamp"


class Driver:
    """A process that commits to Bronze; the source of its own batches."""

    def __init__(self, history: History, lake: Lake) -> None:
        self._history, self._lake = history, lake
        self._layer = BronzeLayer(lake.spark, TRADES, "binance", LayerState("bronze", "trades", "binance", "b", 10.0))
        self._layer.begin(history.query)

    def rows(self, frame: DataFrame, epoch: int) -> DataFrame:
        return frame

    def contents(self, frame: DataFrame, epoch: int) -> BatchContents:
        return self._history.contents(epoch)

    def commit(self, epoch: int) -> None:
        first, last = self._history.ranges[epoch]
        place = {"key": b"BTCUSDT", "topic": TOPIC, "partition": self._history.partition, "timestamp": HOUR}
        rows = [
            {"value": self._lake.record(_trade(self._history.partition, offset)).value, "offset": offset, **place}
            for offset in range(first, last + 1)
        ]
        frame = local_frame(self._lake.spark, rows, KAFKA)
        self._layer.commit(IncrementalBatch(self, frame, epoch, "BINANCE"))


def _trade(partition: int, offset: int):
    return trade(partition * 1000 + offset, HOUR)


@pytest.mark.parametrize("seeds", [range(2), pytest.param(range(2, 12), marks=pytest.mark.slow)], ids=["two", "ten"])
def test_each_record_is_there_once_whatever_process_commits(lake: Lake, seeds: range):
    feed = lake.feed()
    histories = [History(seed, lambda history: Driver(history, lake)) for seed in seeds]
    for history in histories:
        history.run()
    rows = lake.bronze().select("partition", "offset").orderBy("partition", "offset").collect()
    assert [tuple(row) for row in rows] == [(one.partition, offset) for one in histories for offset in one.offsets]
    assert any(history.refused for history in histories)  # a zombie was there
    lake.run(feed, "silver", "gold")
    assert numbers(lake.gold) == [one.partition * 1000 + offset for one in histories for offset in one.offsets]
