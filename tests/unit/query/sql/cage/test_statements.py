"""What is refused and what runs, by the engine as a library: the same for `k2 sql` and the API."""

import hashlib
from contextlib import closing
from pathlib import Path

import duckdb
import pytest

from k2.cli.embedded.layout import Layout
from k2.query.engine import Engine
from k2.query.errors import BadQuery, Unavailable
from k2.query.sql.cage import tree
from k2.schemas.tables import GOLD
from tests.unit.query.conftest import NOON, Append, trade

FORBIDDEN = {
    "SELECT * FROM read_csv('/etc/passwd')": "read_csv",
    "SELECT * FROM read_text('/etc/passwd')": "read_text",
    "SELECT * FROM '/etc/passwd'": "no table",
    "SELECT * FROM glob('/*')": "glob",
    "SELECT * FROM query('SELECT 1')": "query",
    "SELECT * FROM query_table('gold_crypto_trades')": "query_table",
    "SELECT * FROM duckdb_settings()": "duckdb_settings",
    "SELECT * FROM duckdb_views()": "duckdb_views",
    "SELECT * FROM duckdb_secrets()": "duckdb_secrets",
    "SELECT * FROM sniff_csv('/etc/passwd')": "sniff_csv",
    "SELECT * FROM json_execute_serialized_sql('{}')": "json_execute_serialized_sql",
    "SELECT * FROM histogram_values(gold_crypto_trades, price)": "histogram_values",
    "SELECT * FROM information_schema.tables": "without a prefix",
    "SELECT * FROM duckdb_settings": "no table",
    "SELECT * FROM pg_catalog.pg_settings": "without a prefix",
    "SELECT * FROM sqlite_master": "no table",
    "COPY gold_crypto_trades TO '/tmp/k2-copied.csv'": "only SELECT",
    "COPY (SELECT 1) TO '/tmp/k2-copied.csv'": "only SELECT",
    "EXPORT DATABASE '/tmp/k2-copied'": "only SELECT",
    "ATTACH '/tmp/k2-attached.db'": "only SELECT",
    "INSTALL httpfs": "only SELECT",
    "LOAD httpfs": "only SELECT",
    "SET enable_external_access = true": "only SELECT",
    "RESET memory_limit": "only SELECT",
    "PRAGMA database_list": "only SELECT",
    "CALL pragma_version()": "only SELECT",
    "DROP VIEW gold_crypto_trades": "only SELECT",
    "CREATE TABLE mine (x INT)": "only SELECT",
    "CREATE MACRO f(x) AS x": "only SELECT",
    "DELETE FROM gold_crypto_trades": "only SELECT",
    "PREPARE p AS SELECT 1": "only SELECT",
    "EXECUTE p": "only SELECT",
    "BEGIN": "only SELECT",
    "CHECKPOINT": "only SELECT",
    "VACUUM": "only SELECT",
    "USE memory": "only SELECT",
    "SELECT 1; SELECT 2": "2 statements",
    "SELECT 1; COPY (SELECT 1) TO '/tmp/k2-copied.csv'": "only SELECT",
    "": "0 statements",
    "-- nothing": "0 statements",
    "SELEC 1": "not SQL",
    "SELECT * FROM gold_trades": "did you mean gold_crypto_trades",
    "SELECT nope FROM gold_crypto_trades": "nope",
    "SELECT $1": "parameters|not SQL|only SELECT",
    "WITH t AS (SELECT * FROM read_parquet('x')) SELECT * FROM t": "read_parquet",
    "WITH x AS (COPY (SELECT 1) TO '/tmp/k2-copied.csv') SELECT 1": "only SELECT",
    "WITH x AS (COPY gold_crypto_trades TO '/tmp/k2-copied.csv') FROM x": "only SELECT",
    "WITH x AS (INSERT INTO gold_crypto_trades VALUES (1) RETURNING *) FROM x": "only SELECT",
    "WITH x AS (UPDATE gold_crypto_trades SET symbol = 'x' RETURNING *) FROM x": "only SELECT",
    "WITH x AS (DELETE FROM gold_crypto_trades RETURNING *) FROM x": "only SELECT",
    "SELECT (WITH x AS (COPY (SELECT 1) TO '/tmp/k2-copied.csv') SELECT 1)": "only SELECT",
    "SELECT (SELECT max(content) FROM read_blob('/etc/passwd'))": "read_blob",
    "SELECT current_setting('allowed_paths')": "current_setting",
    "SELECT CURRENT_SETTING('allowed_paths')": "current_setting",
    "SELECT main.current_setting('allowed_paths')": "current_setting",
    "SELECT 'allowed_paths'.current_setting()": "current_setting",
    "SELECT list_transform(['allowed_paths'], lambda x: current_setting(x))": "current_setting",
    "SELECT getenv('HOME')": "getenv",
    "SELECT getvariable('x')": "getvariable",
    "SELECT current_query()": "current_query",
    "SELECT json_serialize_sql('SELECT 1')": "json_serialize_sql",
    "SELECT pg_get_viewdef(1)": "pg_get_viewdef",
    "SELECT write_log('x')": "write_log",
    "SELECT sleep_ms(1)": "sleep_ms",
    "SELECT nextval('s')": "nextval",
    "SHOW DATABASES": "SHOW",
    "SHOW VARIABLES": "SHOW",
    "SHOW TABLES FROM main": "SHOW",
    "EXPLAIN COPY (SELECT 1) TO '/tmp/k2-copied.csv'": "only SELECT",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '/tmp/k2-copied.csv'": "only SELECT",
    "EXPLAIN ANALYZE WITH x AS (COPY (SELECT 1) TO '/tmp/k2-copied.csv') SELECT 1": "only SELECT",
    "EXPLAIN (ANALYZE) DELETE FROM gold_crypto_trades": "only SELECT",
    "EXPLAIN SELECT * FROM read_text('/etc/passwd')": "read_text",
    "EXPLAIN EXPLAIN SELECT 1": "only SELECT|not SQL",
    "PIVOT read_csv('/etc/passwd') ON a USING sum(b)": "read_csv",
    "PIVOT (SELECT current_setting('allowed_paths') AS a, 1 AS b) ON a USING sum(b)": "current_setting",
    "PIVOT gold_crypto_trades ON current_setting('allowed_paths') USING sum(price)": "current_setting",
    "PIVOT gold_crypto_trades ON side USING max(current_setting('allowed_paths'))": "current_setting",
    "WITH x AS (COPY (SELECT 1) TO '/tmp/k2-copied.csv') PIVOT gold_crypto_trades ON side USING count()": "only SELECT",
    "CREATE TABLE x AS PIVOT gold_crypto_trades ON side USING sum(price)": "only SELECT",
    "SELECT CAST(symbol AS INT) FROM gold_crypto_trades": "Could not convert",
    "SELECT CAST(1 AS pg_catalog.int4)": "without a prefix",
    "SELECT * FROM gold_crypto_trades AT (VERSION => 1)": "AT is not allowed",
    "SUMMARIZE read_csv('/etc/passwd')": "read_csv|not SQL",
    "DESCRIBE SELECT * FROM read_text('/etc/passwd')": "read_text",
    "/* x */ COPY (SELECT 1) TO '/tmp/k2-copied.csv' -- SELECT": "only SELECT",
    "\uff33\uff25\uff2c\uff25\uff23\uff34 1": "not SQL",
    "SELECT\u00a0current_setting('allowed_paths')": "current_setting",
    "SELECT \"current_setting\"('allowed_paths')": "current_setting",
}
RUNS = {
    "SHOW TABLES": ["gold_crypto_trades"],
    "SELECT name FROM (SHOW TABLES)": ["gold_crypto_trades"],
    "SELECT column_name FROM (DESCRIBE gold_crypto_trades) LIMIT 1": ["message_id"],
    "SELECT column_name FROM (SHOW gold_crypto_trades) LIMIT 1": ["message_id"],
    "SELECT column_name FROM (SUMMARIZE gold_crypto_trades) LIMIT 1": ["message_id"],
    "FROM gold_crypto_trades SELECT trade_id": ["1", "2"],
    "FROM gold_crypto_trades SELECT timestamp, * LIMIT 1": [NOON],
    "PIVOT_WIDER (SELECT side FROM gold_crypto_trades) ON side USING count()": [2],
    "VALUES (1), (2)": [1, 2],
    "SELECT trade_id FROM gold_crypto_trades QUALIFY row_number() OVER (ORDER BY timestamp DESC) = 1": ["2"],
    "SELECT a.trade_id FROM gold_crypto_trades a ASOF JOIN gold_crypto_trades b ON a.timestamp > b.timestamp": ["2"],
    "PIVOT (SELECT side, price FROM gold_crypto_trades) ON side USING count(price)": [2],
    "PIVOT (SELECT side, 7 AS seven FROM gold_crypto_trades) ON side -- a comment": [7],
    'FROM (PIVOT (SELECT side AS "USING" FROM gold_crypto_trades) ON "USING" || \', é\', USING count())': [2],
    "WITH p AS (PIVOT (SELECT side, exchange FROM gold_crypto_trades) ON side, exchange USING count()) FROM p": [2],
    "WITH p AS (PIVOT (SELECT side FROM gold_crypto_trades) ON side IN ('BUY') USING count()) FROM p": [2],
    "EXPLAIN SELECT 1": ["physical_plan"],
    "explain analyze PIVOT (SELECT side FROM gold_crypto_trades) ON side USING count()": ["analyzed_plan"],
    "/* c */ EXPLAIN (FORMAT json) SELECT 1": ["physical_plan"],
    "SELECT count(*) FROM gold_crypto_trades, range(2)": [4],
    "SELECT x FROM unnest([1, 2]) AS t(x)": [1, 2],
    "SELECT 'a,b'.string_split(',').list_transform(lambda x: x.upper())": [["A", "B"]],
    "SELECT list_sum([y * 2 for y in [1, 2] if y > 1])": [4],
    "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 3) SELECT max(n) FROM t": [3],
    "SELECT vendor_data->>'source' FROM gold_crypto_trades GROUP BY ALL": ["live"],
    "SELECT 'COPY (SELECT 1) TO ''/tmp/k2-copied.csv'''": ["COPY (SELECT 1) TO '/tmp/k2-copied.csv'"],
    "SELECT 1;": [1],
    "SELECT list_transform([1, 2], x -> x + 1)": [[2, 3]],
    "SELECT TIMETZ '10:00:00+02'": ["10:00:00+02"],
    "SELECT [TIMETZ '10:00:00+02']": [["10:00:00+02"]],
    "SELECT '101'::BIT": ["101"],
    f"SELECT {'9' * 50}::BIGNUM": ["9" * 50],
    "SELECT 5::VARIANT": ["5"],
    f"SELECT {'9' * 38}::HUGEINT": [int("9" * 38)],
    "SELECT timestamp::TIMESTAMP FROM gold_crypto_trades LIMIT 1": [NOON.replace(tzinfo=None)],
    "SELECT (timestamp AT TIME ZONE 'America/New_York')::VARCHAR FROM gold_crypto_trades LIMIT 1": [
        "2026-01-31 07:00:00"
    ],
}


