"""`k2 watch --book`: the ladder of a stream, and options that exclude one another."""

import io
import time
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table
from typer.testing import CliRunner

from k2.cli.commands.markets.ladder import Ladder
from k2.cli.commands.watch import show
from k2.cli.main import app
from k2.query.live import record_json
from k2.schemas.channels import BOOK
from tests.unit.query.book.exchange import Exchange
from tests.unit.query.live.test_opening import row


@dataclass
class Recorded:
    """A source of records."""

    stream: list[dict[str, Any]]

    def records(self) -> Iterator[dict[str, Any]]:
        yield from self.stream

    def health(self) -> Table:
        return Table("FEED")


def drawn(stream: list[dict[str, Any]]) -> str:
    console = Console(file=io.StringIO(), width=150, height=40)
    show(Recorded(stream), time.monotonic() + 0.6, console, Ladder("BTCUSDT"))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_ladder_has_asks_above_bids_with_spread_and_verdict():
    messages = [record_json.fields(BOOK, row(each)) for each in Exchange(Random(1), 0).rows("a", {0}, ())]
    other = [record | {"exchange": "OKX", "verdict": "unverifiable"} for record in messages]
    lines = [line.split() for line in drawn(messages + other).splitlines()]
    (title,) = [line for line in lines if line[:2] == ["BINANCE", "BTCUSDT"]]
    assert "verified" in title
    assert title[title.index("OKX") : title.index("OKX") + 3] == ["OKX", "BTCUSDT", "unverifiable"]
    rows = [line[:3] for line in lines[lines.index(title) :] if line and line[0][0].isdigit()]
    assert rows == [
        ["1.13", "0.004", "0.01"], ["1.12", "0.003", "0.006"], ["1.11", "0.002", "0.003"], ["1.10", "0.001", "0.001"],
        ["0.10", "(952.38", "bp)"],
        ["1.00", "0.001", "0.001"], ["0.99", "0.002", "0.003"], ["0.98", "0.003", "0.006"], ["0.97", "0.004", "0.01"],
    ]  # fmt: skip


def test_it_says_what_it_waits_for():
    assert "waiting for a book of BTCUSDT" in drawn([])


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("--book BTCUSDT --symbols ETHUSDT", "--book shows one symbol; leave out --symbols"),
        ("--book BTCUSDT --exchange nasdaq", '"nasdaq" is not an exchange; available exchanges: '),
    ],
)
def test_options_that_cannot_be_met_are_refused(words: str, reason: str):
    result = CliRunner().invoke(app, ["watch", "--url", "http://127.0.0.1:1", *words.split()])
    assert (result.exit_code, result.stderr[: len(reason)]) == (2, reason)
