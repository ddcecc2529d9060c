"""Every invalid request gets one RFC 9457 sentence that reveals nothing of the server."""

from typing import Any
from urllib.parse import quote

import pytest
from starlette.testclient import TestClient

from k2.cli.embedded.layout import Layout
from tests.unit.query.api.conftest import Serve
from tests.unit.query.conftest import Append, trade

ROWS = [trade(1), trade(2, 1)]
TRADES = "/v1/trades"


def problem(answer: Any, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == status
    assert "Traceback" not in answer.text
    assert "\n" not in body["detail"]
    return str(body["detail"])


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("limit=0", "limit"),
        ("limit=-1", "limit"),
        ("limit=1000000000", "at most 10000"),
        ("limit=1e9", "limit"),
        ("limit=x", "limit"),
        ("start=2026-01-31T13:00:00Z&end=2026-01-31T12:00:00Z", "swap them"),
        ("start=2026-01-31", "start: "),
        ("end=yesterday", "end: "),
        ("start=2026-01-31T12:00:00Z&window_minutes=5", "window"),
        ("window_minutes=0", "window_minutes"),
        ("window_minutes=nan", "window_minutes"),
        ("window_minutes=inf", "window_minutes"),
        ("exchange=nasdaq", "is not an exchange"),
        ("symbl=BTCUSDT", '"symbl" is not a known parameter; did you mean symbol?'),
        ("window=5", '"window" is not a known parameter; did you mean window_minutes?'),
        ("zzz=1", '"zzz" is not a known parameter; see /openapi.json'),
        ("start=2026-01-31T14:00:00+02:00", "has lost its +; in a URL write %2B: 2026-01-31T14:00:00%2B02:00"),
        ("as_of=2026-01-31T14:00:00+02:00", "has lost its +"),
        ("as_of=tomorrow", "has no tag"),
        ("as_of=2026-01-31", "is not a time"),
        ("as_of=123", "nothing as of"),
        ("cursor=", "cursor"),
        ("cursor=AAAA", "the cursor"),
        ("hybrid=perhaps", "hybrid"),
        ("symbol=NOSUCH", "no trade of"),
        ("symbol=BTCUSTD", 'no trade of "BTCUSTD" is stored; did you mean BTCUSDT?'),
        ("symbol=BTC", '"BTC" is an asset and not a symbol; choose BTCUSDT'),
    ],
)
def test_an_invalid_query_says_what_to_change(api: TestClient, append: Append, query: str, says: str) -> None:
    append(ROWS)
    assert says in problem(api.get(f"{TRADES}?{query}"), 400)


INJECTIONS = [
    "' OR 1=1--",
    "'; DROP TABLE trades;--",
    "../../etc/passwd",
    "\0",
    "%00",
    "${jndi:x}",
    '"',
    "\\",
    "\u00df" * 50,
]
PARAMETERS = ["symbol", "exchange", "start", "end", "window_minutes", "limit", "cursor", "as_of", "hybrid"]


@pytest.mark.parametrize("name", PARAMETERS)
@pytest.mark.parametrize("text", INJECTIONS)
def test_an_injection_is_rejected_in_every_parameter(api: TestClient, append: Append, name: str, text: str) -> None:
    append(ROWS)
    problem(api.get(f"{TRADES}?{name}={quote(text)}"), 400)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/ohlcv?symbol={}",
        "/v1/ohlcv?symbol=BTCUSDT&interval={}",
        "/v1/ohlcv?symbol=BTCUSDT&bars={}",
        "/v1/ohlcv?symbol=BTCUSDT&tz={}",
        "/v1/ohlcv?symbol=BTCUSDT&fill={}",
        "/v1/price?symbol={}",
        "/v1/price?at={}",
        "/v1/completeness?exchange={}",
        "/v1/instruments?at={}",
        "/v1/gaps?state={}",
        "/v1/snapshots?table={}",
        "/v1/dead-letters/x/{}/1",
    ],
)
def test_an_injection_is_rejected_by_every_route(api: TestClient, append: Append, path: str) -> None:
    append(ROWS)
    for text in INJECTIONS:
        answer = api.get(path.format(quote(text, safe="")))
        assert answer.status_code in {400, 404}, (text, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"


def test_unknown_routes_and_methods_are_problems_too(api: TestClient) -> None:
    problem(api.get("/v2/trades"), 404)
    assert problem(api.post(TRADES), 405)
    assert api.post(TRADES).headers["allow"] == "GET"


def test_a_range_of_decades_works(api: TestClient, append: Append) -> None:
    append(ROWS)
    assert len(api.get(f"{TRADES}?start=2016-01-01T00:00:00Z&end=2036-01-01T00:00:00Z").json()["data"]) == 2


def test_without_a_catalog_the_response_is_503_and_not_empty(serve: Serve, layout: Layout) -> None:
    api = serve()
    for path in (TRADES, "/v1/symbols", "/v1/feeds", "/v1/ohlcv?symbol=BTCUSDT", "/readyz"):
        answer = api.get(path)
        assert problem(answer, 503)
        assert answer.headers["retry-after"]
    assert api.get("/healthz").status_code == 200


def test_a_server_started_before_the_catalog_recovers(api: TestClient, request: Any) -> None:
    problem(api.get("/readyz"), 503)
    request.getfixturevalue("append")(ROWS)
    assert api.get("/readyz").status_code == 200
    assert len(api.get(TRADES).json()["data"]) == 2


@pytest.mark.parametrize("accept", ["application/json", "application/vnd.apache.arrow.stream"])
def test_missing_data_files_are_an_error_and_not_skipped(
    api: TestClient, append: Append, layout: Layout, accept: str
) -> None:
    append(ROWS)
    append([trade(3, 2)])
    victim, *_ = sorted((layout.root / "warehouse").rglob("*.parquet"))
    victim.unlink()
    answer = api.get(TRADES, headers={"Accept": accept})
    assert problem(answer, 503)
    assert answer.headers["retry-after"]


def test_a_broken_catalog_is_503(api: TestClient, append: Append, layout: Layout) -> None:
    append(ROWS)
    assert api.get(TRADES).status_code == 200
    layout.catalog.write_bytes(b"no database at all" * 100)
    problem(api.get(TRADES), 503)


def test_a_body_that_is_too_large_or_compressed_is_rejected(serve: Serve, append: Append) -> None:
    append(ROWS)
    api = serve(max_body_bytes=2048)
    problem(api.post("/v1/sql", json={"statement": "SELECT 1" + " " * 3000}), 413)
    problem(api.post("/v1/sql", content=iter([b" " * 1500] * 2)), 413)
    problem(api.post("/v1/sql", content=b"\x1f\x8b", headers={"Content-Encoding": "gzip"}), 415)
    problem(api.post("/v1/sql", content=b"{", headers={"Content-Type": "application/json"}), 400)
