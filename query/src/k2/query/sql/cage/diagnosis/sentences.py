"""DuckDB's errors as one sentence that names what was probably meant."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from k2.query.sql.cage.diagnosis import refusals
from k2.query.sql.cage.diagnosis.positions import did_you_mean, nearest

if TYPE_CHECKING:
    from collections.abc import Collection

_MAX_LENGTH: Final = 400
_COLUMN: Final = re.compile(r'Referenced column "(?P<name>[^"]*)" (?:was )?not found')
_OF_ALIAS: Final = re.compile(r'.* "(?P<alias>[^"]*)" does not have a column named "(?P<name>[^"]*)"')
_ALIAS: Final = re.compile(r'Referenced table "(?P<name>[^"]*)" not found(?:.*?Candidate tables: (?P<names>.*))?')
_ARGUMENTS: Final = re.compile(r"No function matches the given name and argument types '(?P<call>[^']*)'")
_OVERFLOW: Final = re.compile(
    r"(?:Overflow in|Needed scale \d+ to accurately represent the) (?P<what>\w+)(?: of (?:DECIMAL|INT128)| result)"
)
_WORD_BEFORE: Final = re.compile(r"(?P<word>\w+)\W*$")


def executing(error: dict[str, Any], columns: Collection[str]) -> str:
    """Return the sentence for an error of binding or executing. `columns` are those of the tables that are read."""
    message = " ".join(str(error["message"]).split())
    if match := _COLUMN.match(message) or _OF_ALIAS.match(message):
        where = f" in {match['alias']}" if "alias" in match.groupdict() else ""
        candidates = str(error.get("candidates", "")).split(",")
        meant = did_you_mean(match["name"], [*filter(None, candidates), *columns])
        return f'there is no column "{match["name"]}"{where}{meant or "; DESCRIBE <table> lists the columns"}'
    if match := _ALIAS.match(message):
        return (
            f'there is no table or alias "{match["name"]}" in FROM; it has {match["names"]}'
            if match["names"]
            else f'there is no table or alias "{match["name"]}" in FROM; name it there'
        )
    if match := _ARGUMENTS.match(message):
        return f"no function matches {match['call']}; cast the arguments, for example x::DOUBLE or x::TIMESTAMP"
    if match := _OVERFLOW.match(message):
        return f"the result of a {match['what']} has more than 38 digits; cast one of the values, as in price::DOUBLE"
    return f"the statement cannot be executed: {message[:_MAX_LENGTH].rstrip('.').replace('. ', '; ')}"


def parsing(message: str, statement: str, offset: int | None) -> str:
    """Return the sentence for a text that is not SQL."""
    if sentence := refusals.unparsable(statement):
        return sentence
    text = f"the statement is not SQL: {' '.join(message.split())[:_MAX_LENGTH]}"
    if offset is None:
        return text
    data = statement.encode()
    here = re.match(r"\w+", data[offset:].decode(errors="ignore"))
    before = _WORD_BEFORE.search(data[:offset].decode(errors="ignore"))
    for word in (here[0] if here else "", before["word"] if before else ""):
        if word and word.upper() not in refusals.KEYWORDS and (keyword := nearest(word, refusals.KEYWORDS)):
            return f"{text}; did you mean {keyword}?"
    return text
