"""Keep Kafka's newest records of a channel in memory as columns, bounded by count, and filter them.

No Kafka client and no clock here. Records stay in order of arrival; the oldest are evicted first.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

from k2.query import arrow_schema
from k2.query.kafka.records import TopicPartition, ValidatedRecord
from k2.query.kafka.row_types import Row, time_of
from k2.schemas.content import differences
from k2.schemas.values import to_micros

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pyarrow import RecordBatch, Table

    from k2.query.sql.record_sql import RecordFilter
    from k2.schemas.channels import Channel

CHUNK_RECORDS: Final = 1_000

Entry = tuple[TopicPartition, int, Row]


def table(channel: Channel, rows: Sequence[Row]) -> Table:
    """Convert rows to an Arrow table of the channel's columns."""
    import pyarrow as pa

    schema = arrow_schema.records(channel)
    columns = zip(*rows, strict=True) if rows else ([] for _ in schema)
    arrays = [arrow_schema.array(list(values), field.type) for values, field in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


def matcher(channel: Channel, record_filter: RecordFilter) -> Callable[[Row], bool]:
    """Return the function that says whether a row passes the filter."""
    symbol_at, exchange_at = map(channel.column_names.index, ("symbol", "exchange"))
    symbols, exchange = frozenset(record_filter.all_symbols), record_filter.exchange
    start = to_micros(record_filter.start) if record_filter.start else None
    end = to_micros(record_filter.end) if record_filter.end else None
    row_time = time_of(channel)

    def matches(row: Row) -> bool:
        return (
            (not symbols or row[symbol_at] in symbols)
            and (exchange is None or row[exchange_at] == exchange)
            and (start is None or row_time(row) >= start)
            and (end is None or row_time(row) < end)
        )

    return matches


def times(channel: Channel, records: Table | RecordBatch) -> Any:
    """Return the time of each record as an Arrow array."""
    import pyarrow.compute as pc

    first, *others = [records.column(name) for name in channel.time_columns]
    return pc.coalesce(first, *others) if others else first


def within(channel: Channel, records: Table, record_filter: RecordFilter) -> Table:
    """Return the records in the filter's time range."""
    import pyarrow.compute as pc

    time = times(channel, records)
    for compare, limit in ((pc.greater_equal, record_filter.start), (pc.less, record_filter.end)):
        if limit is not None:
            mask = compare(time, limit)
            records, time = records.filter(mask), time.filter(mask)
    return records


def deduplicate(channel: Channel, records: Table) -> Table:
    """Return the records without those whose identity appeared before."""
    import pyarrow as pa

    identities = records.select(channel.identity)
    if identities.group_by(channel.identity).aggregate([]).num_rows == records.num_rows:
        return records
    numbered = identities.append_column("number", pa.arange(0, records.num_rows))
    first_rows = numbered.group_by(channel.identity).aggregate([("number", "min")]).column("number_min")
    return records.take(first_rows.combine_chunks().sort())


def count_conflicts(channel: Channel, records: Table) -> int:
    """Return how many records differ in content or time from the first one of their identity: Silver rejects them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    identity = list(channel.identity)
    numbered = records.select(identity).append_column("number", pa.arange(0, records.num_rows))
    groups = numbered.group_by(identity).aggregate([("number", "min")])
    if not channel.content or groups.num_rows == records.num_rows:
        return 0
    pairs = numbered.join(groups, identity, join_type="inner")
    pairs = pairs.filter(pc.not_equal(pairs["number"], pairs["number_min"]))
    copies, firsts = records.take(pairs["number"]), records.take(pairs["number_min"])
    moments = [times(channel, rows).cast(pa.int64()).to_pylist() for rows in (copies, firsts)]
    content = [rows.select(channel.content).to_pylist() for rows in (copies, firsts)]
    return sum(
        bool(differences(channel.content, first, copy, (first_time, time)))
        for copy, first, time, first_time in zip(*content, *moments, strict=True)
    )


class RecordBuffer:
    """At most `max_records` records of a channel, up to one chunk more. Not thread-safe."""

    def __init__(self, channel: Channel, max_records: int) -> None:
        self._channel = channel
        self._max_records = max_records
        self._open: list[Entry] = []
        self._chunks: deque[_Chunk] = deque()
        self._count = 0
        self.floors: dict[TopicPartition, int] = {}  # from this offset on every valid record is in the buffer

    def start_partitions(self, starts: Mapping[TopicPartition, int]) -> None:
        """Add partitions, each with the offset from which on its records will be added."""
        self.floors |= starts

    def add(self, records: Iterable[ValidatedRecord]) -> None:
        """Add the valid ones among some records."""
        self._open += [
            (topic_partition, offset, row) for topic_partition, offset, _, row in records if isinstance(row, tuple)
        ]
        while len(self._open) >= CHUNK_RECORDS:
            self._chunks.append(_Chunk(self._channel, self._open[:CHUNK_RECORDS]))
            del self._open[:CHUNK_RECORDS]
            self._count += CHUNK_RECORDS
        while self._count > self._max_records:
            oldest = self._chunks.popleft()
            self._count -= CHUNK_RECORDS
            for topic_partition, last in oldest.last_offsets.items():
                self.floors[topic_partition] = max(self.floors[topic_partition], last + 1)

    def view(self) -> BufferView:
        """Return an immutable view of the current contents."""
        return BufferView(self._channel, tuple(self._chunks), tuple(self._open))


class BufferView:
    """The contents of a buffer at one moment."""

    def __init__(self, channel: Channel, chunks: tuple[_Chunk, ...], newest: tuple[Entry, ...]) -> None:
        self._channel = channel
        self._chunks = chunks
        self._newest = newest

    def rows(self, starts: Mapping[TopicPartition, int], record_filter: RecordFilter) -> Table:
        """Return the matching records at or after `starts`; none of other partitions."""
        import pyarrow as pa

        matches = matcher(self._channel, record_filter)
        newest = [
            row
            for topic_partition, offset, row in self._newest
            if topic_partition in starts and offset >= starts[topic_partition] and matches(row)
        ]
        batches = [batch for chunk in self._chunks if (batch := chunk.rows(starts, record_filter)) is not None]
        schema = arrow_schema.records(self._channel)
        return pa.concat_tables([pa.Table.from_batches(batches, schema), table(self._channel, newest)])


class _Chunk:
    """Consecutive records as one record batch."""

    def __init__(self, channel: Channel, entries: Sequence[Entry]) -> None:
        import pyarrow as pa

        self._batch = table(channel, [row for _, _, row in entries]).to_batches()[0]
        self._times = times(channel, self._batch)
        self.last_offsets: dict[TopicPartition, int] = {}
        self._first_offsets: dict[TopicPartition, int] = {}
        for topic_partition, offset, _ in entries:
            self._first_offsets.setdefault(topic_partition, offset)
            self.last_offsets[topic_partition] = offset
        codes = {topic_partition: code for code, topic_partition in enumerate(self.last_offsets)}
        self._codes = pa.array([codes[topic_partition] for topic_partition, _, _ in entries], pa.int32())
        self._offsets = pa.array([offset for _, offset, _ in entries], pa.int64())

    def rows(self, starts: Mapping[TopicPartition, int], record_filter: RecordFilter) -> RecordBatch | None:
        import pyarrow as pa
        import pyarrow.compute as pc

        if all(starts.get(topic_partition, last + 1) > last for topic_partition, last in self.last_offsets.items()):
            return None
        conditions = [
            pc.equal(self._batch.column(name), value)
            for name, value in (("symbol", record_filter.symbol), ("exchange", record_filter.exchange))
            if value is not None
        ]
        conditions += [pc.greater_equal(self._times, record_filter.start)] if record_filter.start else []
        conditions += [pc.less(self._times, record_filter.end)] if record_filter.end else []
        if any(
            starts.get(topic_partition, first + 1) > first for topic_partition, first in self._first_offsets.items()
        ):
            start_offsets = pa.array(
                [starts.get(topic_partition, last + 1) for topic_partition, last in self.last_offsets.items()],
                pa.int64(),
            )
            conditions.append(pc.greater_equal(self._offsets, start_offsets.take(self._codes)))
        if not conditions:
            return self._batch
        mask = conditions[0]
        for condition in conditions[1:]:
            mask = pc.and_(mask, condition)
        return self._batch.filter(mask)
