"""A long answer, made of short ones that follow each other in time.

Gold's files lie by the hour of their trades, so hours can be answered one after the other: the first rows are there
soon, no more than a piece is ever sorted at once, and a question for a few trades reads few files.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextvars import copy_context
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, Final

from k2.query.lake import Plan

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
    return [replace(plan, files=tuple(files), hours=(), rows=()) for files in pieces]


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


def first(pieces: list[Plan], ask: Ask, limit: int) -> "RecordBatchReader":
    """The first `limit` rows. The first piece is asked at once, the others as the rows are read."""
    import pyarrow as pa

    pieces = doubled(pieces)
    begun = ask(pieces[0], limit)

    def batches() -> "Iterator[RecordBatch]":
        reader, left = begun, limit
        for piece in [*pieces[1:], None]:
            for batch in reader:
                left -= batch.num_rows
                yield batch
            if piece is None or not left:
                return
            reader = ask(piece, left)

    return pa.RecordBatchReader.from_batches(begun.schema, batches())


def newest(pieces: list[Plan], ask: Ask, limit: int) -> "RecordBatchReader":
    """The last `limit` rows, oldest first."""
    import pyarrow as pa

    found: list[pa.Table] = []
    for piece in doubled(pieces[::-1]):
        found.insert(0, ask(piece, limit).read_all())
        limit -= found[0].num_rows
        if not limit:
            break
    return pa.concat_tables(found).to_reader()


def doubled(pieces: list[Plan]) -> list[Plan]:
    """Pieces of which each is as large as all before it: so that what is rare is found in few of them."""
    found: list[Plan] = []
    while pieces:
        size = max(1, 2 ** (len(found) - 1))
        part, pieces = pieces[:size], pieces[size:]
        found.append(replace(part[0], files=tuple(path for piece in part for path in piece.files)))
    return found
