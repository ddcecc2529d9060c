"""Random statements from a grammar: what people write, mixed with what must never run."""

from random import Random

_COLUMNS = ("symbol", "exchange", "price", "quantity", "timestamp", "side", "trade_id", "vendor_data", "nope", "*")
_VALUES = (
    "1",
    "-7",
    "1.5",
    "'BTCUSDT'",
    "NULL",
    "DATE '2026-01-31'",
    "INTERVAL 1 DAY",
    "[1, 2]",
    "{'a': 1}",
    "''",
    "1e300",
)
_FUNCTIONS = (
    "abs length lower sum max min count avg list_sum array_agg coalesce round date_trunc typeof json_extract repeat "
    "regexp_matches levenshtein current_setting getenv pg_get_viewdef getvariable nextval write_log random"
).split()
_OPERATORS = ("+", "-", "*", "/", "||", "=", "<", "AND", "OR", "LIKE", "IS DISTINCT FROM", "->>", "::VARCHAR ||")
_TABLES = ("gold_crypto_trades", "gold_crypto_trades AS g", "range(10)", "unnest([1, 2])", "x", "'/etc/passwd'")
_READERS = (
    "read_text('{lake}/catalog.db')", "read_csv('/etc/passwd')", "glob('{lake}/**')", "duckdb_settings()",
    "read_parquet('{lake}/**/*.parquet')", "query('SELECT 1')", "duckdb_views()", "parquet_metadata('{lake}/x')",
)  # fmt: skip
_CHANGES = (
    "COPY gold_crypto_trades TO '{lake}/catalog.db'", "COPY (SELECT 1) TO '{lake}/new.parquet' (FORMAT parquet)",
    "INSERT INTO gold_crypto_trades SELECT * FROM gold_crypto_trades RETURNING *", "DELETE FROM gold_crypto_trades",
    "UPDATE gold_crypto_trades SET price = 0 RETURNING *", "DROP VIEW gold_crypto_trades",
    "ATTACH '{lake}/catalog.db'",
    "EXPORT DATABASE '{lake}/copy'", "SET allowed_paths = ['/']", "PRAGMA database_list", "INSTALL httpfs",
    "CHECKPOINT",
    "CREATE TABLE t AS SELECT 1", "CALL enable_logging()", "VACUUM",
)  # fmt: skip
_PREFIXES = (
    "EXPLAIN ",
    "EXPLAIN ANALYZE ",
    "DESCRIBE ",
    "SUMMARIZE ",
    "/* é */ ",
    "-- x\n",
    "FROM (",
    "SELECT 1; ",
    "(",
)


def statement(rng: Random, lake: str) -> str:
    """Return a statement; `lake` is the folder that some of them aim at."""
    made = _sober(rng) if rng.random() < 0.3 else _statement(rng, 3)
    return made.replace("{lake}", lake)


def _sober(rng: Random) -> str:
    """Return a statement that runs."""
    number = rng.choice(["price", "quantity", "price * 2", "TRY(price * quantity)", "len(symbol)", "range + 1"])
    text = rng.choice(["symbol", "lower(side)", "exchange || ' é'", "vendor_data->>'source'", "typeof(timestamp)"])
    table = "(SELECT * FROM gold_crypto_trades, range(3)) AS t"
    return rng.choice(
        [
            f"SELECT {text}, {number} FROM {table} LIMIT 7",
            f"SELECT {text} AS k, sum({number}), count(*) FROM {table} GROUP BY ALL ORDER BY ALL",
            f"WITH x AS (SELECT {text} AS k, {number} AS v FROM {table}) FROM x WHERE v > 0",
            f"PIVOT (SELECT {text} AS k, {number} AS v FROM {table}) ON k USING sum(v)",
            f"EXPLAIN SELECT {text} FROM {table}",
            f"SUMMARIZE SELECT {number} AS v FROM {table}",
            f"DESCRIBE SELECT {text} FROM {table}",
            f"SELECT lag({number}) OVER (PARTITION BY {text} ORDER BY timestamp) FROM {table}",
        ]
    )


def _statement(rng: Random, depth: int) -> str:
    kind = rng.random()
    if kind < 0.08:
        return rng.choice(_CHANGES)
    if kind < 0.25:
        return rng.choice(_PREFIXES) + _statement(rng, depth - 1)
    if kind < 0.40:
        body = rng.choice(_CHANGES) if rng.random() < 0.4 else _query(rng, depth - 1)
        return f"WITH x AS ({body}) {_query(rng, depth)}"
    if kind < 0.50:
        given = " IN ('BUY', 1)" if rng.random() < 0.4 else ""
        return f"PIVOT {_table(rng, depth)} ON {_expression(rng, 1)}{given} USING {_expression(rng, depth - 1)}"
    return _query(rng, depth)


def _query(rng: Random, depth: int) -> str:
    select = ", ".join(_expression(rng, depth) for _ in range(rng.randint(1, 3)))
    text = f"SELECT {select}"
    if rng.random() < 0.8:
        text += f" FROM {_table(rng, depth)}"
        if rng.random() < 0.2:
            text += f" {rng.choice(['JOIN', 'ASOF JOIN', 'LEFT JOIN'])} {_table(rng, depth)} ON {_expression(rng, 1)}"
    if rng.random() < 0.4:
        text += f" WHERE {_expression(rng, depth)}"
    if rng.random() < 0.3:
        text += rng.choice([" GROUP BY ALL", " ORDER BY 1", " ORDER BY ALL", f" QUALIFY {_expression(rng, 1)}"])
    if rng.random() < 0.2 and depth > 0:
        text += f" UNION ALL {_query(rng, depth - 1)}"
    return text + (f" LIMIT {rng.randint(0, 100)}" if rng.random() < 0.5 else "")


def _table(rng: Random, depth: int) -> str:
    kind = rng.random()
    if kind < 0.15:
        return rng.choice(_READERS)
    if kind < 0.35 and depth > 0:
        return f"({_statement(rng, depth - 1)})"
    return rng.choice(_TABLES)


def _expression(rng: Random, depth: int) -> str:
    kind = rng.random()
    if depth <= 0 or kind < 0.3:
        return rng.choice(_COLUMNS if rng.random() < 0.6 else _VALUES)
    if kind < 0.55:
        arguments = ", ".join(_expression(rng, depth - 1) for _ in range(rng.randint(0, 2)))
        return f"{rng.choice(_FUNCTIONS)}({arguments})"
    if kind < 0.8:
        return f"({_expression(rng, depth - 1)} {rng.choice(_OPERATORS)} {_expression(rng, depth - 1)})"
    if kind < 0.9:
        return f"({_query(rng, depth - 1)})"
    return rng.choice(
        [
            "CASE WHEN {0} THEN {0} END",
            "CAST({0} AS INT)",
            "sum({0}) OVER (ORDER BY {0})",
            "COLUMNS({0})",
            "[y FOR y IN {0}]",
        ]
    ).replace("{0}", _expression(rng, depth - 1))
