"""Rows of quotes, and a Gold table that holds them."""

from contextlib import closing
from datetime import timedelta
from typing import Any

import pyarrow as pa

from k2.cli.embedded.layout import Layout
from k2.query.iceberg import catalog, tables
from k2.schemas.tables import GOLD_QUOTES_TABLE, Table
from tests.unit.query.conftest import NOON

_DELAY = timedelta(milliseconds=50)


def quote(ordinal: int, at: float = 0, *, timed: bool = True, **fields: Any) -> dict[str, Any]:
    """Return a row of Gold, `at` seconds after noon; without exchange time unless `timed`."""
    moment = NOON + timedelta(seconds=at)
    return {
        "symbol": "BTCUSDT",
        "exchange": "BINANCE",
        "timestamp": moment if timed else None,
        "ingestion_timestamp": moment + _DELAY if timed else moment,
        "bid_price": 10_000 + ordinal,
        "bid_quantity": 15,
        "ask_price": 10_010 + ordinal,
        "ask_quantity": 2_500,
        "price_exponent": -2,
        "quantity_exponent": -3,
        "sequence": None,
        "connection": "a",
        "ordinal": ordinal,
        "verdict": "verified",
        "clock_offset_ms": None,
        "gold_ingestion_timestamp": moment + timedelta(seconds=1),
        "exchange_date": moment.date(),
        "exchange_hour": moment.hour,
    } | fields


def store(layout: Layout, rows: list[dict[str, Any]], spec: Table = GOLD_QUOTES_TABLE) -> int:
    """Append rows to a Gold table as one snapshot; return its id."""
    with closing(catalog.connect(layout.platform(), create=True)) as opened:
        (gold,) = tables.ensure(opened, [spec])
        gold.append(pa.Table.from_pylist(rows, schema=gold.schema().as_arrow()))
        snapshot = gold.current_snapshot()
        assert snapshot is not None
        return snapshot.snapshot_id
