"""SQL over HTTP: permitted statements and limits."""

import time

import pyarrow as pa
import pytest
from starlette.testclient import TestClient

from k2.cli.embedded.layout import Layout
from k2.query.api.settings import ApiSettings
from tests.unit.query.api.conftest import Serve
from tests.unit.query.conftest import Append, stamp, trade

ARROW = {"Accept": "application/vnd.apache.arrow.stream"}
ROWS = [trade(number, number) for number in range(30)]


def test_a_select_returns_rows(api: TestClient, append: Append) -> None:
    append(ROWS)
    statement = "SELECT exchange, count(*) AS trades, sum(price) AS total FROM gold_crypto_trades GROUP BY ALL"
    answer = api.post("/v1/sql", json={"statement": statement})
    assert answer.json() == {
        "data": [{"exchange": "BINANCE", "trades": 30, "total": "3000"}],
        "truncated": False,
    }
    assert answer.headers["cache-control"] == "no-store"


def test_sql_is_read_as_of_a_snapshot(api: TestClient, append: Append) -> None:
    first = append(ROWS)
    append([trade(100, 1)])
    statement = "SELECT count(*) AS n FROM gold_crypto_trades"
    bodies = [{"statement": statement, "as_of": str(first)}, {"statement": statement}]
    assert [api.post("/v1/sql", json=body).json()["data"] for body in bodies] == [[{"n": 30}], [{"n": 31}]]


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE gold_crypto_trades",
        "CREATE TABLE x AS SELECT 1",
        "INSERT INTO gold_crypto_trades VALUES (1)",
        "COPY (SELECT 1) TO '/tmp/stolen.csv'",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM read_parquet('https://example.com/x.parquet')",
        "ATTACH '/tmp/x.db'",
        "INSTALL httpfs",
        "SET memory_limit = '100GB'",
        "PRAGMA database_list",
        "SELECT 1; SELECT 2",
        "SELECT getenv('HOME')",
        "SELECT content FROM read_text('/etc/passwd')",
        "",
        "not sql",
    ],
)
def test_anything_but_reading_tables_is_rejected(api: TestClient, append: Append, statement: str) -> None:
    append(ROWS)
    answer = api.post("/v1/sql", json={"statement": statement})
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")


@pytest.mark.parametrize(
    "statement",
    [
        "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT max(n) FROM t",
        "SELECT count(*) FROM range(1000000) a, range(1000000) b WHERE a.range * b.range % 7 = 3",
    ],
)
def test_an_endless_statement_is_interrupted(serve: Serve, append: Append, statement: str) -> None:
    append(ROWS)
    api = serve(query_timeout=4.0, max_queries=1)
    began = time.monotonic()
    answer = api.post("/v1/sql", json={"statement": statement})
    assert (answer.status_code, "the query took longer than 4 s" in answer.json()["detail"]) == (413, True)
    assert time.monotonic() - began < 60
    assert api.post("/v1/sql", json={"statement": "SELECT 1 AS one"}).json()["data"] == [{"one": 1}]


def test_json_says_whether_rows_were_truncated(api: TestClient, append: Append) -> None:
    append(ROWS)
    body = {"statement": "SELECT trade_id FROM gold_crypto_trades", "limit": 10}
    limited = api.post("/v1/sql", json=body).json()
    assert (len(limited["data"]), limited["truncated"]) == (10, True)
    whole = api.post("/v1/sql", json=body | {"limit": 30}).json()
    assert (len(whole["data"]), whole["truncated"]) == (30, False)


def test_more_rows_than_allowed_are_an_error_and_never_truncated_silently(serve: Serve, append: Append) -> None:
    append(ROWS)
    api = serve(max_sql_rows=20)
    body = {"statement": "SELECT trade_id FROM gold_crypto_trades"}
    assert api.post("/v1/sql", json=body, headers=ARROW).status_code == 413
    response = api.post("/v1/sql", json=body | {"limit": 20}, headers=ARROW)
    assert pa.ipc.open_stream(response.content).read_all().num_rows == 20
    assert api.post("/v1/sql", json=body | {"limit": 21}, headers=ARROW).status_code == 400


def test_duplicate_column_names_are_rejected_in_json_only(api: TestClient, append: Append) -> None:
    append(ROWS)
    body = {"statement": "SELECT 1 AS a, 2 AS a"}
    assert api.post("/v1/sql", json=body).status_code in {200, 400}
    assert api.post("/v1/sql", json=body, headers={"Accept": "text/csv"}).status_code == 200


@pytest.mark.parametrize(
    ("memory", "statements", "share"), [("1GB", 2, 5e8), ("300MiB", 3, 104857600), ("64 MB", 1, 64e6)]
)
def test_statements_share_the_memory_limit(memory: str, statements: int, share: float) -> None:
    limits = ApiSettings.read(memory=memory, max_statements=statements).sql_limits
    assert limits.memory == pytest.approx(share, rel=0.001)


def test_a_statement_over_the_memory_limit_gets_413(serve: Serve, append: Append) -> None:
    append(ROWS)
    api = serve(memory="20MB")
    statement = "SELECT count(DISTINCT a.range::VARCHAR || b.range::VARCHAR) FROM range(2000) a, range(2000) b"
    answer = api.post("/v1/sql", json={"statement": statement})
    assert (answer.status_code, "memory" in answer.json()["detail"]) == (413, True)
    assert api.post("/v1/sql", json={"statement": "SELECT 1 AS one"}).status_code == 200


def test_a_table_of_another_format_is_a_problem_with_its_sentence(
    api: TestClient, append: Append, layout: Layout
) -> None:
    append([trade(1)])
    stamp(layout, 1)
    for answer in (
        api.post("/v1/sql", json={"statement": "SELECT count(*) FROM gold_crypto_trades"}),
        api.get("/v1/trades"),
        api.get("/v1/symbols"),
    ):
        assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
        assert answer.json()["detail"].startswith("the table gold_crypto_trades has format 1, and this version of K2")


@pytest.mark.parametrize("value", ["MAP {MAP {1: 2}: 3}", "[TIMESTAMP '290000-01-01']"])
@pytest.mark.parametrize("media", ["application/json", "text/csv"])
def test_a_value_without_a_text_form_is_named(api: TestClient, append: Append, value: str, media: str) -> None:
    append(ROWS)
    answer = api.post("/v1/sql", json={"statement": f"SELECT {value} AS v"}, headers={"Accept": media})
    assert (answer.status_code, "cast it to VARCHAR" in answer.text) == (400, True)
    assert api.post("/v1/sql", json={"statement": f"SELECT {value} AS v"}, headers=ARROW).status_code == 200


def test_an_error_says_where_it_is(api: TestClient, append: Append) -> None:
    append(ROWS)
    statement = "SELECT 'é' AS a,\n  symbl FROM gold_crypto_trades"
    problem = api.post("/v1/sql", json={"statement": statement}).json()
    assert problem["detail"] == 'line 2, column 3: there is no column "symbl"; did you mean symbol?'
    assert (problem["line"], problem["column"]) == (2, 3)
    assert problem["excerpt"] == "  symbl FROM gold_crypto_trades\n  ^"
