"""Kafka's newest trades in memory: bounded by count, column by column, found by place and by what is wanted.

No Kafka and no clock here. Trades stay in the order in which they came; the oldest make room for new ones.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from k2.query.kafka.kafka_reader import Judged, Place
from k2.query.kafka.validation import Row
from k2.query.sql.trade_sql import Wanted
from k2.schemas.values import micros

if TYPE_CHECKING:
    from pyarrow import RecordBatch, Schema, Table

CHUNK: Final = 1_000
_TIMES: Final = ("timestamp", "ingestion_timestamp")
_DECIMALS: Final = ("price", "quantity")

Entry = tuple[Place, int, Row]


def schema() -> "Schema":
    """Gold's twelve columns of a trade, in Arrow."""
    import pyarrow as pa

    kinds = dict.fromkeys(_TIMES, pa.timestamp("us", "UTC")) | dict.fromkeys(_DECIMALS, pa.decimal128(18, 8))
    return pa.schema([(name, kinds.get(name, pa.string())) for name in Row._fields])


def table(rows: Sequence[Row]) -> "Table":
    """Trades as Arrow holds them."""
    import pyarrow as pa

    kinds = schema()
    columns = zip(*rows, strict=True) if rows else ([] for _ in kinds)
    arrays = [_array(list(values), field.type) for values, field in zip(columns, kinds, strict=True)]
    return pa.Table.from_arrays(arrays, schema=kinds)


def matching(wanted: Wanted, row: Row) -> bool:
    """Whether a trade is wanted."""
    return (
        (wanted.symbol is None or row.symbol == wanted.symbol)
        and (wanted.exchange is None or row.exchange == wanted.exchange)
        and (wanted.start is None or row.timestamp >= micros(wanted.start))
        and (wanted.end is None or row.timestamp < micros(wanted.end))
    )


def first_of_each(trades: "Table") -> "Table":
    """The trades without those whose message id stands further up already."""
    import pyarrow as pa
    import pyarrow.compute as pc

    ids = trades.column("message_id")
    if pc.count_distinct(ids).as_py() == len(ids):
        return trades
    numbered = pa.table({"id": ids, "number": pa.array(range(len(ids)), pa.int64())})
    firsts = numbered.group_by("id").aggregate([("number", "min")]).column("number_min")
    return trades.take(firsts.combine_chunks().sort())


class Held:
    """At most `most` trades, give or take a chunk. One thread at a time may use it."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: list[Entry] = []
        self._chunks: deque[_Chunk] = deque()
        self._count = 0
        self.floors: dict[Place, int] = {}  # from here on everything of a place is held

    def begin(self, starts: Mapping[Place, int]) -> None:
        """Places whose records will come, each from an offset on."""
        self.floors |= starts

    def add(self, records: Iterable[Judged]) -> None:
        """Keeps the valid trades among some records."""
        self._open += [(place, offset, row) for place, offset, _, row in records if isinstance(row, Row)]
        while len(self._open) >= CHUNK:
            self._chunks.append(_Chunk(self._open[:CHUNK]))
            del self._open[:CHUNK]
            self._count += CHUNK
        while self._count > self._most:
            oldest = self._chunks.popleft()
            self._count -= CHUNK
            for place, last in oldest.lasts.items():
                self.floors[place] = max(self.floors[place], last + 1)

    def view(self) -> "View":
        """What is held now; it does not change when more comes."""
        return View(tuple(self._chunks), tuple(self._open))


class View:
    """What was held at one moment."""

    def __init__(self, chunks: "tuple[_Chunk, ...]", newest: tuple[Entry, ...]) -> None:
        self._chunks = chunks
        self._newest = newest

    def rows(self, starts: Mapping[Place, int], wanted: Wanted) -> "Table":
        """The wanted trades that stand at `starts` or after; of other places none."""
        import pyarrow as pa

        newest = [
            row
            for place, offset, row in self._newest
            if place in starts and offset >= starts[place] and matching(wanted, row)
        ]
        found = [batch for chunk in self._chunks if (batch := chunk.rows(starts, wanted)) is not None]
        return pa.concat_tables([pa.Table.from_batches(found, schema()), table(newest)])


class _Chunk:
    """Trades that came one after the other."""

    def __init__(self, entries: Sequence[Entry]) -> None:
        import pyarrow as pa

        self._batch = table([row for _, _, row in entries]).to_batches()[0]
        self.lasts: dict[Place, int] = {}
        self._firsts: dict[Place, int] = {}
        for place, offset, _ in entries:
            self._firsts.setdefault(place, offset)
            self.lasts[place] = offset
        codes = {place: code for code, place in enumerate(self.lasts)}
        self._codes = pa.array([codes[place] for place, _, _ in entries], pa.int32())
        self._offsets = pa.array([offset for _, offset, _ in entries], pa.int64())

    def rows(self, starts: Mapping[Place, int], wanted: Wanted) -> "RecordBatch | None":
        import pyarrow as pa
        import pyarrow.compute as pc

        if all(starts.get(place, last + 1) > last for place, last in self.lasts.items()):
            return None
        conditions = [
            pc.equal(self._batch.column(name), value)
            for name, value in (("symbol", wanted.symbol), ("exchange", wanted.exchange))
            if value is not None
        ]
        times = self._batch.column("timestamp")
        conditions += [pc.greater_equal(times, wanted.start)] if wanted.start else []
        conditions += [pc.less(times, wanted.end)] if wanted.end else []
        if any(starts.get(place, first + 1) > first for place, first in self._firsts.items()):
            begins = pa.array([starts.get(place, last + 1) for place, last in self.lasts.items()], pa.int64())
            conditions.append(pc.greater_equal(self._offsets, begins.take(self._codes)))
        if not conditions:
            return self._batch
        mask = conditions[0]
        for condition in conditions[1:]:
            mask = pc.and_(mask, condition)
        return self._batch.filter(mask)


def _array(values: list[Any], kind: Any) -> Any:
    import pyarrow as pa

    if pa.types.is_decimal(kind):
        units = b"".join(value.to_bytes(16, "little", signed=True) for value in values)
        return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(units)])
    if pa.types.is_timestamp(kind):
        return pa.array(values, pa.int64()).view(kind)
    return pa.array(values, kind)
