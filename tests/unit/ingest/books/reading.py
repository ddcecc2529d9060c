"""How readers rebuild a book from its records: the rule that the documentation states, independent of the adapters."""

from dataclasses import dataclass, field

from k2.schemas.records.book import BookKind, BookUpdate
from k2.schemas.states import Verdict
from k2.schemas.values import SCALE

Levels = dict[int, int]


@dataclass
class ReadBook:
    """One symbol of one connection; numbers in units of 10**-12."""

    bids: Levels = field(default_factory=dict)
    asks: Levels = field(default_factory=dict)
    whole: bool = False
    last_id: int | None = None
    parts: list[BookUpdate] = field(default_factory=list)

    def take(self, record: BookUpdate) -> None:
        """Take the next record, in the order of the ordinals."""
        if record.verdict is Verdict.SUSPECT:
            self.whole = False
        elif record.kind is BookKind.SNAPSHOT:
            self._snapshot(record)
        elif self.whole and not self._contains(record):
            self._apply(record)
            self.last_id = record.last_id

    def _contains(self, record: BookUpdate) -> bool:
        numbered = record.previous_id is None and record.last_id is not None and self.last_id is not None
        return numbered and record.last_id <= self.last_id

    def _snapshot(self, record: BookUpdate) -> None:
        self.parts = [record] if record.part == 1 else [*self.parts, record]
        if len(self.parts) != record.parts:
            return
        self.bids, self.asks = {}, {}
        for part in self.parts:
            self._apply(part)
        self.whole, self.last_id = True, record.last_id

    def _apply(self, record: BookUpdate) -> None:
        prices, sizes = 10 ** (SCALE + record.price_exponent), 10 ** (SCALE + record.quantity_exponent)
        for side, levels in ((self.bids, record.bids), (self.asks, record.asks)):
            for price, size in levels:
                if size:
                    side[price * prices] = size * sizes
                else:
                    side.pop(price * prices, None)
