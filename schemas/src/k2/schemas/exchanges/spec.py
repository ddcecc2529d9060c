"""What every part of K2 knows of an exchange: its name, symbol spelling and sequence scheme."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

# Longest first, so that BTCFDUSD is FDUSD's, not USD's.
QUOTES: Final = (
    "FDUSD USD1 USDT USDC TUSD BUSD USDP USDE USDR BIDR IDRT BVND DOGE EURI "
    "BTC ETH BNB SOL XRP TRX DOT DAI VAI PAX EUR GBP USD TRY BRL AUD RUB UAH NGN ZAR PLN RON ARS MXN CZK COP JPY IDR"
).split()


class SequenceScheme(StrEnum):
    """How an exchange numbers its trades; decides whether completeness can be verified."""

    CONSECUTIVE = "consecutive"  # per symbol, +1 per trade: every missing id can be named
    NONE = "none"  # no numbering per symbol: completeness cannot be verified from ids


@dataclass(frozen=True, slots=True)
class Pair:
    """One symbol in the exchange's own spelling (`raw_symbol`) and normalised (`symbol`)."""

    raw_symbol: str
    symbol: str
    base: str
    quote: str


class UnknownPair(ValueError):
    """A symbol that does not match the exchange's spelling."""


@dataclass(frozen=True, slots=True)
class ExchangeSpec:
    """Static specification of one exchange."""

    name: str
    symbol_pattern: str  # matches the whole string; valid in RE2 and in Python
    symbol_example: str
    separator: str  # "" where base and quote are written together
    partitions: int
    sequence: SequenceScheme
    asset_names: Mapping[str, str] = field(default_factory=dict)  # the exchange's own names of assets: the common ones

    @property
    def label(self) -> str:
        """The value of the `exchange` field and column: the name in capitals."""
        return self.name.upper()

    def pair(self, raw_symbol: str) -> Pair:
        """Split the symbol `raw_symbol` into base and quote. Raises `UnknownPair` if it is not spelled as required."""
        if not re.fullmatch(self.symbol_pattern, raw_symbol):
            raise UnknownPair(f"{self.name} spells symbols like {self.symbol_example} ({self.symbol_pattern})")
        if self.separator:
            base, quote = raw_symbol.split(self.separator)
        else:
            base, quote = _split_by_quote(raw_symbol)
        base, quote = self.asset_names.get(base, base), self.asset_names.get(quote, quote)
        return Pair(raw_symbol, base + quote, base, quote)


def _split_by_quote(raw_symbol: str) -> tuple[str, str]:
    for quote in QUOTES:
        if raw_symbol.endswith(quote) and raw_symbol != quote:
            return raw_symbol.removesuffix(quote), quote
    raise UnknownPair(f"a symbol must end in a supported quote currency: {', '.join(QUOTES)}")
