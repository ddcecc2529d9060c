"""What a user's SQL may do: one statement, only reading, only K2's tables. DuckDB's own parser says what it is.

This is the first of two fences; the second is the connection it runs on, which cannot leave the tables' files.
"""

import json
from collections.abc import Collection, Iterator
from typing import Any, Final

from k2.common.validation_errors import shown
from k2.query.errors import BadQuery

LONGEST: Final = 100_000
_FUNCTIONS: Final = frozenset({"range", "generate_series", "unnest", "json_each", "json_tree"})


def tables_of(statement: str, known: Collection[str]) -> tuple[str, ...]:
    """The tables that a statement reads. Raises `BadQuery` for one that does anything else than reading them."""
    import duckdb

    if len(statement) > LONGEST:
        raise BadQuery(f"the statement is longer than {LONGEST} characters; shorten it")
    with duckdb.connect() as parser:
        row = parser.execute("SELECT json_serialize_sql(?::VARCHAR)", [statement]).fetchone()
    assert row is not None
    parsed = json.loads(row[0])
    if parsed["error"]:
        raise BadQuery(_refused(parsed))
    if len(parsed["statements"]) != 1:
        raise BadQuery(f"there are {len(parsed['statements'])} statements; give one SELECT")
    nodes = list(_nodes(parsed))
    defined = {entry["key"].lower() for node in nodes for entry in _ctes(node)}
    named = [name for node in nodes if (name := _table(node, defined, known))]
    return tuple(dict.fromkeys(named))


def _refused(parsed: dict[str, Any]) -> str:
    message = " ".join(str(parsed["error_message"]).split())
    if parsed["error_type"] == "parser":
        return f"the statement is not SQL: {message}"
    return "only SELECT is allowed; the tables cannot be changed and files cannot be read or written here"


def _nodes(value: Any) -> Iterator[dict[str, Any]]:
    waiting = [value]
    while waiting:
        found = waiting.pop()
        if isinstance(found, dict):
            yield found
            waiting.extend(found.values())
        elif isinstance(found, list):
            waiting.extend(found)


def _ctes(node: dict[str, Any]) -> list[dict[str, Any]]:
    found = node.get("cte_map")
    return found["map"] if isinstance(found, dict) else []


def _table(node: dict[str, Any], defined: Collection[str], known: Collection[str]) -> str | None:
    match node.get("type"):
        case "BASE_TABLE":
            if node["schema_name"] or node["catalog_name"]:
                raise BadQuery(f"write {node['table_name']} without a prefix")
            name = str(node["table_name"]).lower()
            if name in known:
                return name
            if name in defined:
                return None
            raise BadQuery(f"there is no table {shown(name)}; there are {', '.join(sorted(known))}")
        case "TABLE_FUNCTION":
            function = str(node["function"]["function_name"]).lower()
            if function not in _FUNCTIONS:
                raise BadQuery(
                    f"{function}() cannot be read from; there are the tables, {', '.join(sorted(_FUNCTIONS))}"
                )
        case "SHOW_REF":
            raise BadQuery(
                "DESCRIBE, SHOW and SUMMARIZE are not SELECT; `SELECT * FROM <table> LIMIT 0` has the columns"
            )
    return None
