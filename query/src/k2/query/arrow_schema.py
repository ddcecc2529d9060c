"""Arrow schema of trades, derived from the spec of Gold's table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from k2.schemas.tables import GOLD_TABLE, TRADE_COLUMNS

if TYPE_CHECKING:
    from pyarrow import Schema


def trades() -> Schema:
    """Return the Arrow schema of a trade's columns in Gold."""
    import pyarrow as pa

    types = {"string": pa.string(), "timestamp": pa.timestamp("us", "UTC"), "decimal(18,8)": pa.decimal128(18, 8)}
    return pa.schema(
        [(column.name, types[column.type]) for column in GOLD_TABLE.columns if column.name in TRADE_COLUMNS]
    )
