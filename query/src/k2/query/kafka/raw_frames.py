"""Frames that an ingest could not use, in Kafka's dead-letter topics: read when asked for, and kept nowhere."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from k2.common.platform import Platform
from k2.query.kafka.kafka_reader import Frame, Records, Told
from k2.query.sql.trade_sql import Wanted
from k2.schemas import topics

if TYPE_CHECKING:
    from pyarrow import Schema, Table

LOOKED_AT: Final = 2_000  # the newest frames of each exchange; each is as much as a megabyte
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Frames:
    """The dead-letter topics of one platform.

    Everything raises `Unavailable` where Kafka does not answer.
    """

    def __init__(self, platform: Platform) -> None:
        self._records = Records(platform)

    def newest(self, wanted: Wanted, category: str | None, limit: int) -> "Table":
        """The newest first, with the columns of `audits.dead_letters`. A frame is of an exchange, and of no symbol."""
        import pyarrow as pa

        labels = {place: label for place, label in self._records.letters().items() if wanted.exchange in (None, label)}
        ends = self._records.ends(labels)
        starts = {
            place: max(first, ends[place] - LOOKED_AT) for place, first in self._records.beginnings(labels).items()
        }
        found: list[dict[str, Any]] = []
        for batch in self._records.frames(starts, ends, labels):
            found += [row for row in map(_row, batch) if _is_wanted(row, wanted, category)]
        found.sort(key=lambda row: (row["dlq_timestamp"], row["topic"], row["partition"], row["offset"]), reverse=True)
        return pa.Table.from_pylist(found[:limit], schema=_schema())

    def one(self, topic: str, partition: int, offset: int) -> dict[str, Any] | None:
        """One frame with its bytes, by where it lies; None if there is none."""
        place = (topic, partition)
        labels = self._records.letters()
        if place not in labels:
            return None
        labels = {place: labels[place]}
        if not self._records.beginnings(labels)[place] <= offset < self._records.ends(labels)[place]:
            return None
        for batch in self._records.frames({place: offset}, {place: offset + 1}, labels, whole=True):
            for record in batch:
                row = _row(record)
                del row["bytes"]
                return row | {"value": record.verdict.value}
        return None


def is_of_frames(topic: str) -> bool:
    """Whether a topic is one that ingests write what they cannot use to."""
    return topic.startswith(topics.deadletter(""))


def _row(record: Told[Frame]) -> dict[str, Any]:
    (topic, partition), frame = record.place, record.verdict
    return {
        "exchange": frame.exchange,
        "topic": topic,
        "partition": partition,
        "offset": record.offset,
        "schema_id": None,
        "error_category": frame.error,
        "error_message": frame.reason,
        "dlq_timestamp": _EPOCH + timedelta(milliseconds=record.timestamp),
        "bytes": frame.size,
    }


def _is_wanted(row: dict[str, Any], wanted: Wanted, category: str | None) -> bool:
    at = row["dlq_timestamp"]
    return (
        category in (None, row["error_category"])
        and (wanted.start is None or at >= wanted.start)
        and (wanted.end is None or at < wanted.end)
    )


def _schema() -> "Schema":
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
            ("dlq_timestamp", pa.timestamp("us", "UTC")),
            ("bytes", number),
        ]
    )
