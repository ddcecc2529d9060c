"""The limits in docs/reference/exchanges.md are those of the code."""

from collections.abc import Callable
from pathlib import Path

import pytest

from k2.ingest.exchanges import adapter
from k2.ingest.exchanges.base import Limits
from k2.schemas.channels import TRADES

PAGE = (Path(__file__).parents[4] / "docs/reference/exchanges.md").read_text("utf-8")
ADAPTERS = ("binance", "kraken", "kraken#v1", "coinbase", "bybit", "okx")


def number(value: float) -> str:
    return f"{value:g}" if value else ""


def seconds(value: float) -> str:
    return f"{value:g} s"


ROWS: dict[str, Callable[[Limits], str]] = {
    "Stale after": lambda limits: seconds(limits.stale_after),
    "Rotated after": lambda limits: f"{limits.max_age / 3600:g} h",
    "Symbols in a request": lambda limits: number(limits.symbols_per_message),
    "Bytes of a request": lambda limits: number(limits.message_bytes),
    "Pause between requests": lambda limits: seconds(limits.subscribe_interval),
    "Requests an hour": lambda limits: number(limits.requests_per_hour),
    "Unanswered requests at once": lambda limits: number(limits.unanswered_requests),
    "Symbols on a connection": lambda limits: number(limits.symbols_per_connection),
    "Characters of arguments on a connection": lambda limits: number(limits.characters_per_connection),
    "Connection attempts": lambda limits: f"{limits.connects} in {seconds(limits.connects_period)}",
}


@pytest.mark.parametrize("row", ROWS)
def test_the_page_has_the_limits_of_every_adapter(row):
    (line,) = [line for line in PAGE.splitlines() if line.startswith(f"| {row} |")]
    expected = []
    for name in ADAPTERS:
        exchange, _, protocol = name.partition("#")
        made = adapter(exchange, TRADES, [], f"wss://host#{protocol}" if protocol else "")
        expected.append(ROWS[row](made.limits))
    assert [cell.strip() for cell in line.split("|")[2:-1]] == expected
