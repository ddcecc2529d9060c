"""The audit tables of one channel: rows of other channels do not mix in."""

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pyarrow as pa
import pytest

from k2.cli.embedded.layout import Layout
from k2.query.engine import Engine
from k2.query.iceberg import catalog, tables
from k2.query.sql import audit_tables
from k2.query.sql.record_sql import RecordFilter
from k2.schemas.channels import TRADES
from k2.schemas.tables import BATCHES_TABLE, COMPLETENESS_TABLE, DEAD_LETTERS_TABLE, GAPS_TABLE, Table
from tests.unit.query.books import BOOKS
from tests.unit.query.conftest import NOON

Insert = Callable[..., None]


@pytest.fixture
def insert(layout: Layout) -> Iterator[Insert]:
    """Append rows to a table, once for each channel with that channel's number."""
    layout.root.mkdir()
    with closing(catalog.connect(layout.platform(), create=True)) as opened:

        def append(spec: Table, number: str, **fields: Any) -> None:
            (table,) = tables.ensure(opened, [spec])
            rows = [
                {
                    "exchange": "BINANCE",
                    "channel": channel.name,
                    number: str(value) if number.endswith("_id") else value,
                    **fields,
                }
                for channel, value in ((TRADES, 1), (BOOKS, 2))
            ]
            table.append(pa.Table.from_pylist(rows, schema=table.schema().as_arrow()))

        yield append


@pytest.fixture
def engine(layout: Layout, insert: Insert) -> Iterator[Engine]:
    with closing(Engine(layout.platform())) as opened:
        yield opened


def test_hours_gaps_and_batches_are_those_of_the_channel(engine: Engine, insert: Insert) -> None:
    insert(
        COMPLETENESS_TABLE,
        "expected",
        symbol="BTCUSDT",
        hour=NOON,
        state="complete",
        by_source=[],
        seconds=[("verified", 9)],
    )
    insert(GAPS_TABLE, "first_id", gap_id="g", state="open", detected_at=NOON)
    insert(BATCHES_TABLE, "rows_in", layer="gold", committed_at=NOON, rows_out=0, dead_letters=0)
    for channel, value in ((TRADES, 1), (BOOKS, 2)):
        (hour,) = audit_tables.completeness(engine, channel, RecordFilter(start=NOON)).to_pylist()
        (gap,) = audit_tables.gaps(engine, channel, RecordFilter(end=NOON.replace(hour=13)), "open", 9).to_pylist()
        (batch,) = audit_tables.last_batches(engine, channel)
        assert hour["seconds"] == [("verified", 9)]
        assert (hour["expected"], gap["first_id"], batch["rows_in"]) == (value, str(value), value)
        assert audit_tables.hour_counts(engine, channel) == [{"exchange": "BINANCE", "state": "complete", "hours": 1}]
        assert [row["open"] for row in audit_tables.gap_counts(engine, channel)] == [1]
        assert "channel" not in gap


def test_of_the_verdicts_on_an_hour_the_newest_is_in_force(engine: Engine, insert: Insert) -> None:
    for minute, state in ((5, "incomplete"), (50, "complete"), (20, "open")):
        checked_at = NOON.replace(minute=minute)
        insert(
            COMPLETENESS_TABLE,
            "expected",
            symbol="BTCUSDT",
            hour=NOON,
            state=state,
            checked_at=checked_at,
            by_source=[],
        )
    (hour,) = audit_tables.completeness(engine, TRADES, RecordFilter(start=NOON)).to_pylist()
    assert hour["state"] == "complete"
    assert audit_tables.hour_counts(engine, TRADES) == [{"exchange": "BINANCE", "state": "complete", "hours": 1}]


def test_dead_letters_are_those_of_the_channel(engine: Engine, insert: Insert) -> None:
    insert(DEAD_LETTERS_TABLE, "offset", topic="t", partition=0, dead_lettered_at=NOON, error_category="UNDECODABLE")
    within = RecordFilter(exchange="BINANCE", start=NOON)
    for channel, offset in ((TRADES, 1), (BOOKS, 2)):
        rows = audit_tables.dead_letters(engine, channel, within, "UNDECODABLE", 9).to_pylist()
        assert [row["offset"] for row in rows] == [offset]
    assert audit_tables.dead_letter(engine, "t", 0, 2) is not None
