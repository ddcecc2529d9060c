"""`/v1/instruments`: the versions that are valid at a time or now."""

import pytest
from starlette.testclient import TestClient

from k2.cli.embedded.layout import Layout
from tests.unit.query.conftest import Append
from tests.unit.query.test_instruments import HISTORY, record


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", [("BINANCE", "BTCUSDT", "0.1"), ("BINANCE", "ETHUSDT", "0.01"), ("KRAKEN", "BTCUSD", "0.01")]),
        ("exchange=kraken", [("KRAKEN", "BTCUSD", "0.01")]),
        ("symbol=btcusdt&at=2026-01-31T12:00:00Z", [("BINANCE", "BTCUSDT", "0.01")]),
        ("at=2026-01-31T11:00:00Z", []),
    ],
)
def test_a_version_is_returned_while_it_is_valid(
    api: TestClient, append: Append, layout: Layout, query: str, expected: list[tuple[str, str, str]]
) -> None:
    record(layout, *HISTORY)
    answer = api.get(f"/v1/instruments?{query}")
    assert answer.status_code == 200, answer.text
    rows = answer.json()["data"]
    assert [(row["exchange"], row["symbol"], row["tick_size"]) for row in rows] == expected
    assert not any("definition" in row for row in rows)
