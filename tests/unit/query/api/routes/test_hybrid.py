"""Hybrid results are answered like any other: in pages, in every format, as bars, and by the calls of the README."""

import csv
import io
import re
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from starlette.testclient import TestClient

from tests.unit.query.conftest import Append, trade
from tests.unit.query.kafka_tail import Publish, publish

__all__ = ["publish"]

START = "2026-01-31T12:00:00Z"
README = (Path(__file__).parents[5] / "README.md").read_text("utf-8")
CALLS = re.findall(r'^\$ curl "\$K2_URL([^"]*)"', README, re.MULTILINE)
IN_GOLD = [trade(number, number // 2) for number in range(1, 7)]
IN_KAFKA = [trade(number, number // 2) for number in range(5, 12)]  # two of them are in Gold too
EVERY_ID = [str(number) for number in range(1, 12)]


@pytest.fixture
def both(append: Append, publish: Publish) -> None:
    append(IN_GOLD)
    publish(IN_KAFKA)


def walk(api: TestClient, url: str) -> list[list[str]]:
    pages = []
    while url:
        answer = api.get(url)
        assert answer.status_code == 200, answer.text
        assert answer.headers["cache-control"] == "no-store"
        assert "k2-snapshot" not in answer.headers
        body = answer.json()
        assert (body["snapshot_id"], answer.headers.get("link") is None) == (None, body["next"] is None)
        pages.append([row["trade_id"] for row in body["data"]])
        url = body["next"]
    return pages


@pytest.mark.parametrize("size", [1, 2, 4, 11, 12])
@pytest.mark.usefixtures("both")
def test_pages_hold_every_trade_of_both_once_in_either_direction(api: TestClient, size: int) -> None:
    forward = walk(api, f"/v1/trades?hybrid=true&start={START}&limit={size}")
    assert [number for page in forward for number in page] == EVERY_ID
    assert [len(page) for page in forward[:-1]] == [size] * (len(forward) - 1)
    backward = walk(api, f"/v1/trades?hybrid=true&symbol=BTCUSDT&limit={size}")
    assert [number for page in reversed(backward) for number in page] == EVERY_ID


def test_a_commit_between_pages_neither_repeats_nor_skips_a_trade(
    api: TestClient, append: Append, publish: Publish
) -> None:
    append(IN_GOLD)
    publish(IN_KAFKA)
    url = f"/v1/trades?hybrid=true&start={START}&limit=3"
    first = api.get(url).json()
    append(IN_KAFKA[2:])
    assert [row["trade_id"] for row in first["data"]] + [
        number for page in walk(api, first["next"]) for number in page
    ] == EVERY_ID


@pytest.mark.usefixtures("both")
def test_a_cursor_of_a_hybrid_query_is_valid_for_it_alone(api: TestClient) -> None:
    url = api.get(f"/v1/trades?hybrid=true&start={START}&limit=2").json()["next"]
    assert api.get(url.replace("hybrid=true&", "")).status_code == 400
    answer = api.get("/v1/trades?hybrid=true&as_of=day-2026-01-31")
    assert (answer.status_code, "remove as_of" in answer.json()["detail"]) == (400, True)


@pytest.mark.parametrize("limit", [None, 3])
@pytest.mark.parametrize("place", [f"&start={START}", ""])
@pytest.mark.usefixtures("both")
def test_every_format_has_the_same_rows(api: TestClient, place: str, limit: int | None) -> None:
    url = f"/v1/trades?hybrid=true{place}" + (f"&limit={limit}" if limit else "")
    expected = EVERY_ID if limit is None else EVERY_ID[:3] if place else EVERY_ID[-3:]

    def content(accept: str) -> bytes:
        answer = api.get(url, headers={"Accept": accept})
        assert answer.status_code == 200, answer.text
        return bytes(answer.content)

    assert [row["trade_id"] for row in csv.DictReader(io.StringIO(content("text/csv").decode()))] == expected
    tables = (
        pa.ipc.open_stream(content("application/vnd.apache.arrow.stream")).read_all(),
        pq.read_table(pa.BufferReader(content("application/vnd.apache.parquet"))),
    )
    for table in tables:
        assert table.column("trade_id").to_pylist() == expected


@pytest.mark.usefixtures("both")
def test_bars_include_the_trades_of_kafka_in_every_format(api: TestClient) -> None:
    url = "/v1/ohlcv?symbol=BTCUSDT&interval=5s&hybrid=true"
    rows: list[dict[str, Any]] = api.get(url).json()["data"]
    assert [row["trade_count"] for row in rows] == [9, 2]
    arrow = pa.ipc.open_stream(api.get(url, headers={"Accept": "application/vnd.apache.arrow.stream"}).content)
    assert arrow.read_all().column("trade_count").to_pylist() == [9, 2]
    text = api.get(url, headers={"Accept": "text/csv"}).text
    assert [row["trade_count"] for row in csv.DictReader(io.StringIO(text))] == ["9", "2"]


@pytest.mark.parametrize("more", ["", "&limit=2"])
@pytest.mark.parametrize("call", [call for call in CALLS if "/v1/stream" not in call])
@pytest.mark.usefixtures("both")
def test_the_calls_of_the_readme_work_as_printed(running: Callable[..., str], call: str, more: str) -> None:
    assert "hybrid=true" in call  # which the README is to show
    with urllib.request.urlopen(running() + call + more) as response:
        assert response.status == 200
