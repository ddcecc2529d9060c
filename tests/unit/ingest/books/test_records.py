"""Records of books: exact, numbered, and in parts where they are large."""

from decimal import Decimal
from itertools import count

import pytest

from k2.ingest.books.records import MOST_LEVELS, BookRecords, Ids
from k2.schemas.channels import BOOK
from k2.schemas.codecs import avro, wire
from k2.schemas.exchanges.spec import Pair
from k2.schemas.records.book import BookKind
from k2.schemas.states import Verdict
from k2.schemas.values import InexactValue, scaled

PAIR = Pair("BTCUSDT", "BTCUSDT", "BTC", "USDT")


def test_the_numbers_of_a_message_are_exact_and_share_a_power_each():
    records = BookRecords("BINANCE")
    message = records.message("BTCUSDT", [["61837.63", "3.78826"], ["61837.5", "0"]], [["61838", "1.5", "0", "2"]])
    assert (message.bids, message.asks) == (((6183763, 378826), (6183750, 0)), ((6183800, 150000),))
    assert (message.price_exponent, message.quantity_exponent) == (-2, -5)
    assert message.scaled_bids == [(scaled("61837.63"), scaled("3.78826")), (scaled("61837.5"), 0)]
    assert message.scaled_asks == [(scaled("61838"), scaled("1.5"))]


@pytest.mark.parametrize(
    "level", [["-1", "1"], ["1", "-1"], ["0", "1"], ["1"], ["x", "1"], ["0.0000000000001", "1"], ["1", "1e30"], []]
)
def test_a_message_with_an_impossible_level_is_refused(level: list[str]):
    with pytest.raises(InexactValue):
        BookRecords("BINANCE").message("BTCUSDT", [["1", "1"], level], [])


def test_records_are_numbered_over_all_symbols_of_a_connection():
    records, numbers = BookRecords("BINANCE"), count(1)
    for symbol in ("BTCUSDT", "ETHUSDT", "BTCUSDT"):
        pair = Pair(symbol, symbol, symbol[:3], "USDT")
        message = records.message(symbol, [["1", "1"]], [])
        update = records.delta(pair, message, Ids(1, 2, 0), Verdict.VERIFIED, 7, None)
        assert (update.ordinal, update.symbol, update.kind) == (next(numbers), symbol, BookKind.DELTA)
        assert (update.first_id, update.last_id, update.previous_id, update.timestamp) == (1, 2, 0, 7)


@pytest.mark.parametrize(
    ("bids", "asks", "parts"), [(0, 0, 1), (10, 10, 1), (MOST_LEVELS, 0, 1), (MOST_LEVELS, 1, 2), (9000, 9001, 5)]
)
def test_a_large_snapshot_has_parts_that_are_the_whole_together(bids: int, asks: int, parts: int):
    records = BookRecords("BINANCE")
    texts = [[str(price), "1"] for price in range(1, bids + asks + 1)]
    message = records.message("BTCUSDT", texts[:bids], texts[bids:])
    updates = records.snapshot(PAIR, message, Ids(last=9), Verdict.VERIFIED, 7, 5)
    assert [(update.part, update.parts, update.ordinal) for update in updates] == [
        (number, parts, number) for number in range(1, parts + 1)
    ]
    assert all(len(update.bids) + len(update.asks) <= MOST_LEVELS for update in updates)
    assert tuple(level for update in updates for level in update.bids) == message.bids
    assert tuple(level for update in updates for level in update.asks) == message.asks
    assert {(update.kind, update.last_id, update.timestamp) for update in updates} == {(BookKind.SNAPSHOT, 9, 5)}
    assert max(len(BOOK.encoder(1).encode(update)) for update in updates) < 200_000


def test_a_message_survives_avro():
    records = BookRecords("OKX")
    message = records.message("BTCUSDT", [["61837.63", "3.78826"]], [["61837.64", "0"]])
    update = records.delta(PAIR, message, Ids(last=9, previous=7), Verdict.SUSPECT, 7, None).with_clock_offset(1500)
    _, body = wire.split(BOOK.encoder(1).encode(update))
    decoded = avro.decode(body, BOOK.reader_schema, BOOK.reader_schema)
    assert list(decoded) == list(BOOK.column_names)
    (bid,), (ask,) = decoded["bids"], decoded["asks"]
    assert Decimal(bid["price"]).scaleb(decoded["price_exponent"]) == Decimal("61837.63")
    assert ask == {"price": 6183764, "quantity": 0}
    assert (decoded["first_id"], decoded["last_id"], decoded["previous_id"]) == (None, 9, 7)
    assert (decoded["verdict"], decoded["kind"], decoded["clock_offset_ms"]) == ("suspect", "delta", 1500)
