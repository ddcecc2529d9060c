"""What the adapters of quotes have in common: records of best bid and ask, without ids and without a history.

No exchange proves that it sent every quote: a lost one leaves no trace, so that the verdict is `unverifiable`. What
contradicts the quotes before it on its connection is `suspect`.
"""

from collections.abc import Sequence
from typing import Final
from uuid import uuid4

from k2.ingest.exchanges.base import INEXACT, NO_ID, InvalidItem, SequencedRecord
from k2.ingest.exchanges.connection_adapter import ConnectionAdapter
from k2.ingest.exchanges.integers import Places
from k2.schemas.exchanges.spec import ExchangeSpec, Pair
from k2.schemas.records.quote import Quote
from k2.schemas.states import Verdict
from k2.schemas.values import InexactValue

# Price and quantity of one side, as the exchange sent them; both empty where it has no orders.
Level = tuple[str, str]
NO_ORDERS: Final[Level] = ("", "")


class QuoteAdapter(ConnectionAdapter):
    """The common part of the adapters of quotes."""

    spec: ExchangeSpec

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self._connection = uuid4().hex[:16]
        self._ordinal = 0
        self._places: dict[str, tuple[Places, Places]] = {}
        self._newest: dict[str, int] = {}  # the last sequence by symbol
        self.set_pairs(pairs)

    def _quote(
        self, pair: Pair, bid: Level, ask: Level, received: int, *, time: int | None = None, sequence: int | None = None
    ) -> SequencedRecord | InvalidItem:
        """Build the next quote of the connection, or an `InvalidItem` if a number does not fit 64 bits exactly.

        `time` is the exchange's, in UTC microseconds. A side whose price or quantity is empty or zero has no orders.
        """
        prices, quantities = self._places.setdefault(pair.symbol, (Places(), Places()))
        try:
            (bid_price, ask_price), price_exponent = prices.integers(bid[0] or "0", ask[0] or "0")
            (bid_quantity, ask_quantity), quantity_exponent = quantities.integers(bid[1] or "0", ask[1] or "0")
        except InexactValue as error:
            return InvalidItem(INEXACT, str(error), pair.symbol)
        self._ordinal += 1
        has_bid, has_ask = bid_price > 0 < bid_quantity, ask_price > 0 < ask_quantity
        quote = Quote(
            pair.symbol, self.spec.label, time, received,
            bid_price if has_bid else None, bid_quantity if has_bid else None,
            ask_price if has_ask else None, ask_quantity if has_ask else None,
            price_exponent, quantity_exponent, sequence, self._connection, self._ordinal,
            self._verdict(pair.symbol, sequence, crossed=has_bid and has_ask and bid_price >= ask_price),
        )  # fmt: skip
        return SequencedRecord(quote, NO_ID, NO_ID)

    def _verdict(self, symbol: str, sequence: int | None, *, crossed: bool) -> Verdict:
        backwards = False
        if sequence is not None:
            backwards = sequence < self._newest.get(symbol, sequence)
            self._newest[symbol] = sequence
        return Verdict.SUSPECT if crossed or backwards else Verdict.UNVERIFIABLE
