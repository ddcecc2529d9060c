"""What a process knows of its exchange's instruments: the newest list, and what has changed since the one before. Pure.

The caller reads the lists, and publishes what `take` returns.
"""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

import msgspec

from k2.schemas.exchanges.spec import ExchangeSpec, Pair, SymbolName
from k2.schemas.feed.model import ExchangeFeed
from k2.schemas.records.instrument import Instrument, InstrumentList, InstrumentStatus, InstrumentVersion
from k2.schemas.sharding import Counts

_FIRST_LISTINGS: Final[Mapping[str, int]] = MappingProxyType({})
NOT_LISTED: Final = "not listed: the exchange's instrument list does not have it"


class EmptyList(ValueError):
    """The exchange listed nothing, which no exchange does: the list before stays valid."""


class ShardSymbols(msgspec.Struct, frozen=True):
    """The symbols of a shard, and those of them that are halted.

    Of a feed that selects them also: how many match in all, and which are left out.
    """

    pairs: list[Pair]
    halted: tuple[str, ...] = ()
    matching: int | None = None
    left_out: tuple[str, ...] = ()


class Directory:
    """The instruments of one exchange by raw symbol; `version` rises with every change.

    `read_at` is the time of the list, in UTC microseconds; 0 before the first. `cached` says that it is an earlier
    process's.
    """

    def __init__(self, spec: ExchangeSpec) -> None:
        self._spec = spec
        self._known: dict[str, Instrument] = {}  # delisted ones included
        self._rejected: dict[str, str] = {}
        self.version = 0
        self.read_at = 0
        self.cached = False

    def recall(self, versions: Iterable[InstrumentVersion]) -> None:
        """Take what was published, in that order, by earlier processes and by others."""
        before, first = dict(self._known), not self.version
        for each in versions:
            self._known[each.instrument.raw_symbol] = each.instrument
            if first:
                self.read_at = max(self.read_at, each.valid_from)
        if self._known != before:
            self.version += 1
            self.cached = self.cached or first

    def take(
        self, listed: InstrumentList, now: int, listings: Mapping[str, int] = _FIRST_LISTINGS
    ) -> list[InstrumentVersion]:
        """Take a list that was read at `now`, and return the new versions of instruments.

        `listings` are the numbers of the listings that have begun, by symbol; a number never goes back. An instrument
        that is listed no more becomes delisted. Raises `EmptyList`.
        """
        if not listed.instruments:
            raise EmptyList("the list has no instrument that K2 can record")
        present = listed.instruments.keys() | listed.rejected.keys()
        instruments = {name: self._in_listing(each, listings) for name, each in listed.instruments.items()}
        changed = [each for name, each in instruments.items() if self._known.get(name) != each]
        changed += [
            msgspec.structs.replace(each, status=InstrumentStatus.DELISTED)
            for name, each in self._known.items()
            if name not in present and each.status is not InstrumentStatus.DELISTED
        ]
        if changed or self._rejected != listed.rejected or not self.version:
            self.version += 1
        self._known |= {each.raw_symbol: each for each in changed}
        self._rejected = dict(listed.rejected)
        self.read_at, self.cached = now, False
        return [InstrumentVersion(each, now) for each in changed]

    def _in_listing(self, instrument: Instrument, listings: Mapping[str, int]) -> Instrument:
        before = self._known.get(instrument.raw_symbol, instrument)
        number = max(before.listing, listings.get(instrument.symbol, 1))
        return msgspec.structs.replace(instrument, listing=number)

    def trading(self, raw_symbol: str) -> bool | None:
        """Return whether a symbol is listed; None if the exchange itself must say whether it can be subscribed."""
        if not self.version:
            return None
        instrument = self._known.get(raw_symbol)
        if raw_symbol in self._rejected or instrument is None or instrument.status is InstrumentStatus.DELISTED:
            return False
        return True if instrument.status is InstrumentStatus.TRADING else None

    def reason(self, raw_symbol: str) -> str:
        """Return why a symbol is not listed, for people."""
        reason = self._rejected.get(raw_symbol)
        return f"K2 cannot record it: {reason}" if reason else NOT_LISTED

    def unrecordable(self, names: Iterable[SymbolName]) -> dict[str, str]:
        """Return those of some symbols that the exchange lists and K2 cannot record, and why."""
        canonical = ((name.raw_symbol, self._spec.canonical(name.raw_symbol)) for name in names)
        return {raw_symbol: self._rejected[listed] for raw_symbol, listed in canonical if listed in self._rejected}

    def pairs(self, names: Iterable[SymbolName]) -> list[Pair]:
        """Return the pairs of some symbols, each once; those of symbols that are not listed have no assets."""
        pairs: dict[str, Pair] = {}
        for name in names:
            raw_symbol = self._spec.canonical(name.raw_symbol)
            instrument = None if raw_symbol in self._rejected else self._known.get(raw_symbol)
            pairs[raw_symbol] = instrument.pair if instrument else Pair(raw_symbol, name.symbol, "", "")
        return list(pairs.values())

    def shard(self, feed: ExchangeFeed, index: int, counts: Counts = ()) -> "ShardSymbols":
        """Return the symbols of a shard now: those that the feed names, or those that its selector matches.

        `counts` are the numbers of shards by which they are spread now; none: the feed's own.
        """
        selector = feed.spec.symbol_selector
        if selector is None:
            pairs = self.pairs(feed.shard(index, counts=counts))
            return ShardSymbols(pairs, tuple(pair.raw_symbol for pair in pairs if self._is_halted(pair.raw_symbol)))
        quotes = {self._spec.asset(quote) for quote in selector.quotes}
        excluded = {self._spec.canonical(raw_symbol) for raw_symbol in selector.exclude}
        matching = [
            SymbolName(each.raw_symbol, each.symbol)
            for each in self.instruments()
            if each.status is InstrumentStatus.TRADING
            and each.quote_currency in quotes
            and each.raw_symbol not in excluded | self._rejected.keys()
        ]
        selected, left_out = matching[: selector.max_symbols], matching[selector.max_symbols :]
        pairs = self.pairs(feed.shard(index, selected, counts))
        return ShardSymbols(pairs, (), len(matching), tuple(name.raw_symbol for name in left_out))

    def _is_halted(self, raw_symbol: str) -> bool:
        instrument = self._known.get(raw_symbol)
        return instrument is not None and instrument.status is InstrumentStatus.HALTED

    def instruments(self) -> Sequence[Instrument]:
        """Return the instruments that are listed now, by raw symbol."""
        listed = (each for each in self._known.values() if each.status is not InstrumentStatus.DELISTED)
        return sorted(listed, key=lambda each: each.raw_symbol)
