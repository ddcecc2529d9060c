"""What quotes and order book messages have in common: the exchange gives them no ids, and has no history of them."""

from typing import Self

import msgspec

from k2.schemas.records.trade import Source


class ConnectionRecord(msgspec.Struct, frozen=True, gc=False):
    """A record that is identified by the connection that received it. Has a field `clock_offset_ms`.

    Times are UTC microseconds; `exchange_timestamp` is None where the exchange sends none.
    """

    symbol: str
    exchange: str
    exchange_timestamp: int | None
    ingestion_timestamp: int

    @property
    def timestamp(self) -> int:
        """The exchange's time; the time of arrival where the exchange sends none."""
        return self.ingestion_timestamp if self.exchange_timestamp is None else self.exchange_timestamp

    @property
    def record_id(self) -> str:
        """Nothing: ids of the exchange, if any, number changes of its book and not records."""
        return ""

    @property
    def source(self) -> str:
        """How the record was received: live, since no exchange has a history of these."""
        return Source.LIVE

    def in_listing(self, listing: int) -> Self:
        """Return the record: without ids there is nothing that another listing would restart."""
        return self

    def with_clock_offset(self, millis: int) -> Self:
        """Return the record with a note that the clock of its time of arrival was so far ahead of the exchange's."""
        return msgspec.structs.replace(self, clock_offset_ms=millis)
