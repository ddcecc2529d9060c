"""The order book record: one message about the book of one instrument, as a Python value on its way to Kafka."""

from enum import StrEnum
from typing import Any, Final

import msgspec

from k2.schemas.records.connection_record import ConnectionRecord
from k2.schemas.states import Verdict

AVRO: Final = "book_v1"  # the schema file

Level = tuple[int, int]  # price and quantity, in units of the record's powers of ten


class BookKind(StrEnum):
    """What a message says of the book."""

    SNAPSHOT = "snapshot"  # all of it
    DELTA = "delta"  # what changed


class BookUpdate(ConnectionRecord, frozen=True, gc=False):
    """One message, or one part of a large snapshot, about the order book of one instrument of one exchange.

    Times are UTC microseconds; `exchange_timestamp` is None where the exchange sends none. A price is that of a level
    times 10**`price_exponent`, a quantity likewise; quantities are absolute, 0 deletes the level. Ids are the
    exchange's, None where it sends none. `ordinal` is the number of the record on its `connection`, from 1; together
    they are its identity.
    """

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
    def fingerprint(self) -> int:
        """A hash of the content."""
        return hash((self.bids, self.asks))

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
