"""A stand-in for the trades in Kafka: rows of Gold's format that Gold does not have to hold."""

from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pytest

from k2.query import arrow_schema
from k2.query.kafka import record_buffer, tail
from k2.query.sql.record_sql import RecordFilter
from k2.schemas.channels import TRADES

Publish = Callable[[Sequence[dict[str, Any]]], None]


@pytest.fixture
def publish(monkeypatch: pytest.MonkeyPatch) -> Publish:
    """Add trades to Kafka, which every hybrid query then reads."""
    published: list[dict[str, Any]] = []

    class Published:
        conflicts = 0

        def __init__(self, *_: Any, **__: Any) -> None:
            pass

        def rows(self, _: Any, record_filter: RecordFilter) -> pa.Table:
            rows = [row for row in published if record_filter.symbol in {None, row["symbol"]}]
            table = pa.Table.from_pylist(rows, schema=arrow_schema.records(TRADES))
            return record_buffer.deduplicate(TRADES, record_buffer.within(TRADES, table, record_filter))

        def close(self) -> None:
            pass

    monkeypatch.setattr(tail, "Tail", Published)
    return published.extend
