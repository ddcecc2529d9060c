"""The limits in docs/reference/exchanges.md are those of the code."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

from k2.ingest.exchanges import adapter, venue
from k2.ingest.exchanges.base import Adapter, Limits
from k2.ingest.exchanges.base_venue import Rules
from k2.schemas.channels import CHANNELS, TRADES
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.exchanges.spec import SequenceScheme

ROOT = Path(__file__).parents[4]
PAGE = (ROOT / "docs/reference/exchanges.md").read_text("utf-8")
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


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_the_page_has_the_rest_limits_of_every_exchange(exchange):
    section = PAGE.partition("## REST rate limits\n")[2].partition("\n## ")[0]
    (line,) = [line for line in section.splitlines() if line.startswith(f"| {exchange} |")]
    rate, burst, limit, counter = [cell.strip() for cell in line.split("|")[2:6]]
    budget = adapter(exchange, TRADES, []).rest_budget
    assert (rate, burst) == (number(budget.rate), number(budget.burst))
    assert counter.strip("`") == budget.counter
    if budget.limit:
        assert limit == f"{budget.limit:g} in {seconds(budget.period)}"
        assert budget.burst + budget.rate * budget.period <= budget.limit


@pytest.mark.parametrize("row", ROWS)
def test_the_page_has_the_limits_of_every_adapter(row):
    (line,) = [line for line in PAGE.splitlines() if line.startswith(f"| {row} |")]
    expected = []
    for name in ADAPTERS:
        exchange, _, protocol = name.partition("#")
        made = adapter(exchange, TRADES, [], f"wss://host#{protocol}" if protocol else "")
        expected.append(ROWS[row](made.limits))
    assert [cell.strip() for cell in line.split("|")[2:-1]] == expected


def rate(most: int, period: float) -> str:
    return f"{most} in {seconds(period)}" if most else ""


ALLOWED: dict[str, Callable[[Rules], str]] = {
    "Messages of a client": lambda rules: rate(rules.messages, rules.messages_period),
    "Arguments of a request": lambda rules: number(rules.arguments),
    "Bytes of a request": lambda rules: number(rules.bytes),
    "Symbols on a connection": lambda rules: number(rules.symbols),
    "Characters of arguments on a connection": lambda rules: number(rules.characters),
    "Connections of an address": lambda rules: rate(rules.connects, rules.connects_period),
}


def cells(row: str) -> list[str]:
    (line,) = [line for line in PAGE.splitlines() if line.startswith(f"| {row} |")]
    return [cell.strip() for cell in line.split("|")[2:-1]]


@pytest.mark.parametrize("row", ALLOWED)
def test_the_page_has_what_each_simulated_exchange_allows(row):
    names = ("binance", "kraken", "coinbase", "bybit", "okx")
    assert cells(f"{row}, allowed") == [ALLOWED[row](venue(name).limits()) for name in names]


@pytest.mark.parametrize("name", ADAPTERS)
def test_no_limit_that_k2_keeps_is_above_what_the_exchange_allows(name):
    exchange, _, protocol = name.partition("#")
    limits = adapter(exchange, TRADES, [], f"wss://host#{protocol}" if protocol else "").limits
    rules = venue(exchange).limits()
    assert not rules.arguments or limits.symbols_per_message <= rules.arguments
    assert not rules.bytes or 0 < limits.message_bytes <= rules.bytes
    assert not rules.symbols or limits.symbols_per_connection <= rules.symbols
    assert not rules.characters or 0 < limits.characters_per_connection <= rules.characters
    assert 0 < limits.connects / limits.connects_period <= rules.connects / rules.connects_period
    messages = rules.messages / rules.messages_period if rules.messages else 1e9
    assert 1 / limits.subscribe_interval <= messages or 0 < limits.requests_per_hour <= messages * 3600


DECLARED: dict[str, Callable[[Adapter], str]] = {
    "Symbols": lambda made: f"`{made.spec.symbol_example}`",
    "Default partitions": lambda made: str(made.spec.partitions),
    "Ids": lambda made: (
        ("consecutive" if made.has_sequence else "none, derived")
        if made.spec.sequence is SequenceScheme.CONSECUTIVE
        else "unique, not consecutive"
    ),
    "Keep-alive": lambda made: (
        f"`{made.limits.ping_text}` every {seconds(made.limits.ping_interval)}" if made.limits.ping_text else "server's"
    ),
}


def test_the_page_has_the_channels_of_each_protocol():
    for name, cell in zip(ADAPTERS, cells("Channels"), strict=True):
        exchange, _, protocol = name.partition("#")
        channels = import_module(f"k2.ingest.exchanges.{exchange}").CHANNELS
        assert cell == ", ".join(channel.name for channel in CHANNELS if protocol in channels.get(channel.name, {}))


def test_the_page_has_the_depths_of_books_that_each_exchange_offers():
    offered = [", ".join(map(str, spec.book_depths)) or "whole books only" for spec in EXCHANGES.values()]
    assert cells("Depths of `spec.book.depth`") == offered


@pytest.mark.parametrize("row", DECLARED)
def test_the_page_has_what_each_adapter_declares(row):
    for name, cell in zip(ADAPTERS, cells(row), strict=True):
        exchange, _, protocol = name.partition("#")
        made = adapter(exchange, TRADES, [], f"wss://host#{protocol}" if protocol else "")
        assert cell.startswith(DECLARED[row](made))


@pytest.mark.parametrize("name", EXCHANGES)
def test_the_page_has_each_exchanges_endpoints(name):
    made = adapter(name, TRADES, [])
    lines = [line for line in PAGE.splitlines() if line.startswith(f"| {name} |")]
    assert f"| {name} | `{made.url}` | `{made.rest_url}` |" in lines


@pytest.mark.parametrize("name", EXCHANGES)
def test_each_folder_has_its_facts_with_sources(name):
    text = (ROOT / f"ingest/src/k2/ingest/exchanges/{name}/facts.md").read_text("utf-8")
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 8
    assert all(len(row) == 2 and len(row[1].strip(" |")) > 10 for row in rows)
