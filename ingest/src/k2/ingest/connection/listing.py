"""What an exchange's instrument list says of symbols, as far as subscriptions need it."""

from typing import Final, Protocol


class Listing(Protocol):
    """An instrument list that may change while the process runs."""

    @property
    def version(self) -> int:
        """A number that rises with every change of the list."""
        ...

    def trading(self, raw_symbol: str) -> bool | None:
        """Return whether the exchange lists a symbol as trading; None if that is not known."""
        ...

    def reason(self, raw_symbol: str) -> str:
        """Return why a symbol is not listed, for people."""
        ...


class _Unlisted:
    version = 0

    def trading(self, raw_symbol: str) -> bool | None:
        """Return None: nothing is known."""
        return None

    def reason(self, raw_symbol: str) -> str:
        """Return nothing: no symbol is known as not listed."""
        return ""


UNLISTED: Final[Listing] = _Unlisted()
