"""API keys, scopes, rate limits and settings."""

import os
import stat
import time
from pathlib import Path

import pytest
import yaml
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from k2.common.validation_errors import InvalidSpec
from k2.query.api import keys
from k2.query.api.keys import Keys, Scope
from k2.query.api.settings import ApiSettings
from tests.unit.query.api.conftest import Serve
from tests.unit.query.conftest import Append, trade


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.yaml"


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_a_key_is_stored_as_a_hash_only(file: Path) -> None:
    key = keys.add(file, "research", [Scope.READ])
    assert key.startswith("k2_")
    assert key not in file.read_text("utf-8")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    entry = Keys(file).find(key)
    assert entry is not None
    assert (entry.name, entry.scopes) == ("research", (Scope.READ,))
    assert Keys(file).find(key[:-1]) is None


def test_key_names_are_unique(file: Path) -> None:
    keys.add(file, "one", [Scope.READ])
    with pytest.raises(InvalidSpec, match="a key of this name exists"):
        keys.add(file, "one", [Scope.SQL])


@pytest.mark.parametrize(
    "text", ["keys: 1", "keys: [{name: x}]", "[]", "keys: [{name: x, hash: plain, scopes: [read]}]", "key: []", "\0"]
)
def test_an_invalid_key_file_is_rejected(file: Path, text: str) -> None:
    file.write_text(text, "utf-8")
    with pytest.raises(InvalidSpec):
        Keys(file)


def test_a_key_without_the_scope_gets_403(serve: Serve, append: Append, file: Path) -> None:
    append([trade(1)])
    reader, both = keys.add(file, "reader", [Scope.READ]), keys.add(file, "both", [Scope.READ, Scope.SQL])
    api = serve(keys=file)
    body = {"statement": "SELECT 1 AS one"}
    assert api.get("/v1/trades").status_code == 401
    assert api.get("/v1/trades").headers["www-authenticate"] == 'Bearer realm="k2"'
    assert api.get("/v1/trades", headers=bearer("k2_wrong")).status_code == 401
    assert api.get("/v1/trades", headers=bearer(reader)).status_code == 200
    assert api.get("/v1/trades", headers={"X-Api-Key": reader}).status_code == 200
    assert api.post("/v1/sql", json=body, headers=bearer(reader)).status_code == 403
    assert api.post("/v1/sql", json=body, headers=bearer(both)).status_code == 200
    assert api.get("/healthz").status_code == 200


def test_a_removed_key_is_rejected_at_once(serve: Serve, append: Append, file: Path) -> None:
    append([trade(1)])
    key = keys.add(file, "one", [Scope.READ])
    api = serve(keys=file)
    assert api.get("/v1/trades", headers=bearer(key)).status_code == 200
    file.write_text(yaml.safe_dump({"keys": []}), "utf-8")
    os.utime(file, (time.time() + 5, time.time() + 5))
    assert api.get("/v1/trades", headers=bearer(key)).status_code == 401
    file.write_text("not a list of keys", "utf-8")
    assert api.get("/v1/trades", headers=bearer(key)).status_code == 503


def test_the_rate_limit_is_per_key_and_says_when_to_retry(serve: Serve, append: Append, file: Path) -> None:
    append([trade(1)])
    slow, fast = keys.add(file, "slow", [Scope.READ], "2/minute"), keys.add(file, "fast", [Scope.READ])
    api = serve(keys=file)
    responses = [api.get("/v1/trades", headers=bearer(slow)) for _ in range(3)]
    assert [answer.status_code for answer in responses] == [200, 200, 429]
    assert responses[0].headers["ratelimit-policy"] == '"default";q=2;w=60'
    assert responses[0].headers["ratelimit"].startswith('"default";r=1;')
    assert 1 <= int(responses[2].headers["retry-after"]) <= 60
    assert api.get("/v1/trades", headers=bearer(fast)).status_code == 200


