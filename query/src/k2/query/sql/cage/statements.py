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

from k2.query.errors import BadQuery
from k2.query.sql.cage import pivot, tree

if TYPE_CHECKING:
    from collections.abc import Collection

    from k2.query.sql.cage.process import StatementProcess

MAX_LENGTH: Final = 100_000
_ONLY_SELECT: Final = (
    "only SELECT is allowed, also as WITH, FROM, VALUES, PIVOT, DESCRIBE, SUMMARIZE, SHOW TABLES or EXPLAIN; "
    "tables cannot be changed, files cannot be read or written"
)
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
    tables: tuple[str, ...]
    lists_tables: bool = False  # SHOW TABLES: it needs the names of all


def check(process: StatementProcess, statement: str, tables: Collection[str]) -> Checked:
    """Return what may run of a text. Raises `BadQuery` for anything but one statement that only reads the tables."""
    if len(statement) > MAX_LENGTH:
        raise BadQuery(f"the statement has more than {MAX_LENGTH} characters; shorten it")
    parsed = process.parse(statement)
    if parsed["types"] in _EXPLAINED and (explain := _EXPLAIN.match(statement)):
        inner = check(process, statement[explain.end() :], tables)
        prefix = " ".join(["EXPLAIN", *((explain["analyze"] or "").split()[:1]), _options(explain["options"])])
        return Checked(f"{prefix} {inner.text}", inner.tables, inner.lists_tables)
    if parsed["types"] == ["MULTI"]:
        return Checked(statement, *_check_pivot(process, statement, parsed["tokens"], tables))
    return Checked(statement, *_judge(parsed, tables))


def _check_pivot(
    process: StatementProcess, statement: str, tokens: list[list[Any]], tables: Collection[str]
) -> tuple[tuple[str, ...], bool]:
    """Judge a PIVOT that finds its columns itself by the same one with columns given."""
    parsed = process.parse(pivot.with_columns(statement, tokens))
    if parsed["types"]:
        raise BadQuery(f"{_ONLY_SELECT}; give PIVOT its columns with IN (...)")
    return _judge(parsed, tables)


def _judge(parsed: dict[str, Any], tables: Collection[str]) -> tuple[tuple[str, ...], bool]:
    try:
        answer = msgspec.json.decode(parsed["tree"])
    except RecursionError:
        raise BadQuery("the statement is nested too deeply; simplify it") from None
    if answer["error"]:
        raise BadQuery(_rejection(answer))
    if len(answer["statements"]) != 1:
        raise BadQuery(f"got {len(answer['statements'])} statements; give one SELECT")
    return tree.tables_read(answer["statements"][0], tables)


def _rejection(parsed: dict[str, Any]) -> str:
    message = " ".join(str(parsed["error_message"]).split())
    if parsed["error_type"] == "parser":
        return f"the statement is not SQL: {message[:500]}"
    return _ONLY_SELECT


def _options(options: str | None) -> str:
    """Return the options of EXPLAIN without comments."""
    return " ".join(re.sub(rf"{_BLANK}+$", "", options or "", flags=re.DOTALL).split())
