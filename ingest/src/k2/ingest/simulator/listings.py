"""What a simulated exchange lists: the instruments, their steps and states. Pure."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final

from k2.ingest.simulator.market import LOT, tick_of
from k2.schemas.exchanges.spec import ExchangeSpec, Pair, UnknownPair
from k2.schemas.values import UNIT

_QUOTES: Final = ("FDUSD", "USDT", "USDC", "EURI", "BTC", "ETH", "BNB", "EUR", "USD", "TRY")  # longest first


class Status(Enum):
    """Whether an instrument trades."""

    TRADING = "trading"
    HALTED = "halted"
    DELISTED = "delisted"


@dataclass(slots=True)
class Instrument:
    """One instrument: its steps in units of 10**-12, and since when it is listed, in UTC microseconds."""

    pair: Pair
    tick: int
    lot: int
    listed_at: int
    status: Status = Status.TRADING


class Listings:
    """All instruments that the exchange ever listed, in the order in which it did."""

    def __init__(self, pairs: Iterable[Pair]) -> None:
        self._instruments: dict[str, Instrument] = {}
        for pair in pairs:
            self.add(pair, 1_500_000_000_000_000)

    def __iter__(self) -> Iterator[Instrument]:
        return iter(self._instruments.values())

    def add(self, pair: Pair, now: int) -> None:
        """List an instrument at `now`; one that was delisted is listed again."""
        self._instruments[pair.raw_symbol] = Instrument(pair, _step(tick_of(pair)), _step(LOT), now)

    def get(self, raw_symbol: object) -> Instrument | None:
        """Return an instrument, whatever its state; None if the exchange never had it."""
        return self._instruments.get(raw_symbol) if isinstance(raw_symbol, str) else None

    def pairs(self, raw_symbols: Iterable[object]) -> list[Pair]:
        """Return the pairs of those symbols that are known."""
        return [item.pair for raw_symbol in raw_symbols if (item := self.get(raw_symbol))]

    def listed(self, raw_symbol: object) -> bool:
        """Return whether the exchange has this symbol now."""
        instrument = self.get(raw_symbol)
        return instrument is not None and instrument.status is not Status.DELISTED

    def place(self, raw_symbol: str) -> int:
        """Return the position of an instrument among all that were ever listed."""
        return list(self._instruments).index(raw_symbol)

    def set_status(self, raw_symbol: str, status: Status) -> None:
        """Change the state of an instrument, if the exchange has it."""
        if instrument := self.get(raw_symbol):
            instrument.status = status

    def chosen(self, raw_symbol: str) -> str:
        """Return the symbol that a fault names; the last one that trades, if it names none."""
        if raw_symbol:
            return raw_symbol
        trading = [item.pair.raw_symbol for item in self if item.status is Status.TRADING]
        return trading[-1] if trading else ""


def pair_of(spec: ExchangeSpec, text: str) -> Pair:
    """Return a pair written as the exchange spells it, or with its assets: `SYMBOL:BASE:QUOTE`.

    Where base and quote are written together, and not given, the simulated exchange names its assets by `_QUOTES`.
    Raises `UnknownPair`.
    """
    raw_symbol, _, assets = text.partition(":")
    if not assets:
        symbol = spec.symbol(raw_symbol)
        base, quote = raw_symbol.split(spec.separator) if spec.separator else _split(raw_symbol)
        return Pair(raw_symbol, symbol, spec.asset(base), spec.asset(quote))
    base, _, quote = assets.partition(":")
    if not (raw_symbol and base and quote):
        raise UnknownPair(f"{text!r}: write SYMBOL:BASE:QUOTE")
    return Pair(raw_symbol, (base + quote).upper(), base, quote)


def _split(raw_symbol: str) -> tuple[str, str]:
    for quote in _QUOTES:
        if raw_symbol.endswith(quote) and raw_symbol != quote:
            return raw_symbol.removesuffix(quote), quote
    raise UnknownPair(f"{raw_symbol}: write SYMBOL:BASE:QUOTE, or end it in one of {', '.join(_QUOTES)}")


def _step(value: int) -> int:
    """Return the largest power of ten that divides a value."""
    step = 1
    while value % (step * 10) == 0 and step < UNIT:
        step *= 10
    return step
