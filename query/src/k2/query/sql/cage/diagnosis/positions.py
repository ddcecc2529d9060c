"""Places in a statement, and the names that were probably meant."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

_SIMILAR: Final = 0.72  # of 1: a letter or two of a short name are wrong
_MARGIN: Final = 60  # characters on each side of the place that an excerpt shows


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a text: line and column, from 1."""

    line: int
    column: int
    text: str  # of the line

    @classmethod
    def of(cls, text: str, offset: int | None) -> Position | None:
        """Return the place of a byte of a text; None if there is no such byte."""
        data = text.encode()
        if offset is None or not 0 <= offset <= len(data):
            return None
        before = data[:offset].decode(errors="ignore")
        line = before.count("\n")
        start = before.rfind("\n") + 1
        return cls(line + 1, len(before) - start + 1, text.split("\n")[line])

    def excerpt(self) -> tuple[str, str]:
        """Return the line, or what is around the place in a long one, and a line with a caret below the place."""
        first = max(0, self.column - 1 - _MARGIN)
        shown = self.text[first : self.column - 1 + _MARGIN]
        plain = "".join(char if char.isprintable() else " " for char in shown)
        return plain, f"{' ' * (self.column - 1 - first)}^"

    def __str__(self) -> str:
        return f"line {self.line}, column {self.column}"


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Return the name that was probably meant: a similar one, or the first that contains it; None if none does."""
    lowered = name.lower()
    rated = [(SequenceMatcher(None, lowered, one.lower()).ratio(), one) for one in names]
    ratio, best = max(rated, default=(0.0, ""))
    if ratio >= _SIMILAR:
        return best
    longer = [one for _, one in rated if len(lowered) > 2 and lowered in one.lower()]
    return next(iter(longer), None)


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return the end of a sentence that names what was probably meant; empty if nothing is similar."""
    best = nearest(name, names)
    return f"; did you mean {best}?" if best else ""
