"""The order book record: one message about the book of one instrument, as a Python value on its way to Kafka."""

from enum import StrEnum
from typing import Any, Final

import msgspec

from k2.schemas.records.trade import Source
from k2.schemas.states import Verdict

AVRO: Final = "book_v1"  # the schema file

Level = tuple[int, int]  # price and quantity, in units of the record's powers of ten


class BookKind(StrEnum):
    """What a message says of the book."""

    SNAPSHOT = "snapshot"  # all of it
    DELTA = "delta"  # what changed


class BookUpdate(msgspec.Struct, frozen=True, gc=False):
    """One message, or one part of a large snapshot, about the order book of one instrument of one exchange.

    Times are UTC microseconds; `exchange_timestamp` is None where the exchange sends none. A price is that of a level
    times 10**`price_exponent`, a quantity likewise; quantities are absolute, 0 deletes the level. Ids are the
    exchange's, None where it sends none. `ordinal` is the number of the record on its `connection`, from 1; together
    they are its identity.
    """

    symbol: str
    exchange: str
    exchange_timestamp: int | None
    ingestion_timestamp: int
    kind: BookKind
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]
    price_exponent: int
    quantity_exponent: int
    connection: str
    ordinal: int
    verdict: Verdict
    first_id: int | None = None
    last_id: int | None = None
    previous_id: int | None = None
    part: int = 1
    parts: int = 1
    clock_offset_ms: int | None = None

    @property
    def timestamp(self) -> int:
        """The exchange's time; the time of arrival where the exchange sends none."""
        return self.ingestion_timestamp if self.exchange_timestamp is None else self.exchange_timestamp

    @property
    def record_id(self) -> str:
        """Nothing: the ids of books number changes, not messages."""
        return ""

    @property
    def fingerprint(self) -> int:
        """A hash of the content."""
        return hash((self.bids, self.asks))

    @property
    def source(self) -> str:
        """How the message was received: live, also if a snapshot came over REST. No exchange has a history of books."""
        return Source.LIVE

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of the Avro record."""
        values = msgspec.structs.asdict(self)
        sides = {
            side: [{"price": price, "quantity": quantity} for price, quantity in values[side]]
            for side in ("bids", "asks")
        }
        values["timestamp"] = values.pop("exchange_timestamp")
        return values | sides | {"kind": self.kind.value, "verdict": self.verdict.value}

    def in_listing(self, listing: int) -> "BookUpdate":
        """Return the message: another listing begins with a snapshot."""
        return self

    def with_clock_offset(self, millis: int) -> "BookUpdate":
        """Return the message with a note that the clock of its time of arrival was so far ahead of the exchange's."""
        return msgspec.structs.replace(self, clock_offset_ms=millis)
