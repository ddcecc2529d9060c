"""`python -m k2.jobs.redrive --feed FILE --category NAME`: judge Silver's dead letters of a category again.

After a rule or a schema was mended, records that were rejected by mistake belong into Silver. Those that are valid now
are appended to it, in one commit that names itself a redrive, and Gold reads them like any others; then they are
deleted from the dead letters. The others stay what they are. A redrive that was interrupted between the two commits is
finished by the next one: what Silver has is never appended again.
"""

import argparse
import fcntl
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.common import logs
from k2.common.platform import Platform
from k2.common.schema_registry import Registry, SchemaCache
from k2.jobs import bootstrap
from k2.jobs.commit.appender import Appender
from k2.jobs.commit.incremental_batch import IncrementalBatch
from k2.jobs.commit.lineage import BatchContents, from_rows
from k2.jobs.commit.retry import retry_on_conflict
from k2.jobs.commit.snapshots import SnapshotHistory
from k2.jobs.feed_channels import feed_channels
from k2.jobs.layers import conflicts, silver
from k2.jobs.spark import tables as spark_tables
from k2.schemas import tables, topics
from k2.schemas.channels import Channel, exchange_tables
from k2.schemas.feed.model import ExchangeFeed
from k2.schemas.snapshots import REDRIVE_QUERY, REDRIVEN, SCHEMAS, TOPIC_IDS

log = logs.get("redrive")

_POSITION: Final = ("topic", "partition", "offset")


class RedriveRuns(RuntimeError):
    """Another process judges dead letters of the feed again."""


@dataclass(frozen=True, slots=True)
class Redriven:
    """What became of the dead letters of a category."""

    exchange: str
    channel: str
    category: str
    valid: int = 0  # now in Silver
    came_back: dict[str, int] = field(default_factory=dict)  # still dead letters, by what is wrong with them now
    not_in_bronze: int = 0  # not judged: Bronze does not have the record any more
    finished: int = 0  # in Silver since a redrive that was interrupted


class _Rows:
    """Bronze rows as the source of a batch."""

    def __init__(self, rows: DataFrame) -> None:
        self._rows = rows

    def rows(self, frame: DataFrame, epoch: int) -> DataFrame:
        return self._rows

    def contents(self, frame: DataFrame, epoch: int) -> BatchContents:
        # Without ranges, all of Silver counts as earlier: what it has was accepted before these rows are judged.
        return BatchContents({}, frame.count())


