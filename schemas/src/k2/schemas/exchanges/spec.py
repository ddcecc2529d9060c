"""What every part of K2 must know of an exchange without talking to it: names, spelling, numbering.

How its frames are read is the ingest adapter's business (`k2.ingest.exchanges.<name>`). A new exchange is one
entry here, its symbol in the Avro enum, and its adapter.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

_CONCATENATED = r"[A-Z0-9]{5,20}"
RENAMED: Final = {"XBT": "BTC", "XDG": "DOGE"}  # Kraken's own names for what everybody else calls BTC and DOGE
# Longest first, so that BTCFDUSD is FDUSD's, not USD's.
QUOTES: Final = (
    "FDUSD USD1 USDT USDC TUSD BUSD USDP USDE USDR BIDR IDRT BVND DOGE EURI "
    "BTC ETH BNB SOL XRP TRX DOT DAI VAI PAX EUR GBP USD TRY BRL AUD RUB UAH NGN ZAR PLN RON ARS MXN CZK COP JPY IDR"
).split()


class Ids(StrEnum):
    """How an exchange numbers its trades, and so what can be proved about them."""

    CONSECUTIVE = "consecutive"  # per symbol, +1 a trade: every missing id is known
    NONE = "none"  # no numbering per symbol: completeness cannot be proved from ids


@dataclass(frozen=True, slots=True)
class Pair:
    """One symbol in the exchange's spelling and in ours."""

    native: str
    symbol: str
    base: str
    quote: str


class UnknownPair(ValueError):
    """A symbol that is not spelled as the exchange spells them."""


@dataclass(frozen=True, slots=True)
class ExchangeFacts:
    """One exchange: its name, how it spells symbols, how it numbers trades."""

    name: str
    symbol_pattern: str  # whole string, RE2 and Python alike
    symbol_example: str
    separator: str  # "" where base and quote are written together
    partitions: int
    ids: Ids

    @property
    def label(self) -> str:
        """The name in trades and tables' `exchange` column: BINANCE."""
        return self.name.upper()

    def pair(self, native: str) -> Pair:
        """`native` split into base and quote; raises `UnknownPair` with the spelling that is wanted."""
        if not re.fullmatch(self.symbol_pattern, native):
            raise UnknownPair(f"{self.name} spells symbols like {self.symbol_example} ({self.symbol_pattern})")
        if self.separator:
            base, quote = native.split(self.separator)
        else:
            base, quote = _split_by_quote(native)
        base, quote = RENAMED.get(base, base), RENAMED.get(quote, quote)
        return Pair(native, base + quote, base, quote)


def _split_by_quote(native: str) -> tuple[str, str]:
    for quote in QUOTES:
        if native.endswith(quote) and native != quote:
            return native.removesuffix(quote), quote
    raise UnknownPair(f"a symbol ends in a quote currency K2 knows: {', '.join(QUOTES)}")


EXCHANGES: dict[str, ExchangeFacts] = {
    facts.name: facts
    for facts in (
        ExchangeFacts("binance", _CONCATENATED, "BTCUSDT", "", 40, Ids.CONSECUTIVE),
        ExchangeFacts("kraken", r"[A-Z0-9]{1,15}/[A-Z0-9]{1,15}", "BTC/USD", "/", 20, Ids.CONSECUTIVE),
        ExchangeFacts("coinbase", r"[A-Z0-9]{1,15}-[A-Z0-9]{1,15}", "BTC-USD", "-", 20, Ids.CONSECUTIVE),
        ExchangeFacts("bybit", _CONCATENATED, "BTCUSDT", "", 20, Ids.NONE),
        ExchangeFacts("okx", r"[A-Z0-9]{1,15}-[A-Z0-9]{1,15}", "BTC-USDT", "-", 20, Ids.CONSECUTIVE),
    )
}
