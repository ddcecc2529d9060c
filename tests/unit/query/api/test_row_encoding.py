"""Rows as text, made by Arrow: whatever the values, readers get them back."""

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
from k2.query.execution.json_values import plain

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
def test_json_gives_every_value_back(rows: list[tuple[Any, ...]], first: int) -> None:
    first %= len(rows)
    found = json.loads(f"[{json_rows(batch(rows).slice(first)).decode()}]")
    assert [tuple(row.values()) for row in found] == [tuple(map(plain, row)) for row in rows[first:]]
    assert list(found[0]) == SCHEMA.names


@given(ROWS)
def test_csv_gives_every_text_back(rows: list[tuple[Any, ...]]) -> None:
    found = list(csv.reader(io.StringIO(csv_rows(batch(rows)).decode(), newline=""), strict=True))
    assert [row[0] for row in found] == [row[0] or "" for row in rows]
    assert [row[2] for row in found] == ["" if row[2] is None else plain(row[2]) for row in rows]
    assert [len(row) for row in found] == [len(SCHEMA)] * len(rows)


def test_small_decimals_have_no_exponent() -> None:
    column = pa.array([Decimal("0.00000001"), Decimal("-0.00000012")], pa.decimal128(18, 8))
    rows = pa.RecordBatch.from_arrays([column], names=["price"])
    assert json_rows(rows) == b'{"price":"0.00000001"},{"price":"-0.00000012"}'
    assert csv_rows(rows) == b"0.00000001\n-0.00000012\n"
