"""The errors of a query."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from k2.query.sql.cage.diagnosis.positions import Position


class BadQuery(ValueError):
    """The query must be changed; the message is one line that says how."""


class BadStatement(BadQuery):
    """A user's SQL statement must be changed; the message begins with the position, where that is known.

    Args:
        sentence: What is wrong, and what to do.
        position: Where.
        offset: The same as a number of bytes, until the text that it counts in is known.

    """

    def __init__(self, sentence: str, position: Position | None = None, *, offset: int | None = None) -> None:
        super().__init__(f"{position}: {sentence}" if position else sentence)
        self.sentence, self.position, self.offset = sentence, position, offset


class TooLarge(BadQuery):
    """The query is valid, but needs more memory than is allowed."""


class Unavailable(RuntimeError):
    """The catalog, files or a service cannot be reached; the message is one line that says which."""


class CatalogEmpty(Unavailable):
    """Everything can be reached, but nothing was written yet."""


class WrongFormat(Unavailable):
    """A table or topic was written in another stored format; the message is that of `OtherFormat`."""
