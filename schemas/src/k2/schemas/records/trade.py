"""The trade record, schema v3, as a Python value between the socket and Kafka."""

import hashlib
from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache
from typing import Final
from uuid import NAMESPACE_DNS, UUID, uuid5

import msgspec

# Public and fixed, so that anybody can compute the id of a trade (docs/adr/0002).
MESSAGE_NAMESPACE: Final = uuid5(NAMESPACE_DNS, "k2.marketdata.io")

_NUMBERS: Final = 1 << 62  # ids from here on do not fit into a UUIDv8
_MOST_DIGITS: Final = 19
_VARIANT: Final = 0b10 << 14  # of the first 16 bits behind the hash
_NODE_BITS: Final = 48  # of a number, behind the last dash
_NODE: Final = (1 << _NODE_BITS) - 1

VendorData = tuple[tuple[str, str], ...]

CLOCK_OFFSET: Final = "clock_offset_ms"  # the key of how far the clock was ahead, if that was over a second
LISTING: Final = "listing"  # the key of a listing's number in vendor data, from the second listing on


class Side(StrEnum):
    """The aggressor's side."""

    BUY = "BUY"
    SELL = "SELL"


class Source(StrEnum):
    """How a trade was received; stored as `vendor_data["source"]`."""

    LIVE = "live"
    SNAPSHOT = "snapshot"  # the exchange repeated recent trades after a subscription
    BACKFILL = "backfill"  # fetched over REST to repair a gap
    REPLAY = "replay"


class Trade(msgspec.Struct, frozen=True, gc=False):
    """One trade of one exchange.

    `timestamp` and `ingestion_timestamp` are UTC microseconds; `price` and `quantity` are in units of 10**-12.
    `listing` counts the listings of the symbol on its exchange, from 1: each restarts the ids.
    """

    trade_id: str
    symbol: str
    exchange: str
    base_asset: str
    quote_currency: str
    timestamp: int
    price: int
    quantity: int
    side: Side
    ingestion_timestamp: int
    vendor_data: VendorData = ()
    listing: int = 1

    @property
    def record_id(self) -> str:
        """The exchange's id of the trade."""
        return self.trade_id

    @property
    def fingerprint(self) -> int:
        """A hash of the content, which differs for another trade with the same id."""
        return hash((self.price, self.quantity, self.side))

    @property
    def source(self) -> str:
        """How the trade was received: a value of `Source`, or empty."""
        return dict(self.vendor_data).get("source", "")

    @property
    def message_id(self) -> UUID:
        """The trade's id; equal for the same trade from any connection, replica, backfill or replay."""
        return message_id(self.exchange, self.symbol, self.trade_id, self.listing)

    def in_listing(self, listing: int) -> "Trade":
        """Return the trade as one of another listing of its symbol; its vendor data say so too."""
        vendor_data = tuple(entry for entry in self.vendor_data if entry[0] != LISTING)
        if listing > 1:
            vendor_data = (*vendor_data, (LISTING, str(listing)))
        return msgspec.structs.replace(self, listing=listing, vendor_data=vendor_data)

    def with_clock_offset(self, millis: int) -> "Trade":
        """Return the trade with a note that the clock of its time of arrival was so far ahead of the exchange's."""
        return msgspec.structs.replace(self, vendor_data=(*self.vendor_data, (CLOCK_OFFSET, str(millis))))


def listing_of(vendor_data: Mapping[str, str]) -> int:
    """Return the listing of a stored trade. Raises ValueError if its vendor data name none that is possible."""
    text = vendor_data.get(LISTING, "1")
    if not (text.isascii() and text.isdigit() and len(text) <= 9 and int(text) > 0):
        raise ValueError(f"listing {text[:40]!r} is not a number from 1 on")
    return int(text)


def message_id(exchange: str, symbol: str, trade_id: str, listing: int = 1) -> UUID:
    """Return the id of a trade, which is the same wherever it comes from.

    Of a whole number below 2**62 it is a UUIDv8 (RFC 9562): the first 60 bits of SHA-256 over `exchange|symbol`, then
    the number. So the ids of one symbol are ordered and differ in their last digits only. Of any other `trade_id` it is
    the UUIDv5 over `exchange|symbol|trade_id`. From the second listing on, `|listing` follows the symbol.
    """
    if is_ordered(trade_id):
        return UUID((message_id_prefix(exchange, symbol, listing) + message_id_suffix(int(trade_id))).decode())
    return uuid5(MESSAGE_NAMESPACE, f"{_instrument(exchange, symbol, listing)}|{trade_id}")


def is_ordered(trade_id: str) -> bool:
    """Return whether a trade id is a whole number below 2**62, in its only spelling."""
    if not (trade_id.isascii() and trade_id.isdigit() and len(trade_id) <= _MOST_DIGITS):
        return False
    if trade_id[0] == "0":
        return trade_id == "0"
    return len(trade_id) < _MOST_DIGITS or int(trade_id) < _NUMBERS


@lru_cache(maxsize=16_384)
def message_id_prefix(exchange: str, symbol: str, listing: int) -> bytes:
    """Return the first 19 characters of the UUIDv8 of an instrument's trades, in ASCII: the hash and the version."""
    digits = hashlib.sha256(_instrument(exchange, symbol, listing).encode()).hexdigest()[:15]
    return f"{digits[:8]}-{digits[8:12]}-8{digits[12:15]}-".encode()


def message_id_suffix(number: int) -> bytes:
    """Return the last 17 characters of the UUIDv8 of a trade with this number, in ASCII: the variant and the number."""
    return b"%04x-%012x" % (_VARIANT | number >> _NODE_BITS, number & _NODE)


def _instrument(exchange: str, symbol: str, listing: int) -> str:
    return f"{exchange}|{symbol}" if listing == 1 else f"{exchange}|{symbol}|{listing}"


def derived_trade_id(prefix: str, timestamp: int, fields: tuple[str, ...], ordinal: int) -> str:
    """Derive an id for a trade that its exchange sends without one: `{prefix}-{timestamp_us}-{hash}`.

    `ordinal` counts the trades of one message with equal `timestamp` and `fields`, from 0: ten equal fills in one
    microsecond are ten trades.
    """
    text = "|".join((str(timestamp), *fields, str(ordinal)))
    return f"{prefix}-{timestamp}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
