"""`/v1/ohlcv`, the client and `k2 ohlcv` take the same parameters and return the same bars."""

import json
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

from k2.cli.embedded.layout import Layout
from k2.cli.main import app
from k2.query.client import Client
from k2.query.iceberg import catalog, tables
from k2.schemas.tables import COMPLETENESS_TABLE
from tests.unit.query.conftest import NOON, Append, trade

ROWS = [trade(number, number * 7, side="BUY" if number % 3 else "SELL") for number in range(40)]
QUERIES: list[dict[str, Any]] = [
    {"interval": "30s", "limit": 3},
    {"interval": "1w", "tz": "Europe/Berlin"},
    {"interval": "1m", "fill": "previous", "start": "2026-01-31T12:00:00Z", "end": "2026-01-31T12:09:00Z"},
    {"bars": "imbalance:4"},
    {"bars": "dollar:1000", "start": "2026-01-31T12:02:00Z", "limit": 2},
]


def judge(layout: Layout, state: str, minute: int = 0) -> None:
    """Add a verdict on the hour of the trades."""
    with closing(catalog.connect(layout.platform())) as opened:
        table = opened.load_table(tables.identifier(COMPLETENESS_TABLE))
        row = {"exchange": "BINANCE", "symbol": "BTCUSDT", "channel": "trades", "hour": NOON, "state": state}
        row |= {"checked_at": NOON + timedelta(hours=1, minutes=minute), "by_source": []}
        table.append(pa.Table.from_pylist([row], schema=table.schema().as_arrow()))


def test_http_the_client_and_the_command_line_return_the_same_bars(
    running: Callable[..., str], append: Append, layout: Layout
) -> None:
    append(ROWS)
    append([trade(1, symbol="ETHUSDT")])
    judge(layout, "complete")
    with Client(running()) as k2:
        for query in QUERIES:
            table = k2.ohlcv(["BTCUSDT", "ETHUSDT"], **query)
            options = [part for name, value in query.items() for part in (f"--{name}", str(value))]
            command = ["ohlcv", "--symbol", "BTCUSDT,ETHUSDT", *options, "--format", "json", "--data", str(layout.root)]
            done = CliRunner().invoke(app, command)
            assert done.exit_code == 0, done.stderr
            rows = [json.loads(line) for line in done.stdout.splitlines()]
            assert [row["trade_count"] for row in rows] == table.column("trade_count").to_pylist()
            assert {row["symbol"] for row in rows} == {"BTCUSDT", "ETHUSDT"} or query.get("limit")
            assert list(rows[0]) == table.schema.names
            assert table.schema.names[-2:] == ["notional", "complete"]


def test_a_bar_is_no_longer_cached_once_the_audit_judged_it(api: TestClient, append: Append, layout: Layout) -> None:
    append(ROWS)
    url = "/v1/ohlcv?symbol=BTCUSDT&interval=1h"
    first = api.get(url)
    assert first.json()["data"][0]["complete"] == "unverifiable"
    etag = {"If-None-Match": first.headers["etag"]}
    assert api.get(url, headers=etag).status_code == 304
    judge(layout, "complete")
    second = api.get(url, headers=etag)
    assert (second.status_code, second.json()["data"][0]["complete"]) == (200, "true")
    newest = api.get(f"{url}&as_of={first.json()['snapshot_id']}")
    assert "immutable" not in newest.headers["cache-control"]  # the audit may judge it again
    append([trade(99, 300)])
    older = api.get(f"{url}&as_of={first.json()['snapshot_id']}")
    assert "immutable" in older.headers["cache-control"]
    assert older.json()["data"][0]["complete"] == "true"


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("interval=2w", "is not an interval"),
        ("tz=Mars", "is not a time zone"),
        ("bars=tick:0", "does not name bars"),
        ("bars=tick:5&interval=1m", "leave these out"),
        ("fill=zero", "fill"),
        ("limit=0", "limit"),
    ],
)
def test_a_wrong_parameter_is_refused_with_what_to_change(
    api: TestClient, append: Append, query: str, reason: str
) -> None:
    append(ROWS)
    answer = api.get(f"/v1/ohlcv?symbol=BTCUSDT&{query}")
    assert (answer.status_code, reason in answer.json()["detail"]) == (400, True), answer.text
