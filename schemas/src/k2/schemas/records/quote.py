"""The quote record: the best bid and ask of one instrument, as a Python value between the socket and Kafka."""

from typing import Any, Final

import msgspec

from k2.schemas.records.connection_record import ConnectionRecord
from k2.schemas.states import Verdict

AVRO: Final = "quote_v1"  # the schema file


class Quote(ConnectionRecord, frozen=True, gc=False):
    """The best bid and ask of one instrument of one exchange, as one connection received them.

    Times are UTC microseconds; `exchange_timestamp` is None where the exchange sends none. A price is `bid_price` or
    `ask_price` times 10**`price_exponent`, a quantity likewise; price and quantity of a side without orders are None.
    `ordinal` is the number of the quote on its `connection`, from 1; together they are its identity.
    """

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
    def fingerprint(self) -> int:
        """A hash of the content."""
        return hash((self.bid_price, self.bid_quantity, self.ask_price, self.ask_quantity))

    @property
    def spread(self) -> float | None:
        """The spread as a part of the middle between bid and ask; None if a side has no orders."""
        if self.bid_price is None or self.ask_price is None:
            return None
        return 2 * (self.ask_price - self.bid_price) / (self.ask_price + self.bid_price)

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of the Avro record."""
        values = msgspec.structs.asdict(self)
        return values | {"timestamp": values.pop("exchange_timestamp"), "verdict": self.verdict.value}
