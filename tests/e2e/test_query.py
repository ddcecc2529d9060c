"""The HTTP API in the cluster: who may ask, what it answers, and that Prometheus sees it."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

from tests.e2e.harness import BINANCE, KRAKEN, eventually

pytestmark = pytest.mark.e2e

MARKETS = {"binance": BINANCE, "kraken": KRAKEN}
BEHIND = 20.0  # seconds in which a trade comes from the exchange to Kafka, on a machine that is busy


@pytest.fixture
def api(cluster) -> Iterator[httpx2.Client]:
    """The API, without a key."""
    with cluster.port_forward("svc/k2-query", 8000) as address, httpx2.Client(base_url=f"http://{address}") as client:
        client.timeout = httpx2.Timeout(60)
        yield client


@pytest.fixture
def key(cluster) -> dict[str, str]:
    """The header with the key that the chart made."""
    return {"Authorization": f"Bearer {cluster.secret('k2-query-keys')['key']}"}


def ids(api: httpx2.Client, key: dict[str, str], **query: Any) -> list[str]:
    """The numbers of the trades that are answered, page by page."""
    answer = api.get("/v1/trades", params=query | {"limit": 10_000}, headers=key)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["data"]
    while following := answer.json().get("next"):
        answer = api.get(following, headers=key)
        assert answer.status_code == 200, answer.text
        found += answer.json()["data"]
    return [row["trade_id"] for row in found]


def test_it_is_ready(api):
    eventually("the API is ready", lambda: api.get("/readyz").status_code == 200, timeout=120)


def test_nobody_is_answered_without_a_key(api, key):
    for path in ("/v1/trades?symbol=BTCUSDT", "/v1/feeds", "/v1/stream?symbols=BTCUSDT"):
        answer = api.get(path)
        assert answer.status_code == 401, path
        assert answer.headers["content-type"] == "application/problem+json"
        assert "WWW-Authenticate" in answer.headers
    assert api.get("/v1/feeds", headers={"X-Api-Key": "k2_guessed"}).status_code == 401
    assert api.get("/v1/feeds", headers=key).status_code == 200
    assert (
        api.post("/v1/sql", json={"statement": "SELECT 1"}, headers=key).status_code == 403
    )  # the key may read, not that


@pytest.mark.parametrize("exchange", MARKETS)
def test_the_last_minutes_hold_what_was_emitted_up_to_seconds_ago(cluster, api, key, exchange):
    before = cluster.emitted(exchange)
    began = datetime.now(UTC)
    for native, symbol in MARKETS[exchange].items():
        query = {"symbol": symbol, "exchange": exchange}
        gold = set(ids(api, key, **query, start="2009-01-03T00:00:00Z"))
        lacking = {"": ""}

        def complete(query=query, native=native, gold=gold, lacking=lacking) -> bool:
            start = (began - timedelta(minutes=10)).isoformat()
            recent = ids(api, key, **query, start=start, hybrid="true")
            assert len(recent) == len(set(recent)), "a trade is there twice"
            assert set(recent) <= cluster.emitted(exchange)[native], "a trade is there that never was"
            lacking.clear()
            lacking.update(dict.fromkeys(before[native] - gold - set(recent)))
            return not lacking

        eventually(f"{symbol} up to {began}, which lacks {len(lacking)}", complete, timeout=BEHIND, interval=1)


def test_hybrid_is_ahead_of_gold(api, key):
    query = {"symbol": "BTCUSDT", "exchange": "binance", "window_minutes": 5}

    def ahead() -> bool:
        gold = set(ids(api, key, **query))
        return bool(set(ids(api, key, **query, hybrid="true")) - gold)

    eventually("trades of Kafka that Gold has not yet", ahead, timeout=60, interval=1)


def test_trades_are_streamed_as_they_come(api, key):
    seen = []
    with api.stream("GET", "/v1/stream?symbols=BTCUSDT&exchange=binance", headers=key, timeout=60) as answer:
        assert answer.status_code == 200
        for line in answer.iter_lines():
            seen += [line] if line.startswith("event: trade") else []
            if len(seen) == 3:
                break
    assert len(seen) == 3


def test_the_console_is_served_and_may_ask_this_server_only(api):
    page = api.get("/console/")
    assert page.status_code == 200
    assert "connect-src 'self'" in page.headers["content-security-policy"]
    assert "Lightweight Charts" in api.get("/console/lightweight-charts.js").text[:200]


def test_prometheus_scrapes_it(cluster):
    pods = cluster.pod_uids("app.kubernetes.io/component=query")
    assert pods

    def up() -> bool:
        found = cluster.prometheus('up{namespace="k2", service="k2-query"}')
        return {row["metric"]["pod"] for row in found if row["value"][1] == "1"} == set(pods)

    eventually("Prometheus scrapes the API", up, timeout=120, interval=3)
