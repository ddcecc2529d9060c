"""The commit log, table `audit_batches`: snapshot summaries, kept longer than the snapshots themselves.

A summary is authoritative, since it is committed with the rows; the log only copies it. The driver that runs a feed's
Gold writes the log, for its own feed's commits alone, so each commit is copied once however many feeds share a table.
A topic belongs to one feed and channel, so it identifies their commits. Batches of a query are numbered and committed
in order: the last copied epoch says which ones remain.
"""

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from pyspark.sql import SparkSession

from k2.jobs.commit.snapshots import Snapshot, SnapshotHistory
from k2.jobs.feed_channels import feed_channels
from k2.jobs.spark.local_frames import local_frame
from k2.jobs.stream import BRONZE, GOLD, SILVER
from k2.schemas import tables, topics
from k2.schemas.channels import Channel
from k2.schemas.feed.model import ExchangeFeed
from k2.schemas.snapshots import EXCHANGE, OFFSETS, REDRIVEN, ROWS_IN, STARTED, TOPIC_IDS
from k2.schemas.tables import Table
from k2.schemas.values import from_micros

Row = dict[str, Any]

_SETTLE_TIME: Final = 120.0  # seconds within which the dead letters of a Silver batch are committed


class CommitLog:
    """Copies the commits of some feeds into `audit_batches`. `channels` replaces those that the feeds record."""

    def __init__(
        self, spark: SparkSession, feeds: Sequence[ExchangeFeed], channels: Iterable[Channel] | None = None
    ) -> None:
        self._spark = spark
        self._recorded = feed_channels(feeds, channels)
        self._copied: dict[tuple[str, str], int] | None = None  # layer, query: the newest batch in the log
        self._read_up_to: dict[str, int] = {}  # table: the newest snapshot up to which all commits are copied

    def record(self, *, settled: bool = True) -> int:
        """Copy every commit that is not in the log yet; return how many were copied.

        Unless the streams are `settled`, Silver's newest commits are left for later: their dead letters may not be
        committed yet.
        """
        copied = dict(self._newest() if self._copied is None else self._copied)
        read_up_to = dict(self._read_up_to)
        rows = list(self._rows(copied, read_up_to, time.time() - (0.0 if settled else _SETTLE_TIME)))
        if rows:
            schema = ", ".join(f"`{column.name}` {column.type}" for column in tables.BATCHES_TABLE.columns)
            local_frame(self._spark, rows, schema).writeTo(tables.BATCHES_TABLE.identifier).append()
        self._copied, self._read_up_to = copied, read_up_to
        return len(rows)

    def _newest(self) -> dict[tuple[str, str], int]:
        newest = self._spark.table(tables.BATCHES_TABLE.identifier).groupBy("layer", "query_id").agg({"epoch": "max"})
        return {(row[0], row[1]): row[2] for row in newest.collect()}

    def _rows(self, copied: dict[tuple[str, str], int], read_up_to: dict[str, int], until: float) -> Iterator[Row]:
        origins = {feed.topic(channel): (feed.exchange_spec.label, channel.name) for feed, channel in self._recorded}
        commits: list[tuple[str, Snapshot]] = []
        for channel, exchange in dict.fromkeys((channel, feed.spec.exchange) for feed, channel in self._recorded):
            commits += [(BRONZE, snapshot) for snapshot in self._new(channel.bronze(exchange), read_up_to)]
            commits += [(SILVER, snapshot) for snapshot in self._new(channel.silver(exchange), read_up_to, until)]
        for channel in dict.fromkeys(channel for _, channel in self._recorded):
            commits += [(GOLD, snapshot) for snapshot in self._new(channel.gold, read_up_to)]
        own = [
            (layer, snapshot, *origins[topic])
            for layer, snapshot in commits
            if (topic := topics.in_kafka(_topic(snapshot))) in origins
            and snapshot.epoch > copied.get((layer, snapshot.query_id), -1)
        ]
        history = SnapshotHistory(self._spark, tables.DEAD_LETTERS_TABLE)
        dead_letters = _rows_by_batch(history.snapshots()) if any(layer == SILVER for layer, *_ in own) else {}
        for layer, snapshot, label, channel_name in own:
            key = layer, snapshot.query_id
            copied[key] = max(copied.get(key, -1), snapshot.epoch)
            count = dead_letters.get((snapshot.query_id, snapshot.epoch), 0) if layer == SILVER else 0
            yield _row(layer, label, channel_name, snapshot, dead_letters=count)

    def _new(self, table: Table, read_up_to: dict[str, int], until: float | None = None) -> list[Snapshot]:
        """Return the queries' commits since the table was last read, without those after `until`."""
        commits: list[Snapshot] = []
        stop, newest = read_up_to.get(table.name), None
        for snapshot in SnapshotHistory(self._spark, table).snapshots():
            if snapshot.id == stop:
                break
            if until is not None and snapshot.committed_at > until:
                continue
            newest = newest or snapshot.id
            if snapshot.epoch >= 0:
                commits.append(snapshot)
        if newest is not None:
            read_up_to[table.name] = newest
        return commits


def commit_rows(layer: str, exchange: str, channel: str, snapshots: Iterable[Snapshot]) -> Iterator[Row]:
    """Yield the rows for the commits of an exchange, given by its label, among the `snapshots` of a layer's table.

    They have no dead letters, whose commits may be expired already.
    """
    for snapshot in snapshots:
        if snapshot.epoch >= 0 and snapshot.summary.get(EXCHANGE) == exchange:
            yield _row(layer, exchange, channel, snapshot)


def _rows_by_batch(snapshots: Iterable[Snapshot]) -> dict[tuple[str, int], int]:
    return {(snapshot.query_id, snapshot.epoch): snapshot.rows for snapshot in snapshots}


def _topic(snapshot: Snapshot) -> str:
    """Return a topic of a commit's rows. Those of a batch of Gold may all have been dead letters before."""
    named = (json.loads(snapshot.summary.get(key, "{}")) for key in (OFFSETS, REDRIVEN))
    return next((topic for by_topic in named for topic in by_topic), "")


def _ranges(snapshot: Snapshot) -> list[Row]:
    return [
        {"topic": topic, "partition": int(partition), "first": first, "last": last}
        for topic, partitions in json.loads(snapshot.summary.get(OFFSETS, "{}")).items()
        for partition, (first, last) in partitions.items()
    ]


def _row(layer: str, exchange: str, channel: str, snapshot: Snapshot, *, dead_letters: int = 0) -> Row:
    rows_in, started = int(snapshot.summary[ROWS_IN]), int(snapshot.summary[STARTED])
    committed = datetime.fromtimestamp(snapshot.committed_at, UTC)
    return {
        "layer": layer,
        "exchange": exchange,
        "channel": channel,
        "query_id": snapshot.query_id,
        "epoch": snapshot.epoch,
        "offset_ranges": _ranges(snapshot),
        "rows_in": rows_in,
        "rows_out": snapshot.rows,
        "dead_letters": dead_letters,
        "duplicates_dropped": rows_in - snapshot.rows if layer == GOLD else 0,
        "snapshot_id": snapshot.id,
        "started_at": from_micros(started),
        "committed_at": committed,
        "topic_id": next(iter(json.loads(snapshot.summary.get(TOPIC_IDS, "{}")).values()), None),
    }
