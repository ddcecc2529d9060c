"""Order books over sockets: first states, lost connections, and what of them is recorded."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from k2.ingest.connection.session import Tuning
from k2.ingest.simulator.faults import parse
from k2.schemas.channels import BOOK
from k2.schemas.records.book import BookKind, BookUpdate
from k2.schemas.states import Verdict
from tests.unit.ingest.books.reading import ReadBook

TUNING = Tuning(backoff_first=0.05, backoff_limit=0.1)


def read_books(stored: list[dict[str, Any]]) -> dict[str, ReadBook]:
    """The books of each connection."""
    books: dict[str, ReadBook] = {}
    for row in sorted(stored, key=lambda row: (row["connection"], row["ordinal"])):
        books.setdefault(row["connection"], ReadBook()).take(record(row))
    return books


def record(row: Mapping[str, Any]) -> BookUpdate:
    levels = {side: tuple((each["price"], each["quantity"]) for each in row[side]) for side in ("bids", "asks")}
    fields = {name: value for name, value in row.items() if name not in {"timestamp", "bids", "asks"}}
    words = {"kind": BookKind(row["kind"]), "verdict": Verdict(row["verdict"]), "exchange_timestamp": None}
    return BookUpdate(**(fields | levels | words))


@pytest.mark.parametrize(
    ("exchange", "raw_symbol"),
    [("binance", "BTCUSDT"), ("kraken", "BTC/USD"), ("coinbase", "BTC-USD"), ("bybit", "BTCUSDT"), ("okx", "BTC-USDT")],
)
async def test_the_book_is_whole_again_after_a_lost_connection_and_the_loss_is_a_gap(
    exchange: str,
    raw_symbol: str,
    simulate: Callable[..., Any],
    shard: Callable[..., Any],
    eventually: Callable[..., Any],
):
    simulator = await simulate(exchange, symbols=[raw_symbol], rate=300)
    address = f"127.0.0.1:{simulator.port}"
    ingest = shard(exchange, [raw_symbol], f"http://{address}", BOOK)
    symbol = ingest.pairs[0].symbol

    def whole() -> bool:
        newest = ingest.stats.newest.get(symbol)
        return newest is not None and newest.verdict is not Verdict.SUSPECT

    ingest.start(f"ws://{address}", tuning=TUNING, repair=False)
    await eventually(whole, within=60)
    lost = ingest.stats.newest[symbol].connection
    simulator.inject(parse("close"))
    await eventually(lambda: whole() and ingest.stats.newest[symbol].connection != lost, within=60)
    delivered = sum(ingest.stats.delivered.values())
    await eventually(lambda: sum(ingest.stats.delivered.values()) > delivered + 5 and whole(), within=60)
    restored = ingest.stats.newest[symbol].connection
    assert await ingest.stop() == 0
    assert [event.state for event in ingest.gap_events()] == ["open", "unrecoverable"]
    assert not ingest.stats.dead_letters
    books = read_books(ingest.stored())
    assert books[lost].whole
    assert books[restored].whole
