"""Kraken's checksum of a book (docs.kraken.com/api/docs/guides/spot-ws-book-v2): CRC-32 of its best ten levels."""

from collections.abc import Iterable
from itertools import chain
from typing import Final
from zlib import crc32

from k2.ingest.books.state import Level, OrderBook
from k2.schemas.values import SCALE

_DEPTH: Final = 10  # whatever the depth of the subscription; fewer where the side has fewer


def checksum(book: OrderBook, price_places: int, quantity_places: int) -> int:
    """Return the checksum of a book. The places are the decimals of the instrument's prices and quantities."""
    bids, asks = book.top(_DEPTH)
    prices, quantities = 10 ** (SCALE - price_places), 10 ** (SCALE - quantity_places)
    return crc32("".join(_texts(chain(asks, bids), prices, quantities)).encode())


def _texts(levels: Iterable[Level], prices: int, quantities: int) -> Iterable[str]:
    """Yield each number in its smallest unit: without a point, and so without zeros before it."""
    for price, quantity in levels:
        yield str(price // prices)
        yield str(quantity // quantities)


def places_of(book: OrderBook, expected: int) -> tuple[int, int] | None:
    """Return the decimals of prices and quantities with which a book has a checksum; None if there are none.

    They are the instrument's, which the exchange may change at any time, but not within a subscription.
    """
    bids, asks = book.top(_DEPTH)
    levels = [*bids, *asks]
    fewest = [_decimals([level[side] for level in levels]) for side in (0, 1)]
    return next(
        (
            (prices, quantities)
            for prices in range(fewest[0], SCALE + 1)
            for quantities in range(fewest[1], SCALE + 1)
            if checksum(book, prices, quantities) == expected
        ),
        None,
    )


def _decimals(values: Iterable[int]) -> int:
    """Return how many decimals some numbers in units of 10**-12 have at most."""
    numbers = list(values)
    return next(places for places in range(SCALE + 1) if not any(number % 10 ** (SCALE - places) for number in numbers))
