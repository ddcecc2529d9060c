"""`python -m k2.jobs.recover --feed FILE`: continue where Kafka has lost what a query would read next.

A query stops at a topic that was deleted and made again, which is not the one that its offsets belong to, and at
records that Kafka's retention deleted before it read them. The recovery gives it a new checkpoint, which begins at the
first record that is there, and moves the old one aside. Tables name a topic that was made again with its id, so no
offset means two records; Bronze's properties record the offsets that were deleted.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from pyspark.sql import SparkSession

from k2.common import logs
from k2.common.platform import Platform
from k2.jobs import bootstrap
from k2.jobs.commit import lost_records
from k2.jobs.commit.checkpoints import RECOVERED, STARTS, BrokenCheckpoint, Checkpoint
from k2.jobs.commit.lost_records import Lost
from k2.jobs.commit.snapshots import SnapshotHistory
from k2.jobs.commit.topic_identity import accept, accepted
from k2.jobs.kafka_admin import KafkaUnavailable
from k2.jobs.spark.filesystem import FileSystem
from k2.jobs.stream import BRONZE, GAPS, CheckpointInUse, Stream, initial_state
from k2.schemas import topics
from k2.schemas.channels import CHANNELS, Channel
from k2.schemas.feed.model import ExchangeFeed

log = logs.get("recover")


@dataclass(frozen=True, slots=True)
class Recovered:
    """One query that begins again."""

    query: str
    topics: dict[str, str]  # those that were made again, with their ids
    read_before: dict[str, dict[str, int]]  # by topic and partition: the first offset that is not in tables
    lost: Lost  # what Kafka deleted unread, by topic and partition: the first and the last offset
    old_checkpoint: str


class Recovery:
    """Accepts what Kafka has lost of one feed. Queries that have stopped at it go on by themselves."""

    def __init__(
        self, spark: SparkSession, platform: Platform, feed: ExchangeFeed, channels: Sequence[Channel] = CHANNELS
    ) -> None:
        self._spark = spark
        self._files = FileSystem(spark)
        queries: list[tuple[Channel | None, str]] = [*((channel, BRONZE) for channel in channels), (None, GAPS)]
        self._streams = [
            Stream(spark, feed, platform, channel, layer, initial_state(feed, channel, layer))
            for channel, layer in queries
        ]

    def run(self) -> list[Recovered]:
        """Accept every topic that was made again and all lost records; return what was done.

        Can be repeated, also after an interruption.
        Raises `CheckpointInUse`, `KafkaUnavailable` and `BrokenCheckpoint`.
        """
        return [done for stream in self._streams if (done := self._recover(stream)) is not None]

    def _recover(self, stream: Stream) -> Recovered | None:
        folder = stream.checkpoint.folder
        recovered = Checkpoint(self._files, f"{folder.rpartition('/')[0]}/{RECOVERED}")
        if recovered.read(STARTS) is not None and not self._files.exists(f"{folder}/metadata"):
            # Interrupted between the two renames. A start since then has left its lock at most.
            self._files.remove(folder)
            self._files.rename(recovered.folder, folder)
        if not self._files.exists(folder):
            return None
        replaced, position = stream.identity.find_replaced(), stream.position()
        first_offsets = stream.kafka.first_offsets(stream.subscribed)
        same = {topic: partitions for topic, partitions in position.items() if topic not in replaced}
        lost = lost_records.find(same, first_offsets)
        if not replaced and not lost:
            self._files.remove(recovered.folder)  # of a recovery that was interrupted, and is not needed any more
            return None
        with stream.locked():
            # Tables name topics of channels alone.
            renamed = {*accepted(stream.checkpoint), *replaced} if stream.channel is not None else ()
            ids, starts = stream.identity.read() | replaced, lost_records.starts(same, first_offsets)
            accept(recovered, ids, renamed, starts)
            self._record(stream, lost)
            old = f"{folder}.before-{datetime.now(UTC):%Y%m%dT%H%M%S%f}"
            done = Recovered(stream.name, dict(sorted(replaced.items())), position, lost, old)
            self._files.rename(folder, done.old_checkpoint)
            self._files.rename(recovered.folder, folder)
        log.info("recovered", query=done.query, topics=sorted(done.topics), old_checkpoint=done.old_checkpoint)
        return done

    def _record(self, stream: Stream, lost: Lost) -> None:
        """Note in the table what it will never have, under the names that it has for topics."""
        if stream.table is None or not lost:
            return
        again = accepted(stream.checkpoint)
        ids = stream.identity.read()
        named = {topics.remade(topic, ids[topic]) if topic in again else topic: lost[topic] for topic in lost}
        before = SnapshotHistory(self._spark, stream.table).properties()
        for key, value in lost_records.properties(named, before).items():
            self._spark.sql(f"ALTER TABLE {stream.table.identifier} SET TBLPROPERTIES ('{key}' = '{value}')")


def main(argv: Sequence[str] | None = None) -> int:
    """Recover some feeds; return the exit code."""
    return bootstrap.Command(
        name="k2.jobs.recover",
        description="Continue where Kafka has lost what a query would read next.",
        add_arguments=bootstrap.add_feeds,
        work=_recover,
        failure="not every feed is recovered; run it again",
        work_errors=(BrokenCheckpoint, CheckpointInUse, KafkaUnavailable),
    ).run(argv)


def _recover(arguments: argparse.Namespace, platform: Platform) -> int:
    feeds = bootstrap.read_feeds(arguments.feed)
    with bootstrap.spark_session(platform, arguments) as spark:
        done = [one for feed in feeds for one in Recovery(spark, platform, feed).run()]
    print(json.dumps([asdict(one) for one in done], indent=2))
    return 0


if __name__ == "__main__":
    bootstrap.exit_process(main())