class Redrive:
    """Judges the dead letters of one channel of a feed again. `schemas` returns the writer schemas by id."""

    def __init__(
        self, spark: SparkSession, feed: ExchangeFeed, channel: Channel, schemas: Callable[[], Mapping[int, str]]
    ) -> None:
        self._spark = spark
        self._channel = channel
        self._exchange, self._label = feed.spec.exchange, feed.exchange_spec.label
        self._topic = feed.topic(channel)
        self._name = f"{REDRIVE_QUERY}{feed.name}-{datetime.now(UTC):%Y%m%dT%H%M%S%f}"
        self._schemas = schemas

    def run(self, category: str) -> Redriven:
        """Judge one category; return what became of it. Raises `RegistryUnavailable`."""
        origin = self._label, self._channel.name, category
        dead_letters = self._dead_letters(category).select(*_POSITION).persist()
        finished = dead_letters.join(self._silver(), list(_POSITION), "left_semi").count()
        if finished:
            self._delete(category)
        pending = dead_letters.join(self._silver(), list(_POSITION), "left_anti")
        bronze = self._spark.table(self._channel.bronze(self._exchange).identifier)
        rows = bronze.join(pending, list(_POSITION), "left_semi").persist()
        judged, total = rows.count(), pending.count()
        came_back: dict[str, int] = {}
        if judged:
            came_back = self._judge(rows)
        valid = judged - sum(came_back.values())
        if valid:
            self._delete(category)
        dead_letters.unpersist()
        rows.unpersist()
        log.info("redriven", category=category, valid=valid, came_back=came_back)
        return Redriven(*origin, valid, came_back, total - judged, finished)

    def _judge(self, rows: DataFrame) -> dict[str, int]:
        """Append the valid ones of some Bronze rows to Silver; count the others by what is wrong with them."""
        batch = IncrementalBatch(_Rows(rows), rows, 0, self._label)
        schemas = self._schemas()
        rejected = conflicts.find(batch, self._channel, self._exchange, self._label, schemas)
        validated = silver.validated(rows, self._channel, schemas, self._label)
        judged = conflicts.marked(validated, rejected).persist()
        wrong = judged.where("error_category IS NOT NULL").groupBy("error_category").count().collect()
        valid = silver.records(judged, self._channel)
        if by_topic := {row["topic"]: row["count"] for row in valid.groupBy("topic").count().collect()}:
            self._append(batch.coalesce_small(valid), by_topic, schemas)
        judged.unpersist()
        return {row["error_category"]: row["count"] for row in sorted(wrong)}

    def _append(self, valid: DataFrame, by_topic: Mapping[str, int], schemas: Mapping[int, str]) -> None:
        """Append rows in one commit, the first and only one of a query with the redrive's name."""
        table = self._channel.silver(self._exchange)
        contents = from_rows(valid, self._topic_ids(by_topic))
        batch = IncrementalBatch(_Contents(contents), valid, 0, self._label)
        properties = batch.properties | {
            REDRIVEN: json.dumps(dict(by_topic)),
            SCHEMAS: json.dumps(sorted(schemas)),
        }
        Appender(self._spark, table, self._name).append(valid, 0, properties)

    def _topic_ids(self, by_topic: Mapping[str, int]) -> dict[str, str]:
        """Return the ids of topics, by the newest commits of Silver that name them."""
        ids: dict[str, str] = {}
        for snapshot in SnapshotHistory(self._spark, self._channel.silver(self._exchange)).snapshots():
            ids = {
                topic: str(topic_id)
                for topic, topic_id in json.loads(snapshot.summary.get(TOPIC_IDS, "{}")).items()
                if topic in by_topic
            } | ids
            if ids.keys() >= by_topic.keys():
                break
        return ids

    def _silver(self) -> DataFrame:
        return self._spark.table(self._channel.silver(self._exchange).identifier).select(*_POSITION)

    def _dead_letters(self, category: str) -> DataFrame:
        return self._spark.table(tables.DEAD_LETTERS_TABLE.identifier).where(self._own(category))

    def _own(self, category: str, table: str = "") -> Column:
        def column(name: str) -> Column:
            return F.col(f"{table}.{name}" if table else name)

        again = column("topic").startswith(topics.remade(self._topic, ""))
        return (
            (column("exchange") == self._label)
            & (column("channel") == self._channel.name)
            & (column("error_category") == category)
            & ((column("topic") == self._topic) | again)
        )

    def _delete(self, category: str) -> None:
        """Delete the dead letters of the category that are in Silver."""
        table = tables.DEAD_LETTERS_TABLE

        def merge() -> None:
            same = (F.col(f"{table.name}.{name}") == F.col(f"record.{name}") for name in _POSITION)
            matching = self._own(category, table.name)
            for condition in same:
                matching &= condition
            dead_letters = self._dead_letters(category).select(*_POSITION)
            in_silver = dead_letters.join(self._silver(), list(_POSITION), "left_semi").alias("record")
            in_silver.mergeInto(table.identifier, matching).whenMatched().delete().merge()

        retry_on_conflict(merge)


class _Contents:
    """A batch whose contents are known."""

    def __init__(self, contents: BatchContents) -> None:
        self._contents = contents

    def rows(self, frame: DataFrame, epoch: int) -> DataFrame:
        return frame

    def contents(self, frame: DataFrame, epoch: int) -> BatchContents:
        return self._contents


@contextmanager
def only_one(platform: Platform, feed: ExchangeFeed) -> Iterator[None]:
    """Keep other redrives of a feed on this machine away. Raises `RedriveRuns`."""
    root = platform.checkpoints
    if urlsplit(root).scheme not in {"", "file"}:
        yield  # in a bucket, whoever starts a redrive sees to it
        return
    file = Path(urlsplit(root).path) / feed.name / ".redrive.lock"
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RedriveRuns(f"dead letters of {feed.name} are being judged again; wait for its end") from error
        yield


def main(argv: Sequence[str] | None = None) -> int:
    """Judge dead letters of some feeds again; return the exit code."""
    return bootstrap.Command(
        name="k2.jobs.redrive",
        description="Judge dead letters again after their cause was mended.",
        add_arguments=_add_arguments,
        work=_redrive,
        failure="not every dead letter is judged; run it again",
        work_errors=(RedriveRuns,),
    ).run(argv)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    bootstrap.add_feeds(parser)
    parser.add_argument("--category", required=True, help="the category of the dead letters, such as UNDECODABLE")


def _redrive(arguments: argparse.Namespace, platform: Platform) -> int:
    feeds = bootstrap.read_feeds(arguments.feed)
    registry = Registry(platform.registry)
    done: list[Redriven] = []
    with bootstrap.spark_session(platform, arguments) as spark:
        for feed in feeds:
            spark_tables.ensure(spark, exchange_tables(feed.spec.exchange, feed.channels))
            with only_one(platform, feed):
                for _, channel in feed_channels([feed], None):
                    schemas = partial(SchemaCache(registry, topics.subject(feed.topic(channel))).schemas)
                    done.append(Redrive(spark, feed, channel, schemas).run(arguments.category))
    print(json.dumps([asdict(one) for one in done], indent=2))
    return 0


if __name__ == "__main__":
    bootstrap.exit_process(main())
