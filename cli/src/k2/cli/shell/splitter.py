"""Split a text into SQL statements and commands of the shell, with the place of each."""

import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

# What a semicolon does not end: comments, quoted texts and names, dollar quotes; then words, and any other character.
_LEXEME: Final = re.compile(
    r"""--[^\n]* | /\*.*?(?:\*/|\Z)
    | [eE]'(?:[^'\\]|\\.|'')*(?:'|\Z) | '(?:[^']|'')*(?:'|\Z) | "(?:[^"]|"")*(?:"|\Z)
    | \$(?P<tag>\w*)\$.*?(?:\$(?P=tag)\$|\Z)
    | \w+ | .""",
    re.DOTALL | re.VERBOSE,
)
_COMMENTS: Final = ("--", "/*")


@dataclass(frozen=True, slots=True)
class Piece:
    """One statement, or one command of the shell, and where it begins: line and column, from 1."""

    text: str
    line: int
    column: int
    complete: bool = True  # it ended with a semicolon; a command ends with its line

    @property
    def is_command(self) -> bool:
        """Whether it is a command of the shell, which begins with a backslash."""
        return self.text.startswith("\\")


def split(text: str) -> Iterator[Piece]:
    """Yield the statements of a text, without semicolons; comments alone are none."""
    places = _Places(text)
    begin: int | None = None  # where a statement begins; a comment before it does not belong to it
    place = 0
    while match := _LEXEME.match(text, place):
        lexeme, place = match[0], match.end()
        if begin is None:
            if lexeme.isspace() or lexeme == ";" or lexeme.startswith(_COMMENTS):
                continue
            begin = match.start()
            if lexeme == "\\":
                place = places.end_of_line(place)
                yield places.piece(begin, place, complete=True)
                begin = None
        elif lexeme == ";":
            yield places.piece(begin, match.start(), complete=True)
            begin = None
    if begin is not None:
        yield places.piece(begin, len(text), complete=False)


def is_complete(text: str) -> bool:
    """Return whether a text can be run as it stands: every statement in it has ended."""
    return all(piece.complete for piece in split(text))


class _Places:
    """Where the pieces of a text begin."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._ends = [match.start() for match in re.finditer("\n", text)]

    def end_of_line(self, place: int) -> int:
        line = bisect_left(self._ends, place)
        return self._ends[line] if line < len(self._ends) else len(self._text)

    def piece(self, begin: int, end: int, *, complete: bool) -> Piece:
        line = bisect_left(self._ends, begin)
        column = begin - (self._ends[line - 1] if line else -1)
        return Piece(self._text[begin:end].rstrip(), line + 1, column, complete)
