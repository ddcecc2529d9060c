"""Read frames that an ingest could not parse from Kafka's dead-letter topics, on demand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import msgspec

from k2.query.kafka.kafka_reader import KafkaReader
from k2.schemas import topics

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyarrow import Schema, Table

    from k2.common.platform import Platform
    from k2.query.kafka.records import ConsumedRecord, Frame
    from k2.query.sql.record_sql import RecordFilter

MAX_FRAMES: Final = 2_000  # frames of each partition that are searched, newest first; each is up to a megabyte
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class RawFrames:
    """The dead-letter topics of one platform. Every method raises `Unavailable` where Kafka does not answer."""

    def __init__(self, platform: Platform) -> None:
        self._kafka = KafkaReader(platform)

    def newest(self, record_filter: RecordFilter, category: str | None, limit: int) -> Table:
        """Return the newest frames first, with the columns of `audit_tables.dead_letters`.

        A frame belongs to an exchange, but to no symbol.
        """
        import pyarrow as pa

        labels = {
            topic_partition: label
            for topic_partition, label in self._kafka.dead_letter_partitions().items()
            if record_filter.exchange in (None, label)
        }
        end_offsets = self._kafka.end_offsets(labels)
        starts = {
            topic_partition: max(first, end_offsets[topic_partition] - MAX_FRAMES)
            for topic_partition, first in self._kafka.beginning_offsets(labels).items()
        }
        rows: list[dict[str, Any]] = []
        for batch in self._kafka.read_frames(starts, end_offsets, labels):
            rows += [row for row in map(_row, batch) if _matches(row, record_filter, category)]
        rows.sort(
            key=lambda row: (row["dead_lettered_at"], row["topic"], row["partition"], row["offset"]), reverse=True
        )
        return pa.Table.from_pylist(rows[:limit], schema=_schema())

    def of_feed(self, exchange: str, feed: str, category: str) -> Iterator[ConsumedRecord[Frame]]:
        """Yield all frames of a feed and a category that are in Kafka now, with their bytes, in order."""
        partitions = {
            topic_partition: label
            for topic_partition, label in self._kafka.dead_letter_partitions().items()
            if label == exchange
        }
        starts, ends = self._kafka.beginning_offsets(partitions), self._kafka.end_offsets(partitions)
        for batch in self._kafka.read_frames(starts, ends, partitions, with_bytes=True):
            for record in batch:
                if record.value.feed == feed and record.value.error == category:
                    yield record

    def get(self, topic: str, partition: int, offset: int) -> dict[str, Any] | None:
        """Return one frame with its bytes and invalid items, by topic, partition and offset; None without such one."""
        topic_partition = (topic, partition)
        labels = self._kafka.dead_letter_partitions()
        if topic_partition not in labels:
            return None
        labels = {topic_partition: labels[topic_partition]}
        if (
            not self._kafka.beginning_offsets(labels)[topic_partition]
            <= offset
            < self._kafka.end_offsets(labels)[topic_partition]
        ):
            return None
        for batch in self._kafka.read_frames(
            {topic_partition: offset}, {topic_partition: offset + 1}, labels, with_bytes=True
        ):
            for record in batch:
                row = _row(record)
                del row["bytes"]
                return row | {"value": record.value.body, "items": invalid_items(record.value.items)}
        return None


def is_raw_frame_topic(topic: str) -> bool:
    """Return whether ingests write their unparsable frames to a topic."""
    return topic.startswith(topics.dead_letters(""))


def invalid_items(text: str) -> list[dict[str, Any]] | None:
    """Decode the header that names the invalid items of a frame; None if there is none, or if it is not K2's."""
    try:
        return msgspec.json.decode(text, type=list[dict[str, Any]])
    except msgspec.DecodeError:
        return None


def _row(record: ConsumedRecord[Frame]) -> dict[str, Any]:
    (topic, partition), frame = record.topic_partition, record.value
    return {
        "exchange": frame.exchange,
        "topic": topic,
        "partition": partition,
        "offset": record.offset,
        "schema_id": None,
        "error_category": frame.error,
        "error_message": frame.reason,
        "dead_lettered_at": _EPOCH + timedelta(milliseconds=record.timestamp),
        "bytes": frame.size,
    }


def _matches(row: dict[str, Any], record_filter: RecordFilter, category: str | None) -> bool:
    timestamp = row["dead_lettered_at"]
    return (
        category in (None, row["error_category"])
        and (record_filter.start is None or timestamp >= record_filter.start)
        and (record_filter.end is None or timestamp < record_filter.end)
    )


def _schema() -> Schema:
    import pyarrow as pa

    number, text = pa.int64(), pa.string()
    return pa.schema(
        [
            ("exchange", text),
            ("topic", text),
            ("partition", pa.int32()),
            ("offset", number),
            ("schema_id", pa.int32()),
            ("error_category", text),
            ("error_message", text),
            ("dead_lettered_at", pa.timestamp("us", "UTC")),
            ("bytes", number),
        ]
    )
