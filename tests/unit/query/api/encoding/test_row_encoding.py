"""Rows encoded by Arrow kernels round-trip through JSON and CSV readers."""

import csv
import io
import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as some

from k2.query.api.encoding.row_encoding import csv_rows, json_rows
from k2.query.execution.json_values import to_json_value

SCHEMA = pa.schema(
    [
        ("text", pa.string()),
        ('na"me', pa.int64()),
        ("price", pa.decimal128(18, 8)),
        ("flag", pa.bool_()),
        ("ratio", pa.float64()),
        ("moment", pa.timestamp("us", "UTC")),
        ("bytes", pa.binary()),
        ("list", pa.list_(pa.string())),
    ]
)
MOMENTS = some.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=some.just(UTC))  # noqa: DTZ001
PRICES = some.decimals(-(10**9), 10**9, places=8, allow_nan=False)
TEXTS = some.text(some.characters(codec="utf-8"), max_size=20)
CELLS = [
    TEXTS,
    some.integers(-(2**63), 2**63 - 1),
    PRICES,
    some.booleans(),
    some.floats(),
    MOMENTS,
    some.binary(max_size=5),
    some.lists(TEXTS, max_size=3),
]
ROWS = some.lists(some.tuples(*(some.none() | cell for cell in CELLS)), min_size=1, max_size=8)


def batch(rows: list[tuple[Any, ...]]) -> pa.RecordBatch:
    columns = [
        pa.array(list(column), field.type) for column, field in zip(zip(*rows, strict=True), SCHEMA, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


@given(ROWS, some.integers(0, 7))
def test_json_round_trips(rows: list[tuple[Any, ...]], first: int) -> None:
    first %= len(rows)
    decoded = json.loads(f"[{json_rows(batch(rows).slice(first)).decode()}]")
    assert [tuple(row.values()) for row in decoded] == [tuple(map(to_json_value, row)) for row in rows[first:]]
    assert list(decoded[0]) == SCHEMA.names


@given(ROWS)
def test_csv_round_trips(rows: list[tuple[Any, ...]]) -> None:
    decoded = list(csv.reader(io.StringIO(csv_rows(batch(rows)).decode(), newline=""), strict=True))
    assert [row[0] for row in decoded] == [row[0] or "" for row in rows]
    assert [row[2] for row in decoded] == ["" if row[2] is None else to_json_value(row[2]) for row in rows]
    assert [len(row) for row in decoded] == [len(SCHEMA)] * len(rows)


def test_small_decimals_have_no_exponent() -> None:
    column = pa.array([Decimal("0.00000001"), Decimal("-0.00000012")], pa.decimal128(18, 8))
    rows = pa.RecordBatch.from_arrays([column], names=["price"])
    assert json_rows(rows) == b'{"price":"0.00000001"},{"price":"-0.00000012"}'
    assert csv_rows(rows) == b"0.00000001\n-0.00000012\n"
