"""The quote record: the best bid and ask of one instrument, as a Python value between the socket and Kafka."""

from typing import Any, Final

import msgspec

from k2.schemas.records.trade import Source
from k2.schemas.states import Verdict

AVRO: Final = "quote_v1"  # the schema file


class Quote(msgspec.Struct, frozen=True, gc=False):
    """The best bid and ask of one instrument of one exchange, as one connection received them.

    Times are UTC microseconds; `exchange_timestamp` is None where the exchange sends none. A price is `bid_price` or
    `ask_price` times 10**`price_exponent`, a quantity likewise; price and quantity of a side without orders are None.
    `ordinal` is the number of the quote on its `connection`, from 1; together they are its identity.
    """

    symbol: str
    exchange: str
    exchange_timestamp: int | None
    ingestion_timestamp: int
    bid_price: int | None
    bid_quantity: int | None
    ask_price: int | None
    ask_quantity: int | None
    price_exponent: int
    quantity_exponent: int
    sequence: int | None
    connection: str
    ordinal: int
    verdict: Verdict
    clock_offset_ms: int | None = None

    @property
    def timestamp(self) -> int:
        """The exchange's time; the time of arrival where the exchange sends none."""
        return self.ingestion_timestamp if self.exchange_timestamp is None else self.exchange_timestamp

    @property
    def record_id(self) -> str:
        """Nothing: exchanges give quotes no ids."""
        return ""

    @property
    def fingerprint(self) -> int:
        """A hash of the content."""
        return hash((self.bid_price, self.bid_quantity, self.ask_price, self.ask_quantity))

    @property
    def source(self) -> str:
        """How the quote was received: always live, since no exchange has a history of quotes."""
        return Source.LIVE

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of the Avro record."""
        values = msgspec.structs.asdict(self)
        return values | {"timestamp": values.pop("exchange_timestamp"), "verdict": self.verdict.value}

    def in_listing(self, listing: int) -> "Quote":
        """Return the quote: without ids there is nothing that another listing would restart."""
        return self

    def with_clock_offset(self, millis: int) -> "Quote":
        """Return the quote with a note that the clock of its time of arrival was so far ahead of the exchange's."""
        return msgspec.structs.replace(self, clock_offset_ms=millis)
