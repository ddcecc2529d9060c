"""A micro-batch of a streaming query, with everything that a layer derives from it.

The query makes one for each batch that Spark plans. A layer takes it, transforms its rows and commits them under its
epoch and properties, so what a commit records cannot differ from what the layer has read.
"""

import json
import time
from functools import cached_property
from typing import Final, Protocol

from pyspark.sql import DataFrame, SparkSession

from k2.jobs.commit.lineage import BatchContents
from k2.schemas.snapshots import EXCHANGE, OFFSETS, REDRIVEN, ROWS_IN, STARTED, TOPIC_IDS

SMALL_BATCH: Final = 200_000  # rows; up to here one task is faster than a shuffle, and one file better than several


class Source(Protocol):
    """Where a query's rows come from, batch by batch."""

    def rows(self, frame: DataFrame, epoch: int) -> DataFrame:
        """Return the rows of a batch, for which Spark passed `frame`."""

    def contents(self, frame: DataFrame, epoch: int) -> BatchContents:
        """Return the offsets and the number of rows of a batch, for which Spark passed `frame`."""


class IncrementalBatch:
    """One micro-batch. Contents and rows are read once, when first asked for: an empty batch has no rows to read."""

    def __init__(self, source: Source, frame: DataFrame, epoch: int, exchange: str) -> None:
        self.epoch = epoch
        self.started = time.time()  # seconds since 1970
        self._source = source
        self._frame = frame
        self._exchange = exchange

    @property
    def session(self) -> SparkSession:
        """The session of the batch, which Spark clones from the query's."""
        return self._frame.sparkSession

    @cached_property
    def contents(self) -> BatchContents:
        """The Kafka offsets of the batch and the number of its rows."""
        return self._source.contents(self._frame, self.epoch)

    @cached_property
    def rows(self) -> DataFrame:
        """The rows of the batch."""
        return self._source.rows(self._frame, self.epoch)

    @property
    def properties(self) -> dict[str, str]:
        """The snapshot properties that every commit of the batch has."""
        return {
            EXCHANGE: self._exchange,
            STARTED: str(int(self.started * 1e6)),
            OFFSETS: json.dumps(self.contents.offsets, separators=(",", ":")),
            TOPIC_IDS: json.dumps(self.contents.topic_ids, separators=(",", ":")),
            ROWS_IN: str(self.contents.rows),
            **({REDRIVEN: json.dumps(self.contents.redriven)} if self.contents.redriven else {}),
        }

    def coalesce(self, rows: DataFrame) -> DataFrame:
        """Return `rows`, derived from the batch, in a partition for each 200,000 of the batch.

        Spark reads each partition of a topic in a task of its own, and each task leaves a file.
        """
        return rows.coalesce(-(-self.contents.rows // SMALL_BATCH))

    def coalesce_small(self, rows: DataFrame) -> DataFrame:
        """Return `rows`, derived from the batch, in one partition if the batch is small."""
        return rows.coalesce(1) if self.contents.rows <= SMALL_BATCH else rows