def test_attempts_with_unknown_keys_are_rate_limited(serve: Serve, append: Append, file: Path) -> None:
    append([trade(1)])
    keys.add(file, "one", [Scope.READ])
    api = serve(keys=file, rate_unauthorized="3/minute")
    assert [api.get("/v1/trades", headers=bearer(f"k2_{n}")).status_code for n in range(5)] == [401] * 3 + [429] * 2


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "example.com", ""])
def test_a_reachable_address_needs_keys_or_allow_anonymous(host: str, file: Path) -> None:
    with pytest.raises(InvalidSpec, match="K2_API_KEYS"):
        ApiSettings.read(host=host)
    assert ApiSettings.read(host=host, allow_anonymous=True).allow_anonymous
    keys.add(file, "one", [Scope.READ])
    assert ApiSettings.read(host=host, keys=file).keys == file


@pytest.mark.parametrize(
    ("host", "status"),
    [("localhost:8000", 200), ("127.0.0.1", 200), ("[::1]:80", 200), ("evil.example", 403), ("localhost.evil:80", 403)],
)
def test_a_foreign_host_header_is_rejected_on_every_path(
    api: TestClient, append: Append, host: str, status: int
) -> None:
    append([trade(1)])
    for path in ("/v1/trades", "/metrics", "/openapi.json", "/console/", "/healthz"):
        assert api.get(path, headers={"Host": host}).status_code == status, path


def test_a_foreign_host_header_gets_no_websocket(api: TestClient) -> None:
    with pytest.raises(WebSocketDisconnect), api.websocket_connect("/v1/stream", headers={"Host": "evil.example"}):
        pass


def test_with_keys_the_host_is_whatever_leads_to_the_server(serve: Serve, file: Path, append: Append) -> None:
    append([trade(1)])
    key = keys.add(file, "research", [Scope.READ])
    api = serve(keys=file)
    assert api.get("/v1/trades", headers={"Host": "k2.example.org", **bearer(key)}).status_code == 200
    assert api.get("/openapi.json", headers={"Host": "k2.example.org"}).status_code == 200


def test_only_configured_origins_get_cors_headers(serve: Serve, append: Append) -> None:
    append([trade(1)])
    api = serve(cors="https://desk.example, https://other.example")
    responses = {
        origin: api.get("/v1/trades", headers={"Origin": origin}) for origin in ("https://desk.example", "https://x")
    }
    assert [answer.headers.get("access-control-allow-origin") for answer in responses.values()] == [
        "https://desk.example",
        None,
    ]
    assert "access-control-allow-origin" not in serve().get("/v1/trades", headers={"Origin": "https://x"}).headers


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("trusted_proxies", "a-proxy"),
        ("trusted_proxies", "*"),
        ("rate", "many"),
        ("port", 70000),
        ("max_queries", 0),
        ("memory", ""),
        ("max_body_bytes", 1),
    ],
)
def test_an_invalid_setting_is_reported_by_its_variable(name: str, value: object) -> None:
    with pytest.raises(InvalidSpec, match=f"K2_API_{name.upper()}"):
        ApiSettings.read(**{name: value})


@pytest.mark.parametrize(
    ("variable", "nearest"),
    [
        ("K2_API_MAX_QUERY", "K2_API_MAX_QUERIES"),
        ("K2_API_PORTS", "K2_API_PORT"),
        ("K2_API_MEMMORY", "K2_API_MEMORY"),
    ],
)
def test_an_unknown_variable_is_rejected_with_the_nearest_name(
    monkeypatch: pytest.MonkeyPatch, variable: str, nearest: str
) -> None:
    monkeypatch.setenv(variable, "1")
    with pytest.raises(InvalidSpec) as raised:
        ApiSettings.read()
    assert str(raised.value) == f"{variable}: unknown environment variable; did you mean {nearest}?"


def test_an_unknown_variable_without_a_similar_name_is_rejected_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("K2_API_SPARK", "1")
    with pytest.raises(InvalidSpec, match=r"^K2_API_SPARK: unknown environment variable; see docs/"):
        ApiSettings.read()


def test_the_variables_that_kubernetes_adds_for_a_service_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    links = {"PORT": "tcp://10.0.0.1:8000", "PORT_8000_TCP_ADDR": "10.0.0.1", "SERVICE_PORT_HTTP": "8000"}
    for name, value in links.items():
        monkeypatch.setenv(f"K2_API_{name}", value)
    assert ApiSettings.read().port == 8000
