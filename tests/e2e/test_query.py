"""The HTTP API in the cluster: API keys, responses, and metrics."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

from tests.e2e.harness import BINANCE, KRAKEN, eventually

pytestmark = pytest.mark.e2e

MARKETS = {"binance": BINANCE, "kraken": KRAKEN}
BEHIND = 20.0  # seconds from the exchange to Kafka, on a busy machine


@pytest.fixture
def api(cluster) -> Iterator[httpx2.Client]:
    """Yield a client of the API, without a key."""
    with cluster.port_forward("svc/k2-query", 8000) as address, httpx2.Client(base_url=f"http://{address}") as client:
        client.timeout = httpx2.Timeout(60)
        yield client


@pytest.fixture
def key(cluster) -> dict[str, str]:
    """Return the header with the generated key."""
    return {"Authorization": f"Bearer {cluster.secret('k2-query-keys')['key']}"}


def ids(api: httpx2.Client, key: dict[str, str], **query: Any) -> list[str]:
    """Return the trade ids of all pages of a query."""
    response = api.get("/v1/trades", params=query | {"limit": 10_000}, headers=key)
    assert response.status_code == 200, response.text
    rows: list[dict[str, Any]] = response.json()["data"]
    while next_page := response.json().get("next"):
        response = api.get(next_page, headers=key)
        assert response.status_code == 200, response.text
        rows += response.json()["data"]
    return [row["trade_id"] for row in rows]


def test_the_api_is_ready(api):
    eventually("the API is ready", lambda: api.get("/readyz").status_code == 200, timeout=120)


def test_requests_without_a_key_are_rejected(api, key):
    for path in ("/v1/trades?symbol=BTCUSDT", "/v1/feeds", "/v1/stream?symbols=BTCUSDT"):
        response = api.get(path)
        assert response.status_code == 401, path
        assert response.headers["content-type"] == "application/problem+json"
        assert "WWW-Authenticate" in response.headers
    assert api.get("/v1/feeds", headers={"X-Api-Key": "k2_guessed"}).status_code == 401
    assert api.get("/v1/feeds", headers=key).status_code == 200
    assert (
        api.post("/v1/sql", json={"statement": "SELECT 1"}, headers=key).status_code == 403
    )  # the key has no scope for SQL


@pytest.mark.parametrize("exchange", MARKETS)
def test_hybrid_has_all_trades_up_to_a_few_seconds_ago(cluster, api, key, exchange):
    before = cluster.emitted(exchange)
    started_at = datetime.now(UTC)
    for native, symbol in MARKETS[exchange].items():
        query = {"symbol": symbol, "exchange": exchange}
        gold = set(ids(api, key, **query, start="2009-01-03T00:00:00Z"))
        missing = {"": ""}

        def complete(query=query, native=native, gold=gold, missing=missing) -> bool:
            start = (started_at - timedelta(minutes=10)).isoformat()
            recent = ids(api, key, **query, start=start, hybrid="true")
            assert len(recent) == len(set(recent)), "duplicate trades"
            assert set(recent) <= cluster.emitted(exchange)[native], "trades that were never emitted"
            missing.clear()
            missing.update(dict.fromkeys(before[native] - gold - set(recent)))
            return not missing

        eventually(
            f"{symbol} up to {started_at}, of which {len(missing)} are missing", complete, timeout=BEHIND, interval=1
        )


def test_hybrid_is_ahead_of_gold(api, key):
    query = {"symbol": "BTCUSDT", "exchange": "binance", "window_minutes": 5}

    def ahead() -> bool:
        gold = set(ids(api, key, **query))
        return bool(set(ids(api, key, **query, hybrid="true")) - gold)

    eventually("trades in Kafka that are not yet in Gold", ahead, timeout=60, interval=1)


def test_trades_are_streamed(api, key):
    events = []
    with api.stream("GET", "/v1/stream?symbols=BTCUSDT&exchange=binance", headers=key, timeout=60) as response:
        assert response.status_code == 200
        for line in response.iter_lines():
            events += [line] if line.startswith("event: trade") else []
            if len(events) == 3:
                break
    assert len(events) == 3


def test_the_console_is_served_with_a_restrictive_csp(api):
    page = api.get("/console/")
    assert page.status_code == 200
    assert "connect-src 'self'" in page.headers["content-security-policy"]
    assert "Lightweight Charts" in api.get("/console/lightweight-charts.js").text[:200]


def test_prometheus_scrapes_the_api(cluster):
    pods = cluster.pod_uids("app.kubernetes.io/component=query")
    assert pods

    def up() -> bool:
        targets = cluster.prometheus('up{namespace="k2", service="k2-query"}')
        return {row["metric"]["pod"] for row in targets if row["value"][1] == "1"} == set(pods)

    eventually("Prometheus scrapes the API", up, timeout=120, interval=3)
