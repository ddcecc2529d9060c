"""Judge a parsed statement by what it may contain: node for node, function for function. The rest is refused.

The tree is the JSON of DuckDB's own parser. A list of what is forbidden would not know what its next version can do.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

from k2.common.validation_errors import format_value
from k2.query.errors import BadStatement
from k2.query.sql.cage.diagnosis import refusals
from k2.query.sql.cage.diagnosis.positions import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

TABLE_FUNCTIONS: Final = frozenset({"range", "generate_series", "unnest", "json_each", "json_tree"})
_SYNTAX_FUNCTIONS: Final = frozenset({"unnest", "unlist", "grouping", "grouping_id"})  # of the grammar, in no catalog
_WINDOW_FUNCTIONS: Final = frozenset(
    "cume_dist dense_rank fill first_value lag last_value lead nth_value ntile percent_rank rank rank_dense "
    "row_number".split()
)
_NODES: Final = frozenset(
    (
        "SELECT_NODE SET_OPERATION_NODE RECURSIVE_CTE_NODE CTE_NODE "
        "BASE_TABLE EMPTY EXPRESSION_LIST JOIN PIVOT SHOW_REF SUBQUERY TABLE_FUNCTION "
        "DISTINCT_MODIFIER LIMIT_MODIFIER LIMIT_PERCENT_MODIFIER ORDER_MODIFIER "
        "ASCENDING DESCENDING ORDER_DEFAULT"
    ).split()
)
_EXPRESSIONS: Final = frozenset(
    (
        "BETWEEN CASE CAST COLLATE COLUMN_REF COMPARISON CONJUNCTION CONSTANT FUNCTION LAMBDA OPERATOR "
        "POSITIONAL_REFERENCE STAR SUBQUERY TYPE WINDOW"
    ).split()
)
_TYPE_DETAILS: Final = "_TYPE_INFO"  # of a constant's type, such as the digits of a decimal
_CHANGES: Final = {"COPY_QUERY_NODE", "INSERT_QUERY_NODE", "UPDATE_QUERY_NODE", "DELETE_QUERY_NODE", "MERGE_QUERY_NODE"}
_SHOWN: Final = frozenset({"SHOW", "DESCRIBE", "SUMMARY", "SHOW_SPECIAL"})
_FILE: Final = re.compile(r"[/\\*]|\.(?:parquet|csv|json|gz|db|txt|tsv|ndjson)$")
_NOWHERE: Final = 1 << 63
_ALL_TABLES: Final = frozenset({"tables", "__show_tables_expanded"})


@dataclass(frozen=True, slots=True)
class Constant:
    """An argument that is a constant: its text, and the type that it is cast to."""

    text: str
    cast: str = ""


@dataclass(frozen=True, slots=True)
class Call:
    """What a statement reads from a function of K2's own; None: an argument that is no constant, or NULL."""

    name: str
    positional: tuple[Constant | None, ...]
    named: Mapping[str, Constant | None]
    offset: int | None


@dataclass(frozen=True, slots=True)
class Reads:
    """What a statement reads: tables, functions of K2's own, and the names of all tables."""

    tables: tuple[str, ...] = ()
    calls: tuple[Call, ...] = ()
    lists_tables: bool = False


def judge(statement: dict[str, Any], tables: Collection[str], own_functions: Collection[str] = ()) -> Reads:
    """Return what a statement reads of these tables and functions. Raises `BadStatement` for anything else."""
    names: dict[str, None] = {}
    calls: list[Call] = []
    lists_tables = False
    nodes = list(_nodes(statement))
    defined = {str(entry["key"]).lower() for node in nodes for entry in _ctes(node)}
    for node in nodes:
        if "class" in node:
            _check_expression(node)
        elif isinstance(kind := node.get("type"), str):
            _check_node(kind)
            if kind == "BASE_TABLE" and (name := _table(node, defined, tables)):
                names[name] = None
            elif kind == "TABLE_FUNCTION":
                if str(node["function"]["function_name"]).lower() in own_functions:
                    calls.append(_call(node))
                else:
                    _check_function(node["function"], TABLE_FUNCTIONS, _offset(node))
            elif kind == "SHOW_REF":
                lists_tables |= _lists_tables(node)
                if not lists_tables and node["query"] is None and (name := _table(node, defined, tables)):
                    names[name] = None
    return Reads(tuple(names), tuple(calls), lists_tables)


@cache
def functions() -> frozenset[str]:
    """Return the scalar and aggregate functions that are allowed, in lower case."""
    listed = files("k2.query.sql.cage").joinpath("functions.txt").read_text("utf-8").split()
    return frozenset(name.lower() for name in listed) | _SYNTAX_FUNCTIONS


