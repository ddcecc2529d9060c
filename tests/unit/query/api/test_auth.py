"""Who is served, with what, and how often."""

import os
import stat
import time
from pathlib import Path

import pytest
import yaml
from starlette.testclient import TestClient

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


def test_a_key_is_kept_as_a_hash_and_told_once(file: Path) -> None:
    key = keys.add(file, "research", [Scope.READ])
    assert key.startswith("k2_")
    assert key not in file.read_text("utf-8")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    found = Keys(file).find(key)
    assert found is not None
    assert (found.name, found.scopes) == ("research", (Scope.READ,))
    assert Keys(file).find(key[:-1]) is None


def test_two_keys_have_two_names(file: Path) -> None:
    keys.add(file, "one", [Scope.READ])
    with pytest.raises(InvalidSpec, match="there is a key of this name"):
        keys.add(file, "one", [Scope.SQL])


@pytest.mark.parametrize(
    "text", ["keys: 1", "keys: [{name: x}]", "[]", "keys: [{name: x, hash: plain, scopes: [read]}]", "key: []", "\0"]
)
def test_a_file_that_holds_no_keys_is_refused(file: Path, text: str) -> None:
    file.write_text(text, "utf-8")
    with pytest.raises(InvalidSpec):
        Keys(file)


def test_scopes_say_what_a_key_may(serve: Serve, append: Append, file: Path) -> None:
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


def test_a_key_that_is_taken_out_of_the_file_is_refused_at_once(serve: Serve, append: Append, file: Path) -> None:
    append([trade(1)])
    key = keys.add(file, "one", [Scope.READ])
    api = serve(keys=file)
    assert api.get("/v1/trades", headers=bearer(key)).status_code == 200
    file.write_text(yaml.safe_dump({"keys": []}), "utf-8")
    os.utime(file, (time.time() + 5, time.time() + 5))
    assert api.get("/v1/trades", headers=bearer(key)).status_code == 401
    file.write_text("nonsense", "utf-8")
    assert api.get("/v1/trades", headers=bearer(key)).status_code == 503


def test_a_rate_is_of_a_key_and_says_when_to_come_back(serve: Serve, append: Append, file: Path) -> None:
    append([trade(1)])
    slow, fast = keys.add(file, "slow", [Scope.READ], "2/minute"), keys.add(file, "fast", [Scope.READ])
    api = serve(keys=file)
    found = [api.get("/v1/trades", headers=bearer(slow)) for _ in range(3)]
    assert [answer.status_code for answer in found] == [200, 200, 429]
    assert found[0].headers["ratelimit-policy"] == '"default";q=2;w=60'
    assert found[0].headers["ratelimit"].startswith('"default";r=1;')
    assert 1 <= int(found[2].headers["retry-after"]) <= 60
    assert api.get("/v1/trades", headers=bearer(fast)).status_code == 200


def test_guessing_keys_is_slow(serve: Serve, append: Append, file: Path) -> None:
    append([trade(1)])
    keys.add(file, "one", [Scope.READ])
    api = serve(keys=file, rate_refused="3/minute")
    assert [api.get("/v1/trades", headers=bearer(f"k2_{n}")).status_code for n in range(5)] == [401] * 3 + [429] * 2


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "example.com", ""])
def test_without_keys_only_this_machine_is_served_unless_told_otherwise(host: str, file: Path) -> None:
    with pytest.raises(InvalidSpec, match="K2_API_KEYS"):
        ApiSettings.read(host=host)
    assert ApiSettings.read(host=host, open=True).open
    keys.add(file, "one", [Scope.READ])
    assert ApiSettings.read(host=host, keys=file).keys == file


@pytest.mark.parametrize(
    ("host", "status"),
    [("localhost:8000", 200), ("127.0.0.1", 200), ("[::1]:80", 200), ("evil.example", 403), ("localhost.evil:80", 403)],
)
def test_a_page_that_calls_this_machine_by_its_own_name_reads_nothing(
    api: TestClient, append: Append, host: str, status: int
) -> None:
    append([trade(1)])
    assert api.get("/v1/trades", headers={"Host": host}).status_code == status


def test_only_listed_origins_may_read(serve: Serve, append: Append) -> None:
    append([trade(1)])
    api = serve(cors="https://desk.example, https://other.example")
    kind = {
        origin: api.get("/v1/trades", headers={"Origin": origin}) for origin in ("https://desk.example", "https://x")
    }
    assert [answer.headers.get("access-control-allow-origin") for answer in kind.values()] == [
        "https://desk.example",
        None,
    ]
    assert "access-control-allow-origin" not in serve().get("/v1/trades", headers={"Origin": "https://x"}).headers


@pytest.mark.parametrize(
    ("name", "value"), [("rate", "many"), ("port", 70000), ("queries", 0), ("memory", ""), ("body_bytes", 1)]
)
def test_settings_that_cannot_be_are_told_by_their_variable(name: str, value: object) -> None:
    with pytest.raises(InvalidSpec, match=f"K2_API_{name.upper()}"):
        ApiSettings.read(**{name: value})
