"""`python -m k2.jobs.recover --feed FILE`: continue with topics that were deleted and made again.

A query stops at a topic that is not the one that its offsets belong to. The recovery gives it a new checkpoint, which
begins at the first record of the new topic, and moves the old one aside. Tables name the new topic with its id, so no
offset means two records. What the old topic held beyond Bronze is not in Kafka any more.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from pyspark.sql import SparkSession

from k2.common import logs
from k2.common.platform import Platform
from k2.jobs import bootstrap
from k2.jobs.commit.checkpoints import RECOVERED, BrokenCheckpoint, Checkpoint
from k2.jobs.commit.topic_identity import accept, accepted
from k2.jobs.kafka_admin import KafkaUnavailable
from k2.jobs.spark.filesystem import FileSystem
from k2.jobs.stream import BRONZE, GAPS, CheckpointInUse, Stream, initial_state
from k2.schemas.channels import CHANNELS, Channel
from k2.schemas.feed.model import ExchangeFeed

log = logs.get("recover")


@dataclass(frozen=True, slots=True)
class Recovered:
    """One query that begins again."""

    query: str
    topics: dict[str, str]  # those that were made again, with their ids
    read_before: dict[str, dict[str, int]]  # by topic and partition: the first offset of the old topic not in tables
    old_checkpoint: str


class Recovery:
    """Accepts the topics of one feed that were made again. Queries that have stopped at them go on by themselves."""

    def __init__(
        self, spark: SparkSession, platform: Platform, feed: ExchangeFeed, channels: Sequence[Channel] = CHANNELS
    ) -> None:
        self._files = FileSystem(spark)
        queries: list[tuple[Channel | None, str]] = [*((channel, BRONZE) for channel in channels), (None, GAPS)]
        self._streams = [
            Stream(spark, feed, platform, channel, layer, initial_state(feed, channel, layer))
            for channel, layer in queries
        ]

    def run(self) -> list[Recovered]:
        """Accept every topic that was made again; return what was done. Idempotent, also after an interruption.

        Raises `CheckpointInUse`, `KafkaUnavailable` and `BrokenCheckpoint`.
        """
        return [done for stream in self._streams if (done := self._recover(stream)) is not None]

    def _recover(self, stream: Stream) -> Recovered | None:
        folder = stream.checkpoint.folder
        recovered = Checkpoint(self._files, f"{folder.rpartition('/')[0]}/{RECOVERED}")
        if not self._files.exists(folder):
            if self._files.exists(recovered.folder):  # interrupted between the two renames
                self._files.rename(recovered.folder, folder)
            return None
        replaced = stream.identity.find_replaced()
        if not replaced:
            self._files.remove(recovered.folder)  # of a recovery that was interrupted, and is not needed any more
            return None
        with stream.locked():
            # Tables name topics of channels alone.
            renamed = {*accepted(stream.checkpoint), *replaced} if stream.channel is not None else ()
            accept(recovered, stream.identity.read() | replaced, renamed)
            done = Recovered(
                stream.name,
                dict(sorted(replaced.items())),
                stream.checkpoint.committed_end(),
                f"{folder}.before-{'-'.join(sorted(replaced.values()))}",
            )
            self._files.rename(folder, done.old_checkpoint)
            self._files.rename(recovered.folder, folder)
        log.info("recovered", query=done.query, topics=sorted(done.topics), old_checkpoint=done.old_checkpoint)
        return done


def main(argv: Sequence[str] | None = None) -> int:
    """Recover some feeds; return the exit code."""
    return bootstrap.Command(
        name="k2.jobs.recover",
        description="Continue with topics that were deleted and made again.",
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
