"""A long answer, made of short ones that follow each other in time.

Gold's files lie by the hour of their trades, so hours can be answered one after the other: the first rows are there
soon, and no more than a piece is ever sorted at once.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextvars import copy_context
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, Final

from k2.query.iceberg.scan_planner import Plan

if TYPE_CHECKING:
    from pyarrow import RecordBatch, RecordBatchReader

ROWS: Final = 500_000  # of all symbols: a piece is of one hour, or of so many as have no more rows
ROWS_FOR_ONE: Final = 4 * ROWS  # where one symbol's are wanted, and all of them: each piece costs a statement

Ask = Callable[[Plan, int | None], "RecordBatchReader"]


def of(plan: Plan, most: int) -> list[Plan]:
    """A plan's pieces, oldest first; itself where its files do not lie by the hour."""
    if not plan.hours or plan.scan is not None:
        return [plan]
    pieces: list[list[str]] = []
    left = 0
    told = sorted(zip(plan.hours, plan.rows, plan.files, strict=True))
    for _, hour in groupby(told, key=lambda file: file[0]):
        files = list(hour)
        rows = sum(count for _, count, _ in files)
        if not pieces or rows > left:
            pieces.append([])
            left = most
        pieces[-1] += [path for _, _, path in files]
        left -= rows
    return [replace(plan, files=tuple(files), times=(), hours=(), rows=()) for files in pieces]


def whole(pieces: list[Plan], ask: Ask, ahead: Executor) -> "RecordBatchReader":
    """All rows. The first piece is asked at once, each other one, `ahead`, while the one before it is read."""
    import pyarrow as pa

    begun = ask(pieces[0], None)

    def batches() -> "Iterator[RecordBatch]":
        reader = begun
        for piece in pieces[1:]:
            coming = ahead.submit(copy_context().run, ask, piece, None)
            try:
                yield from reader
            except GeneratorExit:
                coming.cancel()
                raise
            reader = coming.result()
        yield from reader

    return pa.RecordBatchReader.from_batches(begun.schema, batches())


def at_most(reader: "RecordBatchReader", limit: int) -> "RecordBatchReader":
    """The first `limit` rows of an answer. What comes after them is not asked for."""
    import pyarrow as pa

    def batches() -> "Iterator[RecordBatch]":
        left = limit
        for batch in reader:
            yield batch.slice(0, left)
            left -= batch.num_rows
            if left <= 0:
                return

    return pa.RecordBatchReader.from_batches(reader.schema, batches())
