"""Read and validate the records in Kafka that Gold does not hold yet.

A command reads them once. A server keeps a consumer running in a thread and the newest records in memory, so that a
query costs one round trip to Kafka, for the end offsets at the time of the query.
"""

from __future__ import annotations

import threading
import time
from itertools import chain
from typing import TYPE_CHECKING, Final

from k2.query.errors import Unavailable
from k2.query.kafka import record_buffer
from k2.query.kafka.kafka_reader import RecordReader
from k2.query.kafka.record_buffer import BufferView, RecordBuffer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyarrow import Table

    from k2.common.platform import Platform
    from k2.query.kafka.kafka_offsets import Frontier
    from k2.query.kafka.records import TopicPartition, ValidatedRecord
    from k2.query.sql.record_sql import RecordFilter
    from k2.schemas.channels import Channel

MAX_RECORDS: Final = 200_000  # in memory, at half a kilobyte each
_CATCH_UP_SECONDS: Final = 30.0  # for the thread to reach Kafka's end offsets
_RETRY_SECONDS: Final = 0.5  # before a failed thread tries again
_POLL_SECONDS: Final = 0.1


class Tail:
    """The records of a channel in Kafka after a frontier of Gold. Thread-safe. With `live`, close it."""

    def __init__(
        self, platform: Platform, channel: Channel, *, live: bool = False, max_records: int = MAX_RECORDS
    ) -> None:
        self.conflicts = 0  # copies with other content than the first, among those that were last read
        self._channel = channel
        self._kafka = RecordReader(platform, channel)
        self._follower = _Follower(self._kafka, channel, max_records) if live else None

    def rows(self, frontier: Frontier, record_filter: RecordFilter) -> Table:
        """Return every valid record that matches, from the frontier to Kafka's current end, with the channel's columns.

        Of copies the first is returned, whatever their content, as Silver keeps it. Raises `Unavailable` where Kafka or
        the registry does not answer, or where Kafka has deleted records that Gold does not hold: the tail is never
        silently incomplete.
        """
        labels = self._kafka.partitions(frontier.exchanges)
        end_offsets = self._kafka.end_offsets(labels)
        if self._follower is None:
            rows = self._read(self._starts(frontier, end_offsets, {}), end_offsets, labels, record_filter)
            return self._deduplicate(rows)
        starts = self._starts(frontier, end_offsets, self._follower.floors)
        buffered, floors = self._follower.wait_until_read(starts, end_offsets, labels)
        read_until = {
            topic_partition: min(floors[topic_partition], end) for topic_partition, end in end_offsets.items()
        }
        older = self._read(starts, read_until, labels, record_filter)

        import pyarrow as pa

        return self._deduplicate(pa.concat_tables([older, buffered.rows(starts, record_filter)]))

    def close(self) -> None:
        """Stop the thread, if there is one."""
        if self._follower is not None:
            self._follower.close()

    def _deduplicate(self, rows: Table) -> Table:
        unique = record_buffer.deduplicate(self._channel, rows)
        repeated = unique.num_rows < rows.num_rows
        self.conflicts = record_buffer.count_conflicts(self._channel, rows) if repeated else 0
        return unique

    def _starts(
        self, frontier: Frontier, end_offsets: Mapping[TopicPartition, int], floors: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, int]:
        """Return the tail's first offset of each partition: where Gold ends, or Kafka's first if Gold has none of it.

        Records at or after `floors` are in memory, and Kafka may have deleted them.
        """
        consumed = {
            topic_partition: offset
            for topic_partition in end_offsets
            if (offset := frontier.offset(*topic_partition)) is not None
        }
        lagging = [
            topic_partition
            for topic_partition, end in end_offsets.items()
            if (offset := consumed.get(topic_partition, 0)) < end
            and (topic_partition not in consumed or offset < floors.get(topic_partition, end))
        ]
        first_offsets = self._kafka.beginning_offsets(dict.fromkeys(lagging))
        for (topic, partition), offset in consumed.items():
            topic_partition = (topic, partition)
            if offset > end_offsets[topic_partition] or offset < first_offsets.get(topic_partition, offset):
                raise Unavailable(
                    f"Kafka no longer holds what follows Gold in {topic}: partition {partition} holds offsets "
                    f"{first_offsets.get(topic_partition, end_offsets[topic_partition])} to "
                    f"{end_offsets[topic_partition]}, Gold ends before {offset}"
                )
        return {
            topic_partition: consumed.get(topic_partition, first_offsets.get(topic_partition, 0))
            for topic_partition in end_offsets
        }

    def _read(
        self,
        starts: Mapping[TopicPartition, int],
        end_offsets: Mapping[TopicPartition, int],
        labels: Mapping[TopicPartition, str],
        record_filter: RecordFilter,
    ) -> Table:
        batches = self._kafka.read(starts, end_offsets, labels)
        matches = record_buffer.matcher(self._channel, record_filter)
        rows = (record.value for record in chain.from_iterable(batches))
        return record_buffer.table(self._channel, [row for row in rows if isinstance(row, tuple) and matches(row)])