def _nodes(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every object of the tree, but the call of a table function, which is judged with its node."""
    stack = [value]
    while stack:
        current = stack.pop()
        if isinstance(current, dict):
            yield current
            if current.get("type") == "TABLE_FUNCTION" and "class" not in current:
                stack.extend(inner for key, inner in current.items() if key != "function")
                stack.extend(current["function"].values())
            else:
                stack.extend(current.values())
        elif isinstance(current, list):
            stack.extend(current)


def _check_expression(node: dict[str, Any]) -> None:
    kind = node["class"]
    if kind not in _EXPRESSIONS:
        if kind == "PARAMETER":
            raise BadStatement("parameters are not allowed; write the value into the statement", offset=_offset(node))
        raise BadStatement(f"{_words(kind)} is not allowed in a statement", offset=_offset(node))
    if kind == "FUNCTION":
        _check_function(node, functions(), _offset(node))
    elif kind == "WINDOW":
        _check_function(node, functions() | _WINDOW_FUNCTIONS, _offset(node))
    elif kind == "TYPE" and (node["schema"] or node["catalog"]):
        raise BadStatement(f"write the type {format_value(node['type_name'])} without a prefix", offset=_offset(node))


def _check_function(node: dict[str, Any], allowed: Collection[str], offset: int | None) -> None:
    # What stands before the name may be a value, as in x.upper(); whatever it is, the name decides.
    name = str(node["function_name"]).lower()
    if name in allowed:
        return
    written = name[:100]
    if refused := refusals.function(written):
        raise BadStatement(refused, offset=offset)
    if allowed is TABLE_FUNCTIONS:
        raise BadStatement(
            f"{written}() is not allowed; read from the tables or {', '.join(sorted(TABLE_FUNCTIONS))}", offset=offset
        )
    meant = did_you_mean(written, allowed)
    raise BadStatement(
        f"{written}() does not exist or is not allowed{meant or '; see the functions of DuckDB'}", offset=offset
    )


def _call(node: dict[str, Any]) -> Call:
    function = node["function"]
    arguments = [(str(each["name"]).lower(), _constant(each["expression"])) for each in function["arguments"]]
    positional = tuple(value for name, value in arguments if not name)
    named = {name: value for name, value in arguments if name}
    return Call(str(function["function_name"]).lower(), positional, named, _offset(node))


def _constant(expression: dict[str, Any]) -> Constant | None:
    if expression["class"] == "CAST" and not expression["try_cast"]:
        inner = _constant(expression["child"])
        return inner and replace(inner, cast=str(expression["type_expr"].get("type_name")))
    literal = expression.get("literal", {}) if expression["class"] == "CONSTANT" else {}
    return Constant(literal["text"]) if literal.get("kind") == "STRING" else None


def _check_node(kind: str) -> None:
    if kind in _NODES or kind.endswith(_TYPE_DETAILS):
        return
    if kind in _CHANGES:
        name = kind.removesuffix("_QUERY_NODE")
        raise BadStatement(f"{refusals.statement([name])}; this holds for every part of the statement")
    raise BadStatement(f"{_words(kind)} is not allowed in a statement")


def _offset(node: dict[str, Any]) -> int | None:
    """Return where a node begins, in bytes; None if the parser does not say."""
    location = node.get("query_location")
    return location if isinstance(location, int) and location < _NOWHERE else None


def _ctes(node: dict[str, Any]) -> list[dict[str, Any]]:
    ctes = node.get("cte_map")
    return ctes["map"] if isinstance(ctes, dict) else []


def _table(node: dict[str, Any], defined: Collection[str], tables: Collection[str]) -> str | None:
    written = str(node["table_name"]).strip('"')
    offset = _offset(node)
    if node["schema_name"] or node["catalog_name"]:
        raise BadStatement(f"write {written} without a prefix", offset=offset)
    if node.get("at_clause"):
        raise BadStatement("AT is not allowed; give the time or snapshot as as_of", offset=offset)
    name = written.lower()
    if name in tables:
        return name
    if name in defined:
        return None
    if _FILE.search(name):
        raise BadStatement(f"there is no table {format_value(name)}, and files cannot be read", offset=offset)
    by_use = sorted(tables, key=lambda table: (not table.startswith("gold_"), table))
    meant = did_you_mean(name, [*defined, *by_use]) or f"; available tables: {', '.join(sorted(tables))}"
    raise BadStatement(f"there is no table {format_value(name)}{meant}", offset=offset)


def _lists_tables(node: dict[str, Any]) -> bool:
    allowed = node["show_type"] in _SHOWN and not node["schema_name"] and not node["catalog_name"]
    special = str(node["show_type"]) == "SHOW_SPECIAL"
    if not allowed or (special and str(node["table_name"]).strip('"').lower() not in _ALL_TABLES):
        raise BadStatement("this SHOW is not allowed; use SHOW TABLES, SHOW <table>, DESCRIBE or SUMMARIZE")
    return special


def _words(kind: str) -> str:
    return kind.removesuffix("_NODE").replace("_", " ").capitalize()[:100]
