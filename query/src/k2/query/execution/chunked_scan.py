"""Answer a long query in chunks that follow each other in time.

Gold is partitioned by hour, so hours can be read one after the other: the first rows arrive soon, and no more than one
chunk is sorted at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextvars import copy_context
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, Final

from k2.query.iceberg.scan_planner import ScanPlan

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from pyarrow import RecordBatch, RecordBatchReader

CHUNK_ROWS: Final = 500_000  # a chunk is one hour, or as many hours as have no more rows in total
SINGLE_SYMBOL_CHUNK_ROWS: Final = 4 * CHUNK_ROWS  # for all trades of one symbol: each chunk costs a statement

Scan = Callable[[ScanPlan, int | None], "RecordBatchReader"]


def split(plan: ScanPlan, max_rows: int) -> list[ScanPlan]:
    """Split a plan into chunks, oldest first; return it as it is where its files are not partitioned by hour."""
    if not plan.hours or plan.scan is not None:
        return [plan]
    chunks: list[list[str]] = []
    remaining = 0
    by_hour = sorted(zip(plan.hours, plan.rows, plan.files, strict=True))
    for _, group in groupby(by_hour, key=lambda file: file[0]):
        files = list(group)
        rows = sum(count for _, count, _ in files)
        if not chunks or rows > remaining:
            chunks.append([])
            remaining = max_rows
        chunks[-1] += [path for _, _, path in files]
        remaining -= rows
    return [replace(plan, files=tuple(files), times=(), hours=(), rows=()) for files in chunks]


def read_chunks(chunks: list[ScanPlan], scan: Scan, executor: Executor) -> RecordBatchReader:
    """Return all rows. The first chunk is read at once, each other one by `executor` during its predecessor."""
    import pyarrow as pa

    first_reader = scan(chunks[0], None)

    def batches() -> Iterator[RecordBatch]:
        reader = first_reader
        for chunk in chunks[1:]:
            next_reader = executor.submit(copy_context().run, scan, chunk, None)
            try:
                yield from reader
            except GeneratorExit:
                next_reader.cancel()
                raise
            reader = next_reader.result()
        yield from reader

    return pa.RecordBatchReader.from_batches(first_reader.schema, batches())


def limit_rows(reader: RecordBatchReader, limit: int) -> RecordBatchReader:
    """Return the first `limit` rows, and do not read beyond them."""
    import pyarrow as pa

    def batches() -> Iterator[RecordBatch]:
        remaining = limit
        for batch in reader:
            yield batch.slice(0, remaining)
            remaining -= batch.num_rows
            if remaining <= 0:
                return

    return pa.RecordBatchReader.from_batches(reader.schema, batches())
