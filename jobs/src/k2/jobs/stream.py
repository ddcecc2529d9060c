"""One streaming query of one feed and channel: its source, checkpoint and batch handler, how it starts and drains."""

import fcntl
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming.query import StreamingQuery
from pyspark.sql.streaming.readwriter import DataStreamWriter

from k2.common import logs, tracing
from k2.common.platform import Platform
from k2.common.schema_registry import Registry, RegistryUnavailable, SchemaCache
from k2.jobs import kafka_admin
from k2.jobs.commit import checkpoints, lost_records
from k2.jobs.commit.checkpoints import STARTS, Checkpoint, path
from k2.jobs.commit.incremental_batch import IncrementalBatch, Source
from k2.jobs.commit.lineage import KafkaTopic, UpstreamTable
from k2.jobs.commit.lost_records import RecordsLost
from k2.jobs.commit.snapshots import SnapshotHistory
from k2.jobs.commit.topic_identity import TopicIdentity
from k2.jobs.layers.batches import BronzeLayer, GoldLayer, Layer, LayerSequence, SilverLayer
from k2.jobs.layers.gaps import GapsLayer
from k2.jobs.layers.instruments import InstrumentsLayer
from k2.jobs.spark.filesystem import FileSystem
from k2.jobs.telemetry import error_summary
from k2.jobs.telemetry.metrics import LayerState
from k2.schemas import topics
from k2.schemas.channels import TRADES, Channel
from k2.schemas.codecs import avro
from k2.schemas.feed.model import ExchangeFeed
from k2.schemas.formats import FORMAT, OtherFormat
from k2.schemas.states import QueryState
from k2.schemas.tables import Table
from k2.schemas.values import seconds

log = logs.get("jobs")

BRONZE: Final = "bronze"
SILVER: Final = "silver"
GOLD: Final = "gold"
GAPS: Final = "gaps"
LAYER_ORDER: Final = (BRONZE, SILVER, GOLD, GAPS)

_DRAIN_TIMEOUT: Final = 300  # seconds
_MAX_OFFSETS: Final = 1_000_000  # a Bronze batch that fits the memory of a small driver


class NotDrained(RuntimeError):
    """A query has not processed all available data within the time for it."""


class CheckpointInUse(RuntimeError):
    """Another process runs the query of this checkpoint."""


class BatchFailed(RuntimeError):
    """A micro-batch failed with an error of Java; the text is `error_summary.searchable`."""


