"""Convert trades to Arrow batches with Gold's columns, for files and pipes."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING

from k2.query import arrow_schema
from k2.schemas.channels import TRADES
from k2.schemas.values import decimal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pyarrow import RecordBatch, RecordBatchReader

    from k2.schemas.records.trade import Trade, VendorData


def to_reader(chunks: Iterable[list[Trade]]) -> RecordBatchReader:
    """Return the chunks as record batches, one each."""
    import pyarrow as pa

    schema = arrow_schema.records(TRADES)

    def batches() -> Iterator[RecordBatch]:
        for chunk in chunks:
            columns = {
                "message_id": [str(trade.message_id) for trade in chunk],
                "price": [decimal(trade.price) for trade in chunk],
                "quantity": [decimal(trade.quantity) for trade in chunk],
                "side": [trade.side.value for trade in chunk],
                "vendor_data": [_json(trade.vendor_data) for trade in chunk],
            }
            values = [columns.get(name) or [getattr(trade, name) for trade in chunk] for name in schema.names]
            arrays = [pa.array(column, field.type) for column, field in zip(values, schema, strict=True)]
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)

    return pa.RecordBatchReader.from_batches(schema, batches())


@lru_cache(maxsize=4096)
def _json(vendor: VendorData) -> str:
    return json.dumps(dict(vendor), separators=(",", ":"), ensure_ascii=False)