def digests(root: Path) -> dict[str, str]:
    """The SHA-256 of every file of a lake."""
    return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in root.rglob("*") if file.is_file()}


def test_only_reading_the_tables_is_allowed(engine: Engine, append: Append, layout: Layout) -> None:
    append([trade(1)])
    before = digests(layout.root)
    for statement, message in FORBIDDEN.items():
        with pytest.raises(BadQuery, match=message) as refused:
            engine.sql(statement)
        assert str(layout.root) not in str(refused.value)
        assert len(str(refused.value)) < 1000
    assert digests(layout.root) == before
    assert not Path("/tmp/k2-copied.csv").exists()


def test_what_people_type_runs(engine: Engine, append: Append) -> None:
    append([trade(1), trade(2, 1)])
    for statement, expected in RUNS.items():
        assert engine.sql(statement).column(0).to_pylist() == expected, statement


def test_an_integer_that_results_cannot_carry_is_named(engine: Engine) -> None:
    with pytest.raises(BadQuery, match='the column "large" has 39 digits, and results carry 38; cast it to VARCHAR'):
        engine.sql("SELECT 170141183460469231731687303715884105727::HUGEINT AS large")


def test_the_time_zone_of_the_machine_changes_nothing(
    layout: Layout, append: Append, monkeypatch: pytest.MonkeyPatch
) -> None:
    append([trade(1)])
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    monkeypatch.setattr("k2.query.sql.cage.pool._ENVIRONMENT", ("PATH", "PYTHONPATH", "TZ"))
    with closing(Engine(layout.platform())) as engine:
        assert engine.sql(f"SELECT timestamp::TIMESTAMP AS t FROM {GOLD}").to_pylist() == [
            {"t": NOON.replace(tzinfo=None)}
        ]


