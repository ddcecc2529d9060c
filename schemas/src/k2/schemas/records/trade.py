"""The trade record, schema v3, as a Python value between the socket and Kafka."""

import hashlib
from enum import StrEnum
from typing import Final
from uuid import NAMESPACE_DNS, UUID, uuid5

import msgspec

# Public and fixed, so that anybody can compute the id of a trade (docs/adr/0002).
MESSAGE_NAMESPACE: Final = uuid5(NAMESPACE_DNS, "k2.marketdata.io")

VendorData = tuple[tuple[str, str], ...]


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

    `timestamp` and `ingestion_timestamp` are UTC microseconds; `price` and `quantity` are in units of 10**-8.
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
        return message_id(self.exchange, self.symbol, self.trade_id)


def message_id(exchange: str, symbol: str, trade_id: str) -> UUID:
    """Return the UUIDv5 over `exchange|symbol|trade_id`."""
    return uuid5(MESSAGE_NAMESPACE, f"{exchange}|{symbol}|{trade_id}")


def derived_trade_id(prefix: str, timestamp: int, fields: tuple[str, ...], ordinal: int) -> str:
    """Derive an id for a trade that its exchange sends without one: `{prefix}-{timestamp_us}-{hash}`.

    `ordinal` counts the trades of one message with equal `timestamp` and `fields`, from 0: ten equal fills in one
    microsecond are ten trades.
    """
    text = "|".join((str(timestamp), *fields, str(ordinal)))
    return f"{prefix}-{timestamp}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
