"""Keep Kafka's newest trades in memory as columns, bounded by count, and filter them.

No Kafka client and no clock here. Trades stay in order of arrival; the oldest are evicted first.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

from k2.query import arrow_schema
from k2.query.kafka.records import TopicPartition, ValidatedRecord
from k2.query.kafka.validation import ValidTrade
from k2.schemas.values import to_micros

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pyarrow import RecordBatch, Table

    from k2.query.sql.trade_sql import TradeFilter

CHUNK_TRADES: Final = 1_000

Entry = tuple[TopicPartition, int, ValidTrade]


def table(rows: Sequence[ValidTrade]) -> Table:
    """Convert trades to an Arrow table."""
    import pyarrow as pa

    types = arrow_schema.trades()
    columns = zip(*rows, strict=True) if rows else ([] for _ in types)
    arrays = [_array(list(values), field.type) for values, field in zip(columns, types, strict=True)]
    return pa.Table.from_arrays(arrays, schema=types)


def matches(trade_filter: TradeFilter, row: ValidTrade) -> bool:
    """Return whether a trade passes the filter."""
    return (
        (trade_filter.symbol is None or row.symbol == trade_filter.symbol)
        and (trade_filter.exchange is None or row.exchange == trade_filter.exchange)
        and (trade_filter.start is None or row.timestamp >= to_micros(trade_filter.start))
        and (trade_filter.end is None or row.timestamp < to_micros(trade_filter.end))
    )


def deduplicate(trades: Table) -> Table:
    """Return the trades without those whose message id appeared before."""
    import pyarrow as pa
    import pyarrow.compute as pc

    ids = trades.column("message_id")
    if pc.count_distinct(ids).as_py() == len(ids):
        return trades
    numbered = pa.table({"id": ids, "number": pa.array(range(len(ids)), pa.int64())})
    first_rows = numbered.group_by("id").aggregate([("number", "min")]).column("number_min")
    return trades.take(first_rows.combine_chunks().sort())


class TradeBuffer:
    """At most `max_trades` trades, up to one chunk more. Not thread-safe."""

    def __init__(self, max_trades: int) -> None:
        self._max_trades = max_trades
        self._open: list[Entry] = []
        self._chunks: deque[_Chunk] = deque()
        self._count = 0
        self.floors: dict[TopicPartition, int] = {}  # from this offset on every trade is in the buffer

    def start_partitions(self, starts: Mapping[TopicPartition, int]) -> None:
        """Add partitions, each with the offset from which on its records will be added."""
        self.floors |= starts

    def add(self, records: Iterable[ValidatedRecord]) -> None:
        """Add the valid trades among some records."""
        self._open += [
            (topic_partition, offset, row) for topic_partition, offset, _, row in records if isinstance(row, ValidTrade)
        ]
        while len(self._open) >= CHUNK_TRADES:
            self._chunks.append(_Chunk(self._open[:CHUNK_TRADES]))
            del self._open[:CHUNK_TRADES]
            self._count += CHUNK_TRADES
        while self._count > self._max_trades:
            oldest = self._chunks.popleft()
            self._count -= CHUNK_TRADES
            for topic_partition, last in oldest.last_offsets.items():
                self.floors[topic_partition] = max(self.floors[topic_partition], last + 1)

    def view(self) -> BufferView:
        """Return an immutable view of the current contents."""
        return BufferView(tuple(self._chunks), tuple(self._open))


class BufferView:
    """The contents of a buffer at one moment."""

    def __init__(self, chunks: tuple[_Chunk, ...], newest: tuple[Entry, ...]) -> None:
        self._chunks = chunks
        self._newest = newest

    def rows(self, starts: Mapping[TopicPartition, int], trade_filter: TradeFilter) -> Table:
        """Return the matching trades at or after `starts`; none of other partitions."""
        import pyarrow as pa

        newest = [
            row
            for topic_partition, offset, row in self._newest
            if topic_partition in starts and offset >= starts[topic_partition] and matches(trade_filter, row)
        ]
        batches = [batch for chunk in self._chunks if (batch := chunk.rows(starts, trade_filter)) is not None]
        return pa.concat_tables([pa.Table.from_batches(batches, arrow_schema.trades()), table(newest)])


class _Chunk:
    """Consecutive trades as one record batch."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        import pyarrow as pa

        self._batch = table([row for _, _, row in entries]).to_batches()[0]
        self.last_offsets: dict[TopicPartition, int] = {}
        self._first_offsets: dict[TopicPartition, int] = {}
        for topic_partition, offset, _ in entries:
            self._first_offsets.setdefault(topic_partition, offset)
            self.last_offsets[topic_partition] = offset
        codes = {topic_partition: code for code, topic_partition in enumerate(self.last_offsets)}
        self._codes = pa.array([codes[topic_partition] for topic_partition, _, _ in entries], pa.int32())
        self._offsets = pa.array([offset for _, offset, _ in entries], pa.int64())

    def rows(self, starts: Mapping[TopicPartition, int], trade_filter: TradeFilter) -> RecordBatch | None:
        import pyarrow as pa
        import pyarrow.compute as pc

        if all(starts.get(topic_partition, last + 1) > last for topic_partition, last in self.last_offsets.items()):
            return None
        conditions = [
            pc.equal(self._batch.column(name), value)
            for name, value in (("symbol", trade_filter.symbol), ("exchange", trade_filter.exchange))
            if value is not None
        ]
        times = self._batch.column("timestamp")
        conditions += [pc.greater_equal(times, trade_filter.start)] if trade_filter.start else []
        conditions += [pc.less(times, trade_filter.end)] if trade_filter.end else []
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


def _array(values: list[Any], arrow_type: Any) -> Any:
    import pyarrow as pa

    if pa.types.is_decimal(arrow_type):
        units = b"".join(value.to_bytes(16, "little", signed=True) for value in values)
        return pa.Array.from_buffers(arrow_type, len(values), [None, pa.py_buffer(units)])
    if pa.types.is_timestamp(arrow_type):
        return pa.array(values, pa.int64()).view(arrow_type)
    return pa.array(values, arrow_type)