class _Follower:
    """A thread that consumes continuously, and the buffer that it fills."""

    def __init__(self, kafka: RecordReader, channel: Channel, max_records: int) -> None:
        self._kafka = kafka
        self._channel = channel
        self._max_records = max_records
        self._changed = threading.Condition()
        self._buffer = RecordBuffer(channel, max_records)
        self._new_starts: dict[TopicPartition, int] = {}
        self._labels: dict[TopicPartition, str] = {}
        self._positions: dict[TopicPartition, int] = {}
        self._failed: Unavailable | None = None
        self._closed = False
        self._thread: threading.Thread | None = None

    @property
    def floors(self) -> dict[TopicPartition, int]:
        """The offset of each partition from which on every valid record is in the buffer."""
        with self._changed:
            return dict(self._buffer.floors)

    def wait_until_read(
        self,
        starts: Mapping[TopicPartition, int],
        end_offsets: Mapping[TopicPartition, int],
        labels: Mapping[TopicPartition, str],
    ) -> tuple[BufferView, dict[TopicPartition, int]]:
        """Wait until every record before `end_offsets` was read; return the buffer and its floors.

        Partitions that are new to the thread begin at `starts`.
        """
        deadline = time.monotonic() + _CATCH_UP_SECONDS
        with self._changed:
            self._failed = None
            while True:
                self._start_partitions(
                    {
                        topic_partition: start
                        for topic_partition, start in starts.items()
                        if topic_partition not in self._positions
                    },
                    labels,
                )
                if all(self._positions[topic_partition] >= end for topic_partition, end in end_offsets.items()):
                    return self._buffer.view(), dict(self._buffer.floors)
                if not self._changed.wait(deadline - time.monotonic()):
                    raise Unavailable(
                        f"Kafka's newest {self._channel.name} could not be read within {_CATCH_UP_SECONDS:.0f} s; "
                        "try again"
                    )
                if self._failed is not None:
                    raise self._failed
                if self._closed:
                    raise Unavailable("the server is shutting down")

    def close(self) -> None:
        """Stop the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _start_partitions(self, starts: Mapping[TopicPartition, int], labels: Mapping[TopicPartition, str]) -> None:
        if not starts:
            return
        self._new_starts |= starts
        self._positions |= starts
        self._labels |= labels
        self._buffer.start_partitions(starts)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="k2-tail", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while not self._closed:
            try:
                self._follow()
            except Unavailable as error:
                self._reset(error)
                time.sleep(_RETRY_SECONDS)

    def _follow(self) -> None:
        reader = self._kafka.reader({})
        try:
            while not self._closed:
                with self._changed:
                    if not self._new_starts and not reader.positions:
                        self._changed.wait()
                    new_starts, self._new_starts = self._new_starts, {}
                    labels = dict(self._labels) if new_starts else {}
                if new_starts:
                    reader.add(new_starts, labels)
                self._append(reader.poll(_POLL_SECONDS), reader.positions)
        finally:
            reader.close()

    def _append(self, records: list[ValidatedRecord], positions: Mapping[TopicPartition, int]) -> None:
        with self._changed:
            self._buffer.add(records)
            self._positions |= positions
            self._changed.notify_all()

    def _reset(self, error: Unavailable) -> None:
        """Discard everything; the next query sets the start offsets."""
        with self._changed:
            self._failed = error
            self._buffer = RecordBuffer(self._channel, self._max_records)
            self._new_starts, self._positions = {}, {}
            self._changed.notify_all()
