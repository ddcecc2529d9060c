"""What the cage refuses, by name, and what to do instead."""

from __future__ import annotations

import re
from typing import Final

_ONLY_SELECT: Final = "only SELECT and what else reads"
_UNCHANGEABLE: Final = "tables cannot be changed, the feeds write them"
_NO_FILES: Final = "files cannot be read or written"
_ADVICE: Final = {
    "INSERT": _UNCHANGEABLE,
    "UPDATE": _UNCHANGEABLE,
    "DELETE": _UNCHANGEABLE,
    "MERGE_INTO": _UNCHANGEABLE,
    "ALTER": _UNCHANGEABLE,
    "DROP": _UNCHANGEABLE,
    "COPY": f"{_NO_FILES}; take the result as Parquet or CSV (k2 sql --format parquet --output FILE, or Accept)",
    "EXPORT": f"{_NO_FILES}; take the result as Parquet or CSV (k2 sql --format parquet --output FILE, or Accept)",
    "COPY_DATABASE": _NO_FILES,
    "ATTACH": f"{_NO_FILES}; K2's tables are there already",
    "DETACH": _NO_FILES,
    "LOAD": "extensions cannot be loaded",
    "CREATE": "nothing can be created; name a part of the statement with WITH",
    "CREATE_FUNC": "nothing can be created; name a part of the statement with WITH",
    "SET": "settings are fixed, and times are in UTC; convert one with AT TIME ZONE",
    "PRAGMA": "use SHOW TABLES, DESCRIBE <table> or SUMMARIZE <table>",
    "CALL": "use SHOW TABLES, DESCRIBE <table> or SUMMARIZE <table>",
    "TRANSACTION": "each statement reads one state of the tables by itself",
    "PREPARE": "write the values into the statement",
    "EXECUTE": "write the values into the statement",
    "VACUUM": "K2 maintains its tables itself",
    "ANALYZE": "K2 maintains its tables itself",
}
_WRITTEN: Final = {
    "MERGE_INTO": "MERGE",
    "TRANSACTION": "a transaction",
    "VARIABLE_SET": "SET",
    "CREATE_FUNC": "CREATE",
}
_FILE_FUNCTION: Final = re.compile(r"read_\w+|parquet_\w+|glob|sniff_csv|\w+_scan|query(_table)?|which_secret")
_SETTING_FUNCTION: Final = re.compile(r"\w*setting\w*|getenv|getvariable|duckdb_\w+|pragma_\w+|pg_\w+|current_\w+")
_SHOW_COLUMNS: Final = re.compile(
    r"\s*SHOW\s+(?:COLUMNS|FIELDS|CREATE\s+TABLE|INDEX\w*)\b(?:\s+(?:FROM|IN)\b)?\s*(?P<table>\w*)", re.IGNORECASE
)
KEYWORDS: Final = (
    "SELECT FROM WHERE GROUP ORDER HAVING LIMIT OFFSET JOIN LEFT INNER ASOF USING WITH RECURSIVE UNION EXCEPT "
    "INTERSECT QUALIFY WINDOW PARTITION DISTINCT VALUES PIVOT UNPIVOT DESCRIBE SUMMARIZE SHOW TABLES EXPLAIN ANALYZE "
    "BETWEEN CASE WHEN THEN ELSE INTERVAL"
).split()


def statement(kinds: list[str]) -> str:
    """Return the sentence for statements of these types, as DuckDB names them."""
    for kind in kinds:
        if kind not in {"SELECT", "EXPLAIN", "MULTI"}:
            name = _WRITTEN.get(kind, kind.replace("_", " "))
            return f"{name} is not allowed, {_ONLY_SELECT}: {_ADVICE.get(kind, f'{_UNCHANGEABLE}, and {_NO_FILES}')}"
    return f"{_ONLY_SELECT} is allowed: {_UNCHANGEABLE}, and {_NO_FILES}"


def function(name: str) -> str | None:
    """Return the sentence for a function that is refused on purpose; None for any other."""
    if _FILE_FUNCTION.fullmatch(name):
        return f"{name}() is not allowed: {_NO_FILES}; read from the tables, which SHOW TABLES lists"
    if _SETTING_FUNCTION.fullmatch(name):
        return (
            f"{name}() is not allowed: settings, environment and system tables cannot be read; "
            "use SHOW TABLES, DESCRIBE <table> or SUMMARIZE <table>"
        )
    return None


def unparsable(text: str) -> str | None:
    """Return the sentence for what other databases parse and DuckDB does not; None for anything else."""
    if match := _SHOW_COLUMNS.match(text):
        return f"DuckDB's SQL lists columns with DESCRIBE {match['table'] or '<table>'}"
    if text.lstrip()[:1] in {"\\", "."}:
        return "commands such as \\d belong to the shell that k2 sql opens without a statement; use SHOW TABLES"
    return None
