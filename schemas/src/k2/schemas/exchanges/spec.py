"""What every part of K2 knows of an exchange: its name, symbol spelling and sequence scheme.

Which assets a symbol is made of is not known here: the exchange's instrument list says it.
"""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

MAX_ASSET: Final = 15  # characters
_CAPITALS: Final = ("Lu", "Lt", "Lm", "Lo", "Nd", "Nl", "No")  # Unicode categories: scripts without case are capitals
_ANY_CASE: Final = ("Ll", *_CAPITALS)


class SequenceScheme(StrEnum):
    """How an exchange numbers its trades; decides whether completeness can be verified."""

    CONSECUTIVE = "consecutive"  # per symbol, +1 per trade: every missing id can be named
    NONE = "none"  # no numbering per symbol: completeness cannot be verified from ids


@dataclass(frozen=True, slots=True)
class SymbolName:
    """A symbol as a feed names it, and normalised. Its assets are in the exchange's instrument list only."""

    raw_symbol: str
    symbol: str


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
    symbol_example: str
    separator: str  # "" where base and quote are written together
    partitions: int
    sequence: SequenceScheme
    asset_names: Mapping[str, str] = field(default_factory=dict)  # the exchange's own names of assets: the common ones
    mixed_case: bool = False  # whether names of assets may have lower-case letters
    channels: tuple[str, ...] = ("trades",)  # those that its adapters offer
    book_depths: tuple[int, ...] = ()  # levels of a side that can be subscribed, ascending; none: only the whole book
    books_share_ids: bool = False  # whether the ids of a book are the same on every connection
    quotes_number_books: bool = False  # whether the sequence of a quote is the id of the book's state that it is of

    @property
    def label(self) -> str:
        """The value of the `exchange` field and column: the name in capitals."""
        return self.name.upper()

    @property
    def symbol_pattern(self) -> str:
        """The spelling of symbols as a regular expression in RE2's syntax, for the whole string."""
        letters = "".join(rf"\p{{{category}}}" for category in self._categories)
        if not self.separator:
            return f"[{letters}]{{2,{2 * MAX_ASSET}}}"
        return f"[{letters}]{{1,{MAX_ASSET}}}{self.separator}[{letters}]{{1,{MAX_ASSET}}}"

    @property
    def spelling(self) -> str:
        """How the exchange spells symbols, for people."""
        case = "letters" if self.mixed_case else "capital letters"
        between = f", and {self.separator} between the two assets" if self.separator else ""
        return f"{self.name} spells symbols like {self.symbol_example}: {case} and digits{between}"

    @property
    def offer(self) -> str:
        """Which channels the exchange offers, for people."""
        return f"{self.name} offers only {' and '.join(self.channels)}"

    @property
    def depths(self) -> tuple[int, ...]:
        """The depths of books that a feed may ask for; 0 is the deepest."""
        return 0, *self.book_depths

    @property
    def depth_offer(self) -> str:
        """Which depths of books the exchange offers, for people."""
        if not self.book_depths:
            return f"{self.name} offers whole books only; write 0, or leave depth out"
        *others, last = (str(depth) for depth in self.book_depths)
        listed = f"{', '.join(others)} or {last}" if others else last
        return f"{self.name} offers books of {listed} levels a side; write one of these, or 0 for the deepest"

    @property
    def _categories(self) -> tuple[str, ...]:
        return _ANY_CASE if self.mixed_case else _CAPITALS

    def asset(self, name: str) -> str:
        """Return the normalised name of an asset: the common one, in upper case."""
        return self.asset_names.get(name, name).upper()

    def canonical(self, raw_symbol: str) -> str:
        """Return a symbol with the common names of its assets, as in the instrument list: BTC/USD for XBT/USD."""
        return self.separator.join(self.asset_names.get(name, name) for name in self._names(raw_symbol))

    def symbol(self, raw_symbol: str) -> str:
        """Return the normalised symbol. Raises `UnknownPair` if it is not spelled as the exchange does."""
        names = self._names(raw_symbol)
        most = MAX_ASSET if self.separator else 2 * MAX_ASSET
        spelled = all(self._is_word(name, most) for name in names) and (len(names) == 2 if self.separator else True)
        if not spelled or len(raw_symbol) < 2:
            raise UnknownPair(self.spelling)
        return "".join(self.asset(name) for name in names)

    def _names(self, raw_symbol: str) -> list[str]:
        return raw_symbol.split(self.separator) if self.separator else [raw_symbol]

    def _is_word(self, name: str, most: int) -> bool:
        return 1 <= len(name) <= most and all(unicodedata.category(letter) in self._categories for letter in name)
