"""Decide what of a user's text is run, and which tables it reads.

The process of the statement parses; the server judges the tree. DuckDB gives no tree for EXPLAIN and for a PIVOT that
finds its columns itself, so these are judged by what they contain: the statement after EXPLAIN, and the same PIVOT with
its columns given.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from k2.query.errors import BadQuery, BadStatement
from k2.query.sql.cage import pivot, tree
from k2.query.sql.cage.diagnosis import refusals, sentences
from k2.query.sql.cage.diagnosis.positions import Position

if TYPE_CHECKING:
    from collections.abc import Collection

    from k2.query.sql.cage.process import StatementProcess
    from k2.query.sql.cage.tree import Reads

MAX_LENGTH: Final = 100_000
_EXPLAINED: Final = (["EXPLAIN"], ["MULTI"])  # the second for EXPLAIN PIVOT
_BLANK: Final = r"(?:\s|--[^\n]*(?:\n|$)|/\*.*?\*/)"
_EXPLAIN: Final = re.compile(
    rf"{_BLANK}*EXPLAIN\b{_BLANK}*(?P<analyze>ANALYZE\b{_BLANK}*)?"
    rf"(?P<options>\(\s*(?:ANALYZE|FORMAT\s+\w+)(?:\s*,\s*(?:ANALYZE|FORMAT\s+\w+))*\s*\){_BLANK}*)?",
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Checked:
    """A statement that may run."""

    text: str
    reads: Reads
    written: str = ""  # as its user wrote it
    shift: int = 0  # bytes: where the same is written, less where it is in the text

    def position(self, offset: int | None) -> Position | None:
        """Return where a byte of the text is in what the user wrote."""
        return Position.of(self.written, offset + self.shift) if offset is not None else None


@dataclass(frozen=True, slots=True)
class _Judge:
    """Judges what the parser made of a text by the tables and functions that there are."""

    tables: Collection[str]
    own_functions: Collection[str]

    def __call__(self, parsed: dict[str, Any], statement: str) -> Reads:
        try:
            answer = msgspec.json.decode(parsed["tree"])
        except RecursionError:
            raise BadStatement("the statement is nested too deeply; simplify it") from None
        if answer["error"]:
            if answer["error_type"] != "parser":
                raise BadStatement(refusals.statement(parsed["types"]))
            offset = int(answer["position"]) if "position" in answer else None
            raise BadStatement(sentences.parsing(str(answer["error_message"]), statement, offset), offset=offset)
        if len(answer["statements"]) != 1:
            raise BadStatement(f"got {len(answer['statements'])} statements; give one SELECT")
        return tree.judge(answer["statements"][0], self.tables, self.own_functions)


def check(
    process: StatementProcess, statement: str, tables: Collection[str], own_functions: Collection[str] = ()
) -> Checked:
    """Return what may run of a text. Raises `BadStatement` for anything but one statement that only reads the tables.

    `own_functions` are K2's own that it may read from too. Raises `BadQuery` for a text that is too long.
    """
    if len(statement) > MAX_LENGTH:
        raise BadQuery(f"the statement has more than {MAX_LENGTH} characters; shorten it")
    return _check(process, statement, 0, _Judge(tables, own_functions))


def _check(process: StatementProcess, written: str, first: int, judge: _Judge) -> Checked:
    """Check what is written from byte `first` on."""
    statement = written.encode()[first:].decode()
    try:
        parsed = process.parse(statement)
        if parsed["types"] in _EXPLAINED and (explain := _EXPLAIN.match(statement)):
            begin = len(explain[0].encode())
            inner = _check(process, written, first + begin, judge)
            prefix = " ".join(["EXPLAIN", *((explain["analyze"] or "").split()[:1]), _options(explain["options"])])
            shift = inner.shift - len(prefix) - 1
            return Checked(f"{prefix} {inner.text}", inner.reads, written, shift)
        if parsed["types"] == ["MULTI"]:
            reads = _check_pivot(process, statement, parsed["tokens"], judge)
        else:
            reads = judge(parsed, statement)
    except BadStatement as error:
        if error.position is not None or error.offset is None:
            raise
        raise BadStatement(error.sentence, Position.of(written, first + error.offset)) from None
    return Checked(statement, reads, written, first)


def _check_pivot(process: StatementProcess, statement: str, tokens: list[list[Any]], judge: _Judge) -> Reads:
    """Judge a PIVOT that finds its columns itself by the same one with columns given."""
    parsed = process.parse(pivot.with_columns(statement, tokens))
    if parsed["types"]:
        raise BadStatement(f"{refusals.statement(parsed['types'])}; give PIVOT its columns with IN (...)")
    try:
        return judge(parsed, statement)
    except BadStatement as error:  # its places are those of the other text
        raise BadStatement(error.sentence) from None


def _options(options: str | None) -> str:
    """Return the options of EXPLAIN without comments."""
    return " ".join(re.sub(rf"{_BLANK}+$", "", options or "", flags=re.DOTALL).split())
