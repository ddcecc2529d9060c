"""Kraken's checksum of a book, on the example of its documentation."""

from zlib import crc32

from k2.ingest.books.state import OrderBook
from k2.ingest.exchanges.kraken.checksum import checksum
from k2.schemas.values import scaled

ASKS = (
    "45285.2/0.00100000 45286.4/1.54571953 45286.6/1.54571109 45289.6/1.54560911 45290.2/0.15890660 "
    "45291.8/1.54553491 45294.7/0.04454749 45296.1/0.35380000 45297.5/0.09945542 45299.5/0.18772827"
)
BIDS = (
    "45283.5/0.10000000 45283.4/1.54582015 45282.1/0.10000000 45281.0/0.10000000 45280.3/1.54592586 "
    "45279.0/0.07990000 45277.6/0.03310103 45277.5/0.30000000 45277.3/1.54602737 45276.6/0.15445238"
)


def levels(text: str) -> list[tuple[int, int]]:
    return [(scaled(price), scaled(quantity)) for price, quantity in (level.split("/") for level in text.split())]


def documented() -> OrderBook:
    book = OrderBook()
    book.replace(levels(BIDS), levels(ASKS))
    return book


def test_the_documented_book_has_the_documented_checksum():
    assert checksum(documented(), 1, 8) == 3310070434


def test_levels_beyond_the_tenth_do_not_count_and_every_other_does():
    book = documented()
    book.apply(levels("45000.0/1.5"), levels("46000.0/1.5"))
    assert checksum(book, 1, 8) == 3310070434
    for bid in levels(BIDS):
        changed = documented()
        changed.apply([(bid[0], bid[1] + 10**4)], [])
        assert checksum(changed, 1, 8) != 3310070434


def test_a_thin_book_has_a_checksum_of_what_is_there():
    book = OrderBook()
    assert checksum(book, 1, 8) == 0
    book.apply([], levels("45285.2/0.00100000"))
    assert checksum(book, 1, 8) == crc32(b"452852100000")