class Stream:
    """One streaming query. `start` follows the feed's trigger; `drain` processes the available data and stops.

    `channel` is None for gaps, their evidence and instruments, each in one topic for all channels of a feed.
    """

    def __init__(
        self,
        spark: SparkSession,
        feed: ExchangeFeed,
        platform: Platform,
        channel: Channel | None,
        layer: str,
        state: LayerState,
    ) -> None:
        self.feed = feed
        self.channel = channel
        self.layer = layer
        self.state = state
        self.query: StreamingQuery | None = None
        self._spark = spark
        self._platform = platform
        self._folder = path(platform.checkpoints, feed.name, query_folder(channel, layer))
        self._files = FileSystem(spark)
        self._lock: Any = None
        self.kafka = kafka_admin.KafkaTopics(platform.kafka)
        self.identity = TopicIdentity(self.checkpoint, self.subscribed, self.kafka.ids)
        self._schemas = SchemaCache(Registry(platform.registry), topics.subject(self._avro_topic))
        self._handler = self._build_layer()

    @property
    def name(self) -> str:
        """`<feed>-<channel>-<layer>`, or `<feed>-gaps`."""
        return "-".join((self.feed.name, *query_folder(self.channel, self.layer).split("/")))

    @property
    def checkpoint(self) -> Checkpoint:
        """The query's checkpoint."""
        return Checkpoint(self._files, self._folder)

    def waiting_reason(self) -> str:
        """Return why the query cannot start yet; empty if it can. Spark's Kafka source fails on a missing topic."""
        if not self._reads_kafka:
            return ""
        kafka = self._platform.kafka
        return next(filter(None, (kafka_admin.missing_topic_reason(kafka, topic) for topic in self.subscribed)), "")

    def start(self) -> None:
        """Start the query.

        Raises `OtherFormat` for a checkpoint or topic of another format, `BrokenCheckpoint`, `CheckpointInUse`,
        `TopicReplaced`, `KafkaUnavailable`, and `RegistryUnavailable` if Silver cannot tell the format of its topic.
        """
        self._check_topic()
        self._start({"processingTime": f"{int(seconds(_trigger(self.feed, self.layer)) * 1000)} milliseconds"})

    def drain(self) -> None:
        """Process all available data, then stop."""
        if self._reads_kafka:
            self._start({"availableNow": True})
            return
        # With `availableNow` Iceberg's source loads the snapshot that the query first started with; it may be expired.
        self._start({"processingTime": "0 seconds"})
        assert self.query is not None
        self.query.processAllAvailable()
        self.query.stop()

    def await_drained(self) -> None:
        """Wait until `drain` is done. Raises `NotDrained` after five minutes, and Spark's error if the query failed."""
        assert self.query is not None
        if not self.query.awaitTermination(_DRAIN_TIMEOUT):
            raise NotDrained(f"still not done after {_DRAIN_TIMEOUT} seconds; the next start goes on from there")

    def stop_between_batches(self, timeout: float) -> None:
        """Stop a running query between two batches, or within one after `timeout` seconds."""
        if self.query is None:
            return
        deadline = time.monotonic() + timeout
        while self.query.isActive and self.query.status["isTriggerActive"] and time.monotonic() < deadline:
            time.sleep(0.02)
        self.query.stop()

    def _start(self, trigger: dict[str, Any]) -> None:
        self._check_folders()
        self._lock_checkpoint()
        try:
            self._check_position()
        except BaseException:
            self.release_checkpoint()
            raise
        self._count_rows()
        writer = self._writer().trigger(**trigger)
        writer = writer.queryName(self.name).option("checkpointLocation", self._folder)
        self.query = writer.start()
        self.state.state = QueryState.RUNNING

    def _check_position(self) -> None:
        """Raise `BrokenCheckpoint` unless the query can go on where its checkpoint says, without skipping anything."""
        self.checkpoint.check()
        if self._reads_kafka:
            self.identity.begin()
            if lost := lost_records.find(self.position(), self.kafka.first_offsets(self.subscribed)):
                raise RecordsLost(lost_records.sentence(lost))

    def _writer(self) -> DataStreamWriter:
        return self._stream().writeStream.foreachBatch(self._batch_function(self._handler, self._source()))

    def _batch_function(self, layer: Layer, source: Source) -> Callable[[DataFrame, int], None]:
        """Return the function for Spark, which calls `begin` as soon as the checkpoint has a query id."""
        begun, label = self.checkpoint.progress() is not None, self.feed.exchange_spec.label
        if begun:
            layer.begin(self.checkpoint.query_id())

        @_searchable_errors()
        def run(frame: DataFrame, epoch: int) -> None:
            nonlocal begun
            if not begun:
                layer.begin(self.checkpoint.query_id())
                begun = True
            with tracing.span("micro-batch", {"k2.feed": self.feed.name, "k2.query": self.name, "k2.epoch": epoch}):
                layer.commit(IncrementalBatch(source, frame, epoch, label))

        return run

    def _build_layer(self) -> Layer:
        exchange, label = self.feed.spec.exchange, self.feed.exchange_spec.label
        if self.channel is None:
            instruments = InstrumentsLayer(exchange, label, self._schemas.schemas)
            return LayerSequence(GapsLayer(self.feed.name, exchange, label), instruments)
        if self.layer == BRONZE:
            return BronzeLayer(self._spark, self.channel, exchange, self.state)
        if self.layer == SILVER:
            return SilverLayer(self._spark, self.channel, exchange, label, self._schemas.schemas, self.state)
        return GoldLayer(self._spark, self.channel, label, self.state)

    def _source(self) -> Source:
        if self._reads_kafka:
            return KafkaTopic(self.checkpoint, self.identity)
        return UpstreamTable(self._spark, self._upstream, self._topic, self.checkpoint)

    @property
    def _reads_kafka(self) -> bool:
        return self.layer in {BRONZE, GAPS}

    @property
    def _upstream(self) -> Table:
        assert self.channel is not None
        return (self.channel.bronze if self.layer == SILVER else self.channel.silver)(self.feed.spec.exchange)

    def _stream(self) -> DataFrame:
        if self._reads_kafka:
            return self._kafka(self.subscribed)
        return (
            self._spark.readStream.format("iceberg")
            # Compaction and retention rewrite and delete rows; neither adds one.
            .option("streaming-skip-delete-snapshots", "true")
            .option("streaming-skip-overwrite-snapshots", "true")
            .load(self._upstream.identifier)
        )

    def _kafka(self, subscribed: tuple[str, ...]) -> DataFrame:
        return (
            self._spark.readStream.format("kafka")
            .options(**self._platform.kafka.spark_options())
            .option("subscribe", ",".join(subscribed))
            .option("startingOffsets", self.checkpoint.read(STARTS) or "earliest")
            .option("failOnDataLoss", "true")
            .option("maxOffsetsPerTrigger", str(_MAX_OFFSETS))
            .load()
        )

    def _count_rows(self) -> None:
        """Set the row count of the layer at the start. Gold is a shared table, so `GoldLayer` counts its own rows."""
        if self.table is None or self.layer == GOLD:
            return
        newest = next(SnapshotHistory(self._spark, self.table).snapshots(), None)
        self.state.rows = int(newest.summary.get("total-records", 0)) if newest else 0

    @property
    def _topic(self) -> str:
        """The topic whose records the query processes, whether it reads them from Kafka or from a table."""
        return topics.gaps(self.feed.spec.exchange) if self.channel is None else self.feed.topic(self.channel)

    @property
    def subscribed(self) -> tuple[str, ...]:
        """The topics that a query of Kafka reads."""
        if self.channel is not None:
            return (self._topic,)
        return self._topic, topics.evidence(self.feed.spec.exchange), topics.instruments(self.feed.spec.exchange)

    @property
    def _avro_topic(self) -> str:
        """The topic whose schemas the query needs."""
        return topics.instruments(self.feed.spec.exchange) if self.channel is None else self._topic

    def _check_topic(self) -> None:
        """Raise `OtherFormat` if the topic has records of another format, according to their schemas.

        Bronze does not decode them and starts without the registry too, as does the query of gaps, which needs it for
        instruments only; Silver then raises `RegistryUnavailable`.
        """
        if self.layer == GOLD:
            return
        try:
            schemas = self._schemas.schemas()
        except RegistryUnavailable as error:
            if self.layer == SILVER:
                raise
            log.warning("format of the topic not checked", query=self.name, error=str(error))
            return
        for text in schemas.values():
            if (actual := avro.format_of(text)) != FORMAT:
                raise OtherFormat(f"the topic {self._avro_topic}", actual)

    def _check_folders(self) -> None:
        """Raise `OtherFormat` if the query has a checkpoint of another format, in the layout of any release."""
        checkpoints.check_format(self._files, self._folder)
        if self.channel is TRADES:  # only trades had checkpoints in the oldest layout
            checkpoints.check_format(self._files, path(self._platform.checkpoints, self.feed.name, self.layer))

    def _lock_checkpoint(self) -> None:
        """Lock a local checkpoint for this process. For a bucket, the Spark operator runs one driver an application."""
        if self._lock is not None or urlsplit(self._folder).scheme not in {"", "file"}:
            return
        lock = Path(urlsplit(self._folder).path) / ".lock"
        lock.parent.mkdir(parents=True, exist_ok=True)
        self._lock = lock.open("a")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            self._lock = None
            raise CheckpointInUse(f"{self._folder} is used by another process; stop it first") from error

    def position(self) -> dict[str, dict[str, int]]:
        """Return the next offsets that the query reads of Kafka, by topic and partition; empty before its start."""
        progress = self.checkpoint.progress()
        if progress is None:
            return {}
        if progress.committed or self._is_written(progress.epoch):
            return dict(progress.end)
        return dict(self.checkpoint.end(progress.epoch - 1) if progress.epoch else self.checkpoint.initial())

    def _is_written(self, epoch: int) -> bool:
        """Whether the table has a batch that the checkpoint has not, because the process was killed in between."""
        if self.table is None:
            return False
        newest = SnapshotHistory(self._spark, self.table).newest_of_query(self.checkpoint.query_id())
        return newest is not None and newest.epoch >= epoch

    @property
    def table(self) -> Table | None:
        """The table of the query's records; None for gaps, whose merges can be repeated."""
        if self.channel is None:
            return None
        if self.layer == GOLD:
            return self.channel.gold
        return (self.channel.bronze if self.layer == BRONZE else self.channel.silver)(self.feed.spec.exchange)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from running the query. Raises `CheckpointInUse`."""
        self._lock_checkpoint()
        try:
            yield
        finally:
            self.release_checkpoint()

    def release_checkpoint(self) -> None:
        """Let other processes run the query again."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def query_folder(channel: Channel | None, layer: str) -> str:
    """Return the folder of a query among the checkpoints of its feed; `channel` is None for the gaps."""
    return layer if channel is None else f"{channel.name}/{layer}"


def initial_state(feed: ExchangeFeed, channel: Channel | None, layer: str) -> LayerState:
    """Return the state of a layer before its first batch; `channel` is None for the gaps."""
    name = "" if channel is None else channel.name
    return LayerState(layer, name, feed.spec.exchange, feed.name, seconds(_trigger(feed, layer)))


def _trigger(feed: ExchangeFeed, layer: str) -> str:
    layers = feed.spec.layers
    return {BRONZE: layers.bronze, SILVER: layers.silver}.get(layer, layers.gold).trigger


@contextmanager
def _searchable_errors() -> Iterator[None]:
    """Raise `BatchFailed` for an error of Java, as which Spark can search it, and any other error as it is."""
    try:
        yield
    except Exception as error:
        text = "".join(traceback.format_exception(error))
        if (searchable := error_summary.searchable(text)) == text:
            raise
        raise BatchFailed(searchable) from None  # py4j passes on the texts of all errors in the chain


def failure_reason(query: StreamingQuery) -> str:
    """Return why a query failed, in one line; empty if it was stopped or completed."""
    error = query.exception()
    if error is None:
        return ""
    return error_summary.summarize(error_summary.full_text(error))
