"""Times, intervals and floats as the texts of CSV, JSON and tables, equal to DuckDB's own."""

import io
import json
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from k2.query.execution import parquet
from k2.query.execution.row_encoding import csv_rows, json_rows

TEXTS = {
    "TIMESTAMP '2026-01-31 14:00:00.5'": "2026-01-31T14:00:00.500000",
    "TIMESTAMPTZ '2026-01-31 14:00:00+02'": "2026-01-31T12:00:00.000000Z",
    "TIMESTAMPTZ '2026-01-31 14:00:00+02' AT TIME ZONE 'America/New_York'": "2026-01-31T07:00:00.000000",
    "TIMESTAMPTZ '2026-01-31 14:00:00+02'::TIMESTAMP": "2026-01-31T12:00:00.000000",
    "TIMESTAMP_S '2026-01-31 14:00:00'": "2026-01-31T14:00:00",
    "TIMESTAMP_NS '2026-01-31 14:00:00.123456789'": "2026-01-31T14:00:00.123456789",
    "TIMESTAMP '0001-01-01'": "0001-01-01T00:00:00.000000",
    "TIMESTAMP '290000-02-28'": "290000-02-28T00:00:00.000000",
    "TIMESTAMP '0044-03-15 (BC)'": "0044-03-15T00:00:00.000000 (BC)",
    "'infinity'::TIMESTAMP": "infinity",
    "'-infinity'::TIMESTAMPTZ": "-infinity",
    "DATE '0044-03-15 (BC)'": "0044-03-15 (BC)",
    "'-infinity'::DATE": "-infinity",
    "DATE '2026-01-31'": "2026-01-31",
    "[TIMESTAMP '2026-01-31']": '["2026-01-31T00:00:00.000000"]',
    "[INTERVAL 1 DAY]": '["1 day"]',
    "0.1::FLOAT": "0.1",
    "'nan'::DOUBLE": "nan",
    "'-inf'::FLOAT": "-inf",
}
INTERVALS = [
    "1 day 2 hours", "3 months", "-1 month -2 days -3.5 hours", "13 months 400 days", "0 seconds", "-1 microsecond",
    "90 minutes", "-1 year -1 month", "1 year 1 month 1 day 00:00:01.000001",
]  # fmt: skip


def batch_of(expression: str) -> pa.RecordBatch:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        return connection.sql(f"SELECT {expression} AS x").to_arrow_table().combine_chunks().to_batches()[0]


def csv_text(expression: str) -> Any:
    return csv_rows(batch_of(expression)).decode().removesuffix("\n")


@pytest.mark.parametrize(("expression", "text"), TEXTS.items())
def test_a_time_has_the_zone_that_it_has_and_every_value_its_own_text(expression: str, text: str) -> None:
    assert csv_text(expression).strip('"').replace('""', '"') == text


@pytest.mark.parametrize("interval", INTERVALS)
def test_intervals_are_written_as_duckdb_writes_them(interval: str) -> None:
    assert csv_text(f"INTERVAL '{interval}'") == csv_text(f"(INTERVAL '{interval}')::VARCHAR")


def test_dates_of_any_year_are_those_of_duckdb() -> None:
    days = [*range(-1_000_000, 4_000_000, 36_525), *range(-719_600, -719_000, 7), *range(2_932_890, 2_933_300, 7)]
    values = ",".join(f"(DATE '1970-01-01' + INTERVAL ({day}) DAY)" for day in days)
    with duckdb.connect() as connection:
        rows = connection.sql(f"SELECT unnest([{values}])::DATE AS x").to_arrow_table().combine_chunks()
        texts = connection.sql("SELECT x::VARCHAR FROM rows").fetchall()
    assert csv_rows(rows.to_batches()[0]).decode().splitlines() == [text for (text,) in texts]


def test_json_has_null_for_what_is_no_number_of_json() -> None:
    (row,) = json.loads(f"[{json_rows(batch_of(chr(39) + 'nan' + chr(39) + '::DOUBLE')).decode()}]")
    assert row == {"x": None}


def test_parquet_has_intervals_as_texts() -> None:
    sink = io.BytesIO()
    rows = pa.Table.from_batches([batch_of("INTERVAL '1 day 2 hours'")])
    assert list(parquet.write(rows.to_reader(), sink, "")) == [1]
    assert pq.read_table(sink).to_pylist() == [{"x": "1 day 02:00:00"}]
