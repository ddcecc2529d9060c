import pytest

from k2.query.engine import Engine, _sandbox
from k2.query.errors import BadQuery
from k2.query.iceberg import data_files
from k2.schemas.tables import GOLD
from tests.unit.query.conftest import Append, trade

FORBIDDEN = {
    "SELECT * FROM read_csv('/etc/passwd')": "read_csv",
    "SELECT * FROM read_text('/etc/passwd')": "read_text",
    "SELECT * FROM '/etc/passwd'": "no table",
    "SELECT * FROM glob('/*')": "glob",
    "SELECT * FROM query('SELECT 1')": "query",
    "SELECT * FROM duckdb_settings()": "duckdb_settings",
    "SELECT * FROM information_schema.tables": "without a prefix",
    "COPY gold_crypto_trades TO '/tmp/k2-copied.csv'": "only SELECT",
    "ATTACH '/tmp/k2-attached.db'": "only SELECT",
    "INSTALL httpfs": "only SELECT",
    "LOAD httpfs": "only SELECT",
    "SET enable_external_access = true": "only SELECT",
    "PRAGMA database_list": "only SELECT",
    "DROP VIEW gold_crypto_trades": "only SELECT",
    "CREATE TABLE mine (x INT)": "only SELECT",
    "DELETE FROM gold_crypto_trades": "only SELECT",
    "SELECT 1; SELECT 2": "2 statements",
    "": "0 statements",
    "SELEC 1": "not SQL",
    "SELECT * FROM gold_trades": "available tables: gold_crypto_trades",
    "SELECT nope FROM gold_crypto_trades": "nope",
    "WITH t AS (SELECT * FROM read_parquet('x')) SELECT * FROM t": "read_parquet",
    "SELECT (SELECT max(content) FROM read_blob('/etc/passwd'))": "read_blob",
    "SELECT CAST(symbol AS INT) FROM gold_crypto_trades": "Could not convert",
}


@pytest.mark.parametrize(("statement", "message"), FORBIDDEN.items())
def test_only_reading_the_tables_is_allowed(engine: Engine, append: Append, statement: str, message: str) -> None:
    append([trade(1)])
    with pytest.raises(BadQuery, match=message):
        engine.sql(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "COPY (SELECT 1) TO '/tmp/k2-copied.csv'",
        "ATTACH '/tmp/k2-attached.db'",
        "INSTALL httpfs",
        "SET enable_external_access = true",
        "SET memory_limit = '100GB'",
    ],
)
def test_the_sandboxed_connection_rejects_what_the_parser_would_allow(
    engine: Engine, append: Append, statement: str
) -> None:
    import duckdb

    append([trade(1)])
    with duckdb.connect() as connection:
        _sandbox(connection, {GOLD: engine._planner.plan(GOLD)})
        assert connection.execute(f"SELECT count(*) FROM {data_files.quote_identifier(GOLD)}").fetchone() == (1,)
        with pytest.raises((duckdb.PermissionException, duckdb.InvalidInputException)):
            connection.execute(statement)


def test_common_table_expressions_and_json_are_allowed(engine: Engine, append: Append) -> None:
    append([trade(1), trade(2)])
    result = engine.sql(
        "WITH t AS (SELECT vendor_data->>'source' AS source FROM GOLD_crypto_trades) "
        "SELECT source, count(*) AS n FROM t, range(2) GROUP BY source"
    )
    assert result.to_pylist() == [{"source": "live", "n": 4}]
