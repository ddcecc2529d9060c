"""Recorded frames of Binance: the book of the records is the exchange's, and agrees with its best bids and asks."""

import json
import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from k2.ingest.exchanges import adapter
from k2.ingest.simulator.capture import frames
from k2.ingest.simulator.listings import pair_of
from k2.schemas.channels import BOOK
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.states import Verdict
from k2.schemas.values import scaled
from tests.unit.ingest.books.feed import records
from tests.unit.ingest.books.reading import ReadBook


@pytest.mark.skipif("K2_CAPTURES" not in os.environ, reason="no recorded frames")
@pytest.mark.parametrize("raw_symbol", ["BTCUSDT", "ETHUSDT"])
def test_the_recorded_books_of_binance_are_those_of_the_records_and_agree_with_the_recorded_quotes(raw_symbol: str):
    pair = pair_of(EXCHANGES["binance"], raw_symbol)
    path = Path(os.environ["K2_CAPTURES"]) / f"binance_spot_{raw_symbol.lower()}.gz"
    book, read, plain = adapter("binance", BOOK, [pair]), ReadBook(), Plain()
    recorded = [(at, frame, json.loads(frame)) for at, frame in frames(path)]
    tops = [message["data"] for *_, message in recorded if message.get("stream", "").endswith("@bookTicker")]
    numbers = {top["u"] for top in tops}
    best: dict[int, tuple[Any, Any]] = {}
    compared = suspect = 0
    for at, frame, message in recorded:
        if "lastUpdateId" in message:
            plain.replace(message)
            events = book.parse_state(pair, frame, at // 1000)  # type: ignore[attr-defined]
        elif "@depth" in message["stream"]:
            plain.change(message["data"])
            events = book.parse(frame, at // 1000)
        else:
            continue
        for record in records(events):
            suspect += record.verdict is Verdict.SUSPECT
            read.take(record)
        if read.whole and read.last_id in numbers:
            best[read.last_id] = read_best(read)
            if len(best) % 20 == 0:
                assert (read.bids, read.asks) == (plain.bids, plain.asks)
    assert (read.bids, read.asks) == (plain.bids, plain.asks)
    assert suspect in {2, 3}  # before the snapshot
    for top in tops:
        if top["u"] in best:
            compared += 1
            assert best[top["u"]] == ((scaled(top["b"]), scaled(top["B"])), (scaled(top["a"]), scaled(top["A"])))
    assert compared == {"BTCUSDT": 564, "ETHUSDT": 577}[raw_symbol]


class Plain:
    """A book as the exchange's documentation says how to keep one, without anything of K2's ingest."""

    def __init__(self) -> None:
        self.bids: dict[int, int] = {}
        self.asks: dict[int, int] = {}
        self.last: int | None = None
        self.waiting: list[dict[str, Any]] = []

    def replace(self, message: dict[str, Any]) -> None:
        """Takes the REST API's book, and the changes after it."""
        self.last = message["lastUpdateId"]
        self.set(message["bids"], message["asks"])
        for data in self.waiting:
            self.change(data)

    def change(self, data: dict[str, Any]) -> None:
        """Takes a change, if it is newer."""
        if self.last is None:
            self.waiting.append(data)
        elif data["u"] > self.last:
            self.set(data["b"], data["a"])
            self.last = data["u"]

    def set(self, bids: list[list[str]], asks: list[list[str]]) -> None:
        """Sets and deletes levels."""
        for side, levels in ((self.bids, bids), (self.asks, asks)):
            for price, size in levels:
                side[_units(price)] = _units(size)
                if not side[_units(price)]:
                    del side[_units(price)]


def _units(text: str) -> int:
    return int(Decimal(text) * 10**12)


def read_best(read: ReadBook) -> tuple[Any, Any]:
    bid, ask = max(read.bids), min(read.asks)
    return (bid, read.bids[bid]), (ask, read.asks[ask])
