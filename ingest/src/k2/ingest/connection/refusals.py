"""What a shard remembers of refused symbols, beyond the connection that heard it. Pure: the caller passes a clock."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from k2.ingest.connection.listing import UNLISTED, Listing

_RETRY_FIRST: Final = 60.0  # seconds; a refusal is often a mistake of the exchange that passes
_RETRY_LIMIT: Final = 86_400.0


@dataclass(slots=True)
class _Refused:
    reason: str
    retry_at: float
    times: int = 1
    tried: bool = False  # it was given back for another attempt


@dataclass(slots=True)
class Refusals:
    """The refused symbols, the exchange's words, and when each is tried again: at the latest after a day."""

    listing: Listing = UNLISTED
    _refused: dict[str, _Refused] = field(default_factory=dict, init=False)
    _version: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._version = self.listing.version

    def refuse(self, raw_symbol: str, reason: str, now: float) -> None:
        """Remember a refusal. The next attempt comes after a minute, then four times as long, up to a day."""
        before = self._refused.get(raw_symbol)
        times = before.times + 1 if before else 1
        wait = min(_RETRY_LIMIT, _RETRY_FIRST * 4.0 ** min(times - 1, 16))
        self._refused[raw_symbol] = _Refused(reason, now + wait, times)

    def forget(self, raw_symbol: str) -> None:
        """Forget a refusal, because the symbol flows, or is not wanted any more."""
        self._refused.pop(raw_symbol, None)

    def subscribable(self, raw_symbols: Iterable[str], now: float) -> list[str]:
        """Return the symbols that are worth a request: neither refused before nor known as not trading."""
        if self._version != self.listing.version:
            self._version = self.listing.version
            for refused in self._refused.values():
                refused.retry_at = now
        worth = []
        for raw_symbol in raw_symbols:
            if self.listing.trading(raw_symbol) is False:  # then its assets are not known either
                self._refused[raw_symbol] = _Refused(self.listing.reason(raw_symbol), now + _RETRY_LIMIT)
                continue
            entry = self._refused.get(raw_symbol)
            if entry is not None and not entry.tried and now < entry.retry_at:
                continue
            if entry is not None:
                entry.tried = True
            worth.append(raw_symbol)
        return worth

    def due(self, raw_symbols: Iterable[str], now: float) -> list[str]:
        """Return the refused symbols whose next attempt is due."""
        changed = self._version != self.listing.version
        entries = ((raw_symbol, self._refused.get(raw_symbol)) for raw_symbol in raw_symbols)
        return [name for name, entry in entries if entry and not entry.tried and (changed or now >= entry.retry_at)]

    def reason(self, raw_symbol: str) -> str:
        """Return why a symbol was refused; empty if it was not."""
        entry = self._refused.get(raw_symbol)
        return entry.reason if entry else ""
