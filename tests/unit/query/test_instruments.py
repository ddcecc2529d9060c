"""Instruments as of a time, from the command line; the API's route has its own test."""

import json
from contextlib import closing
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from k2.cli.embedded.layout import Layout
from k2.cli.main import app
from k2.query.iceberg import catalog, tables
from k2.schemas.tables import INSTRUMENTS_TABLE
from tests.unit.query.conftest import NOON


def version(symbol: str, start: int, end: int | None, *, exchange: str = "BINANCE", **fields: Any) -> dict[str, Any]:
    """Return a row that is valid from `start` to `end`, in seconds after noon."""
    return {
        "exchange": exchange, "raw_symbol": symbol, "symbol": symbol.replace("/", ""), "kind": "spot", "listing": 1,
        "base_asset": "BTC", "quote_currency": "USDT", "status": "trading", "tick_size": Decimal("0.01"),
        "valid_from": NOON + timedelta(seconds=start), "definition": "{}",
        "valid_to": None if end is None else NOON + timedelta(seconds=end),
    } | fields  # fmt: skip


def record(layout: Layout, *rows: dict[str, Any]) -> None:
    """Append rows to `gold_instruments`."""
    with closing(catalog.connect(layout.platform(), create=True)) as opened:
        (table,) = tables.ensure(opened, [INSTRUMENTS_TABLE])
        table.append(pa.Table.from_pylist(list(rows), schema=table.schema().as_arrow()))


HISTORY = (
    version("BTCUSDT", 0, 10),
    version("BTCUSDT", 10, None, tick_size=Decimal("0.1")),
    version("ETHUSDT", 5, None),
    version("BTC/USD", 0, None, exchange="KRAKEN"),
)


@pytest.fixture
def recorded(layout: Layout) -> Layout:
    layout.root.mkdir()
    record(layout, *HISTORY)
    return layout


def run(layout: Layout, *words: str) -> tuple[int, list[tuple[str, str]], str]:
    """Return exit code, symbols with their steps, and standard error."""
    command = ["instruments", "binance", "--data", str(layout.root), "--format", "json", *words]
    result = CliRunner().invoke(app, command)
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    return result.exit_code, [(row["symbol"], row["tick_size"]) for row in rows], result.stderr


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("2026-01-31T11:59:59.999999Z", []),
        ("2026-01-31T12:00:00Z", [("BTCUSDT", "0.01")]),
        ("2026-01-31T12:00:09.999999Z", [("BTCUSDT", "0.01"), ("ETHUSDT", "0.01")]),
        ("2026-01-31T12:00:10Z", [("BTCUSDT", "0.1"), ("ETHUSDT", "0.01")]),
        ("2126-01-31T12:00:00Z", [("BTCUSDT", "0.1"), ("ETHUSDT", "0.01")]),
    ],
)
def test_each_instrument_has_the_version_that_was_valid_then(
    recorded: Layout, at: str, expected: list[tuple[str, str]]
) -> None:
    assert run(recorded, "--at", at) == (0, expected, "")


def test_match_selects_among_them(recorded: Layout) -> None:
    assert run(recorded, "--at", "2026-01-31T13:00:00Z", "--match", "eth*") == (0, [("ETHUSDT", "0.01")], "")
    assert run(recorded, "--at", "2026-01-31T13:00:00Z", "--match", "nothing") == (0, [], "")


def test_an_endpoint_or_a_wrong_time_is_bad_input_and_no_table_is_unreachable(recorded: Layout) -> None:
    code, _, error = run(recorded, "--at", "2026-01-31T13:00:00Z", "--endpoint", "http://x")
    assert (code, "leave one out" in error) == (2, True)
    code, _, error = run(recorded, "--at", "yesterday")
    assert (code, "RFC 3339" in error) == (2, True)
    with closing(catalog.connect(recorded.platform())) as opened:
        opened.drop_table(tables.identifier(INSTRUMENTS_TABLE))
    code, _, error = run(recorded, "--at", "2026-01-31T13:00:00Z")
    assert (code, "no table gold_instruments yet" in error) == (3, True)
