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


class _Unlisted:
    version = 0

    def trading(self, raw_symbol: str) -> bool | None:
        """Return None: nothing is known."""
        return None


UNLISTED: Final[Listing] = _Unlisted()
