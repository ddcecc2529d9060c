"""Restrict user SQL to one SELECT over K2's tables, judged by DuckDB's own parser.

This is the first of two barriers; the second is the connection that runs it, which can open only the tables' files.
"""

import json
from collections.abc import Collection, Iterator
from typing import Any, Final

from k2.common.validation_errors import format_value
from k2.query.errors import BadQuery

MAX_LENGTH: Final = 100_000
_TABLE_FUNCTIONS: Final = frozenset({"range", "generate_series", "unnest", "json_each", "json_tree"})


def referenced_tables(statement: str, tables: Collection[str]) -> tuple[str, ...]:
    """Return the tables that a statement reads. Raises `BadQuery` for a statement that does anything else."""
    import duckdb

    if len(statement) > MAX_LENGTH:
        raise BadQuery(f"the statement has more than {MAX_LENGTH} characters; shorten it")
    with duckdb.connect() as parser:
        row = parser.execute("SELECT json_serialize_sql(?::VARCHAR)", [statement]).fetchone()
    assert row is not None
    parsed = json.loads(row[0])
    if parsed["error"]:
        raise BadQuery(_rejection(parsed))
    if len(parsed["statements"]) != 1:
        raise BadQuery(f"got {len(parsed['statements'])} statements; give one SELECT")
    nodes = list(_nodes(parsed))
    defined = {entry["key"].lower() for node in nodes for entry in _ctes(node)}
    named = [name for node in nodes if (name := _table(node, defined, tables))]
    return tuple(dict.fromkeys(named))


def _rejection(parsed: dict[str, Any]) -> str:
    message = " ".join(str(parsed["error_message"]).split())
    if parsed["error_type"] == "parser":
        return f"the statement is not SQL: {message}"
    return "only SELECT is allowed; tables cannot be changed, files cannot be read or written"


def _nodes(value: Any) -> Iterator[dict[str, Any]]:
    stack = [value]
    while stack:
        current = stack.pop()
        if isinstance(current, dict):
            yield current
            stack.extend(current.values())
        elif isinstance(current, list):
            stack.extend(current)


def _ctes(node: dict[str, Any]) -> list[dict[str, Any]]:
    ctes = node.get("cte_map")
    return ctes["map"] if isinstance(ctes, dict) else []


def _table(node: dict[str, Any], defined: Collection[str], tables: Collection[str]) -> str | None:
    match node.get("type"):
        case "BASE_TABLE":
            if node["schema_name"] or node["catalog_name"]:
                raise BadQuery(f"write {node['table_name']} without a prefix")
            name = str(node["table_name"]).lower()
            if name in tables:
                return name
            if name in defined:
                return None
            raise BadQuery(f"there is no table {format_value(name)}; available tables: {', '.join(sorted(tables))}")
        case "TABLE_FUNCTION":
            function = str(node["function"]["function_name"]).lower()
            if function not in _TABLE_FUNCTIONS:
                raise BadQuery(
                    f"{function}() is not allowed; read from the tables or {', '.join(sorted(_TABLE_FUNCTIONS))}"
                )
        case "SHOW_REF":
            raise BadQuery(
                "DESCRIBE, SHOW and SUMMARIZE are not SELECT; `SELECT * FROM <table> LIMIT 0` shows the columns"
            )
    return None
