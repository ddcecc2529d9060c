"""Pages over HTTP: they are complete, do not shift, and cursors cannot be forged."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from starlette.testclient import TestClient

from tests.unit.query.api.conftest import Serve
from tests.unit.query.conftest import NOON, Append, trade

START = "2026-01-31T12:00:00Z"
ROWS = [trade(number, number // 3) for number in range(1, 10)] + [trade(5, 1, exchange="KRAKEN")]


def walk(api: TestClient, url: str) -> list[list[dict[str, Any]]]:
    pages = []
    while url:
        answer = api.get(url)
        assert answer.status_code == 200, answer.text
        pages.append(answer.json()["data"])
        assert (answer.headers.get("link") is None) == (answer.json()["next"] is None)
        url = answer.json()["next"]
    return pages


@pytest.mark.parametrize("size", [1, 4, 10, 11])
def test_following_next_returns_every_trade_once_in_order(api: TestClient, append: Append, size: int) -> None:
    append(ROWS)
    whole = api.get(f"/v1/trades?start={START}&limit=100").json()["data"]
    assert len(whole) == 10
    pages = walk(api, f"/v1/trades?start={START}&limit={size}")
    assert [row for page in pages for row in page] == whole
    assert [len(page) for page in pages[:-1]] == [size] * (len(pages) - 1)
    backwards = walk(api, f"/v1/trades?limit={size}")
    assert [row for page in reversed(backwards) for row in page] == whole


def test_pages_do_not_shift_while_gold_grows(api: TestClient, append: Append) -> None:
    append(ROWS)
    first = api.get(f"/v1/trades?start={START}&limit=4").json()
    append([trade(100, 0.5), trade(101, 2)])
    rest = walk(api, first["next"])
    assert [row["trade_id"] for row in first["data"]] + [row["trade_id"] for page in rest for row in page] == [
        row["trade_id"] for row in api.get(f"/v1/trades?start={START}&as_of={first['snapshot_id']}").json()["data"]
    ]
    assert len(api.get(f"/v1/trades?start={START}").json()["data"]) == 12


def test_all_pages_use_the_window_of_the_first(api: TestClient, append: Append) -> None:
    append(ROWS)
    minutes = 60 * 24 * 365 * 50
    pages = walk(api, f"/v1/trades?window_minutes={minutes}&limit=3")
    assert sum(map(len, pages)) == 10


def test_a_cursor_is_valid_for_one_query_only(api: TestClient, append: Append) -> None:
    append(ROWS)
    url = api.get(f"/v1/trades?start={START}&limit=2").json()["next"]
    for other in (url.replace("start=", "end=2030-01-01T00%3A00%3A00Z&start="), url + "&symbol=BTCUSDT"):
        answer = api.get(other)
        assert (answer.status_code, "the cursor" in answer.json()["detail"]) == (400, True)
    assert api.get(url.replace("limit=2", "limit=5")).status_code == 200


def test_a_cursor_signed_with_another_secret_is_rejected(serve: Serve, append: Append) -> None:
    append(ROWS)
    url = serve(secret="one").get(f"/v1/trades?start={START}&limit=2").json()["next"]
    assert serve(secret="one").get(url).status_code == 200
    assert serve(secret="two").get(url).status_code == 400


@pytest.fixture
def cursor(api: TestClient, append: Append) -> str:
    append(ROWS)
    url = api.get(f"/v1/trades?start={START}&limit=2").json()["next"]
    return str(url.partition("cursor=")[2])


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(place=some.integers(0, 10_000), char=some.characters(codec="utf-8"), junk=some.text(max_size=40))
def test_a_changed_cursor_gets_400(api: TestClient, cursor: str, place: int, char: str, junk: str) -> None:
    place %= len(cursor)
    changed = cursor[:place] + char + cursor[place + 1 :]
    for forged in {changed, junk, cursor[:place], cursor + junk} - {cursor, ""}:
        answer = api.get("/v1/trades", params={"start": START, "limit": 2, "cursor": forged})
        assert answer.status_code == 400, forged
        assert answer.headers["content-type"] == "application/problem+json"


def test_a_cursor_of_an_expired_snapshot_gets_410(api: TestClient, append: Append, layout: Any) -> None:
    from contextlib import closing

    from k2.query.iceberg import catalog, tables
    from k2.schemas.tables import GOLD_TABLE

    first = append(ROWS)
    url = api.get(f"/v1/trades?start={START}&limit=2").json()["next"]
    append([trade(100, 0.5)])
    with closing(catalog.connect(layout.platform())) as opened:
        opened.load_table(tables.identifier(GOLD_TABLE)).maintenance.expire_snapshots().by_id(first).commit()
    assert api.get(url).status_code == 410


def test_pages_respect_filters(api: TestClient, append: Append) -> None:
    append(ROWS)
    end = (NOON + timedelta(seconds=2)).isoformat().replace("+00:00", "Z")
    pages = walk(api, f"/v1/trades?start={START}&end={end}&limit=2&symbol=btcusdt&exchange=binance")
    assert [row["trade_id"] for page in pages for row in page] == [str(number) for number in range(1, 6)]
