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
