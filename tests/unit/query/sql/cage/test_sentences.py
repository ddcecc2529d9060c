"""The sentence of an error: where it is, the nearest name, and what to do instead of what the cage refuses."""

import pytest

from k2.query.engine import Engine
from k2.query.errors import BadQuery
from tests.unit.query.conftest import Append, trade

# The sentence, from its beginning.
EXPLAINED = {
    "SELECT symbl FROM gold_crypto_trades": 'line 1, column 8: there is no column "symbl"; did you mean symbol?',
    "SELECT\n g.symbl FROM gold_crypto_trades g": 'line 2, column 2: there is no column "symbl" in g; did you',
    "EXPLAIN ANALYZE\nSELECT 'ä', symbl FROM gold_crypto_trades": "line 2, column 13: there is no column",
    "SELECT cuont(*) FROM gold_crypto_trades": "line 1, column 8: cuont() does not exist or is not allowed; did",
    "SELECT 1,\n * FROM trades": 'line 2, column 9: there is no table "trades"; did you mean gold_crypto_trades?',
    "SELECT * FROM 'x.parquet'": 'line 1, column 15: there is no table "x.parquet", and files cannot be read',
    "SELECT * FROM nowhere": 'line 1, column 15: there is no table "nowhere"; available tables: gold_crypto_trades',
    "SELECT x.a FROM gold_crypto_trades t": 'line 1, column 8: there is no table or alias "x" in FROM; it has "t"',
    "SELECT sum(symbol) FROM gold_crypto_trades": "line 1, column 8: no function matches sum(VARCHAR); cast the",
    "SELECT price * price * price FROM gold_crypto_trades": "the result of a multiplication has more than 38 digits",
    "SELECT price * price * price * price FROM gold_crypto_trades": "the result of a multiplication has more than 38",
    "SELECT symbol::DATE FROM gold_crypto_trades": "line 1, column ",
    "SELCT 1": 'line 1, column 1: the statement is not SQL: syntax error at or near "SELCT"; did you mean SELECT?',
    "SELECT symbol FORM gold_crypto_trades": "line 1, column 20: the statement is not SQL: syntax error at",
    "SHOW COLUMNS FROM gold_crypto_trades": "line 1, column 14: DuckDB's SQL lists columns with DESCRIBE gold",
    "PIVOT gold_crypto_trads ON side USING count()": 'there is no table "gold_crypto_trads"; did you mean',
    "PIVOT gold_crypto_trades ON sid USING count()": 'line 1, column 29: there is no column "sid"; did you mean side?',
    "INSERT INTO gold_crypto_trades VALUES (1)": "INSERT is not allowed, only SELECT and what else reads: tables",
    "COPY gold_crypto_trades TO 'x.csv'": "COPY is not allowed, only SELECT and what else reads: files",
    "SET TimeZone = 'Europe/Berlin'": "SET is not allowed, only SELECT and what else reads: settings are fixed",
    "PRAGMA table_info('x')": "PRAGMA is not allowed, only SELECT and what else reads: use SHOW TABLES, DESCRIBE",
    "SELECT * FROM read_csv('x')": "line 1, column 15: read_csv() is not allowed: files cannot be read",
}


def test_an_error_says_where_it_is_and_what_was_meant(engine: Engine, append: Append) -> None:
    append([trade(1)])
    for statement, sentence in EXPLAINED.items():
        with pytest.raises(BadQuery) as refused:
            engine.sql(statement)
        assert str(refused.value).startswith(sentence), refused.value
