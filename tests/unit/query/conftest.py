"""A small lake with a real catalog and real files: Gold created from its spec, trades appended with PyIceberg."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from k2.cli.embedded.layout import Layout
from k2.query.engine import Engine
from k2.query.iceberg import catalog, tables
from k2.schemas.formats import TABLE_PROPERTY
from k2.schemas.records.trade import message_id
from k2.schemas.tables import GOLD_TABLE

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)

Append = Callable[[Sequence[dict[str, Any]]], int]


def trade(number: int | str, at: timedelta | float = 0, **fields: Any) -> dict[str, Any]:
    """Return a row of Gold, `at` seconds after noon."""
    moment = NOON + (at if isinstance(at, timedelta) else timedelta(seconds=at))
    row = {
        "trade_id": str(number),
        "symbol": "BTCUSDT",
        "exchange": "BINANCE",
        "base_asset": "BTC",
        "quote_currency": "USDT",
        "timestamp": moment,
        "price": Decimal("100.00000000"),
        "quantity": Decimal("1.00000000"),
        "side": "BUY",
        "ingestion_timestamp": moment + timedelta(milliseconds=50),
        "vendor_data": json.dumps({"source": "live"}),
        "gold_ingestion_timestamp": moment + timedelta(seconds=1),
        "exchange_date": moment.date(),
        "exchange_hour": moment.hour,
    } | fields
    return row | {"message_id": str(message_id(row["exchange"], row["symbol"], row["trade_id"]))}


def stamp(layout: Layout, number: int | None) -> None:
    """Make Gold a table of another stored format; None: of the first, which carried no number."""
    with closing(catalog.connect(layout.platform())) as opened:
        gold = opened.load_table(tables.identifier(GOLD_TABLE))
        with gold.transaction() as change:
            if number is None:
                change.remove_properties(TABLE_PROPERTY)
            else:
                change.set_properties({TABLE_PROPERTY: str(number)})


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout.at(tmp_path / "it's .k2")


@pytest.fixture
def append(layout: Layout) -> Iterator[Append]:
    """Append rows to Gold as one snapshot; return its id."""
    layout.root.mkdir()
    with closing(catalog.connect(layout.platform(), create=True)) as opened:
        (gold,) = tables.ensure(opened, [GOLD_TABLE])

        def rows(trades: Sequence[dict[str, Any]]) -> int:
            gold.append(pa.Table.from_pylist(list(trades), schema=gold.schema().as_arrow()))
            snapshot = gold.current_snapshot()
            assert snapshot is not None
            return snapshot.snapshot_id

        yield rows


@pytest.fixture
def engine(layout: Layout, append: Append) -> Iterator[Engine]:
    with closing(Engine(layout.platform())) as opened:
        yield opened
