"""Give a PIVOT the columns that it would find itself, so that the parser makes one tree of it."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Final

_KEYWORD, _COMMENT = "keyword", "comment"
_OPEN: Final = "("
_COLUMNS: Final = "\n) IN ('k2')\n"  # on lines of their own: the text before may end in a comment
_ENDS: Final = frozenset({"USING", "GROUP", "ORDER", "LIMIT", "OFFSET", "UNION", "EXCEPT", "INTERSECT", "QUALIFY"})


def with_columns(statement: str, tokens: list[list[Any]]) -> str:
    """Make (x) IN ('k2') of each expression x that a PIVOT is ON and that has no IN.

    `tokens` are the parser's: where each begins, in bytes, and its kind. Only insertions are made, between tokens: a
    text that is understood wrongly here still cannot be parsed into anything that it does not say.
    """
    text = statement.encode()
    places = [position for position, kind in tokens if kind != _COMMENT] + [len(text)]
    words = [text[first:last].decode(errors="replace").split()[:1] for first, last in pairwise(places)]
    plain = [word[0].upper() if word else "" for word in words]
    inserted: list[tuple[int, str]] = []
    for place, word in enumerate(plain):
        if word in {"PIVOT", "PIVOT_WIDER"} and (begin := _on(plain, place)):
            for first, last in _expressions(plain, begin):
                inserted += [(places[first], _OPEN), (places[last], _COLUMNS)]
    for position, insertion in sorted(inserted, reverse=True):
        text = text[:position] + insertion.encode() + text[position:]
    return text.decode()


def _on(words: list[str], pivot: int) -> int | None:
    """Return the place after the ON of a PIVOT."""
    depth = 0
    for place in range(pivot + 1, len(words)):
        depth += (words[place][:1] == "(") - (words[place][:1] == ")")
        if depth < 0 or words[place] == ";":
            return None
        if depth == 0 and words[place] == "ON":
            return place + 1
    return None


def _expressions(words: list[str], begin: int) -> list[tuple[int, int]]:
    """Return the places where the expressions of an ON that have no IN begin, and those behind them."""
    expressions, depth, given, first = [], 0, False, begin
    for place in range(begin, len(words) + 1):
        word = words[place] if place < len(words) else ";"
        closes = word[:1] == ")" and depth == 0
        last = depth == 0 and (word in _ENDS or word[:1] == ";" or closes)
        if last or (depth == 0 and word[:1] == ","):
            if not given and place > first:  # a comma may be the last
                expressions.append((first, place))
            given, first = False, place + 1
            if last:
                break
        depth += (word[:1] in {"(", "[", "{"}) - (word[:1] in {")", "]", "}"})
        given |= depth == 0 and word == "IN"
    return expressions