def test_no_plan_and_no_error_shows_where_the_lake_is(engine: Engine, append: Append, layout: Layout) -> None:
    append([trade(1)])
    for statement in (
        f"EXPLAIN ANALYZE SELECT * FROM {GOLD}",
        f"EXPLAIN (ANALYZE, FORMAT json) SELECT * FROM {GOLD}",
        f"EXPLAIN SELECT * FROM {GOLD}",
        f"SUMMARIZE {GOLD}",
        "SHOW ALL TABLES",
    ):
        assert str(layout.root) not in str(engine.sql(statement).to_pylist())
    with pytest.raises(BadQuery) as error:
        engine.sql(f"SELECT filename FROM {GOLD}")
    assert str(layout.root) not in str(error.value)


@pytest.mark.parametrize("damage", ["removed", "cut", "overwritten"])
def test_an_error_of_a_damaged_file_does_not_show_where_the_lake_is(
    engine: Engine, append: Append, layout: Layout, damage: str
) -> None:
    append([trade(1)])
    for file in layout.root.rglob("*.parquet"):
        content = file.read_bytes()
        match damage:
            case "removed":
                file.unlink()
            case "cut":
                file.write_bytes(content[: len(content) // 2])
            case "overwritten":
                file.write_bytes(content[:4] + b"x" * (len(content) - 8) + content[-4:])
    with pytest.raises((BadQuery, Unavailable)) as error:
        engine.sql(f"SELECT * FROM {GOLD}")
    assert str(layout.root) not in str(error.value)
    assert ".parquet" in str(error.value)


def test_a_statement_leaves_nothing_to_the_next_one(engine: Engine, append: Append) -> None:
    append([trade(1)])
    pivot = f"PIVOT (SELECT side FROM {GOLD}) ON side USING count()"
    assert engine.sql(pivot).to_pylist() == engine.sql(pivot).to_pylist() == [{"BUY": 1}]
    drawn = [engine.sql("SELECT random() AS r, uuid() AS u").to_pylist()[0] for _ in range(3)]
    assert len({row["r"] for row in drawn}) == len({row["u"] for row in drawn}) == 3


def test_every_function_of_duckdb_was_decided_on() -> None:
    """A newer DuckDB brings functions: each is listed as allowed, or here as refused."""
    with duckdb.connect() as connection:
        rows = connection.execute(
            "SELECT DISTINCT function_name FROM duckdb_functions() "
            "WHERE function_type IN ('scalar', 'aggregate', 'macro') AND function_name NOT LIKE '% %'"
        ).fetchall()
    names = {name.lower() for (name,) in rows}
    assert tree.functions() - names <= {"unnest", "unlist", "grouping", "grouping_id"}
    undecided = [
        name
        for name in names - tree.functions()
        if name not in REFUSED and not name.startswith(("__", "collate_", "icu_", "st_", "pg_", "has_", "inet_"))
    ]
    assert undecided == []


REFUSED = frozenset(
    """assert_true bitstring_byte_comparable can_cast_implicitly cast_to_type col_description combine combine_aggr
    constant_or_null create_sort_key current_connection_id current_query current_query_id current_schemas
    current_setting current_transaction_id currval finalize format_pg_type format_type get_block_size get_type
    getvariable in_search_path index_key invoke json_copy_strftime_if_date json_copy_strftime_if_timestamp
    json_deserialize_sql json_serialize_plan json_serialize_sql make_type map_to_pg_oid nextval obj_description
    parse_duckdb_log_message remap_struct replace_type setseed setval shobj_description sleep_ms stats
    timetz_byte_comparable to_aggregate_state txid_current unpivot_list variant_bytes_to_variant variant_comparator
    variant_normalize variant_to_parquet_variant vector_type vertex_extract write_log""".split()
)
