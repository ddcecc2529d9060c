"""Rows encoded by Arrow kernels round-trip through JSON and CSV readers."""

import csv
import io
import json
from datetime import UTC, datetime
from decimal import Context, Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as some

from k2.query.execution.json_values import to_json_value
from k2.query.execution.row_encoding import csv_rows, json_rows

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


@pytest.mark.parametrize("kind", [pa.decimal128(38, 12), pa.decimal256(40, 12)])
def test_decimals_have_no_exponent_and_no_trailing_zeros(kind: pa.DataType) -> None:
    texts = ["0.000000000001", "-0.00000012", "0", "100", "10.05", "61837.63", "-5", f"{10**26 - 1}.{10**12 - 1}"]
    column = pa.array([*map(Decimal, texts), None], kind)
    rows = pa.RecordBatch.from_arrays([column], names=["price"])
    assert json_rows(rows).decode() == ",".join([*(f'{{"price":"{text}"}}' for text in texts), '{"price":null}'])
    assert csv_rows(rows).decode() == "\n".join([*texts, "", ""])
    assert [to_json_value(value) for value in column.to_pylist()] == [*texts, None]


def test_zeros_before_the_point_are_kept() -> None:
    column = pa.array([Decimal(100), Decimal(0)], pa.decimal128(38, 0))
    assert csv_rows(pa.RecordBatch.from_arrays([column], names=["n"])) == b"100\n0\n"


@given(some.lists(some.none() | some.integers(1 - 10**38, 10**38 - 1), min_size=1, max_size=20), some.integers(0, 38))
def test_every_decimal_reads_back(units: list[int | None], scale: int) -> None:
    context = Context(prec=80)
    values = [None if number is None else Decimal(number).scaleb(-scale, context) for number in units]
    column = pa.array(values, pa.decimal128(38, scale))
    texts = csv_rows(pa.RecordBatch.from_arrays([column], names=["n"])).decode().split("\n")[:-1]
    assert [Decimal(text) if text else None for text in texts] == values
    assert not any("E" in text or (text.endswith(("0", ".")) and "." in text) for text in texts)
