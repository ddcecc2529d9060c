"""One result in four formats, without loss in any of them."""

import csv
import io
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from starlette.testclient import TestClient

from k2.query.api.delivery import responses
from tests.unit.query.api.conftest import Serve
from tests.unit.query.conftest import Append, trade

ARROW, PARQUET, CSV = "application/vnd.apache.arrow.stream", "application/vnd.apache.parquet", "text/csv"
ROWS = [trade(1, 0.000001, price=Decimal("0.000000000001")), trade(2, 1, vendor_data='{"a": "b, \\"c\\""}')]


def table(content: bytes, accept: str) -> pa.Table:
    return pa.ipc.open_stream(content).read_all() if accept == ARROW else pq.read_table(io.BytesIO(content))


def test_decimals_and_times_are_exact_in_json(api: TestClient, append: Append) -> None:
    append(ROWS)
    first, second = api.get("/v1/trades").json()["data"]
    assert (first["price"], second["price"]) == ("0.000000000001", "100")
    assert first["timestamp"] == "2026-01-31T12:00:00.000001Z"
    assert second["vendor_data"] == '{"a": "b, \\"c\\""}'


def test_csv_has_plain_numbers_and_minimal_quotes(api: TestClient, append: Append) -> None:
    append(ROWS)
    answer = api.get("/v1/trades", headers={"Accept": CSV})
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["price"] for row in rows] == ["0.000000000001", "100"]
    assert rows[1]["vendor_data"] == '{"a": "b, \\"c\\""}'
    assert ",0.000000000001," in answer.text


@pytest.mark.parametrize("accept", [ARROW, PARQUET])
@pytest.mark.parametrize("query", ["", "?limit=1", "?limit=50000", "?start=2026-01-31T12:00:00Z&limit=1"])
def test_binary_formats_preserve_types(api: TestClient, append: Append, accept: str, query: str) -> None:
    append(ROWS)
    result = table(api.get(f"/v1/trades{query}", headers={"Accept": accept}).content, accept)
    assert result.num_rows == (1 if query.endswith("limit=1") else 2)
    assert result.schema.field("price").type == pa.decimal128(38, 12)
    assert result.schema.field("timestamp").type == pa.timestamp("us", "UTC")


def test_an_arrow_stream_has_an_end_marker(api: TestClient, append: Append) -> None:
    append(ROWS)
    assert api.get("/v1/trades", headers={"Accept": ARROW}).content.endswith(b"\xff\xff\xff\xff\0\0\0\0")


@pytest.mark.parametrize("accept", [ARROW, PARQUET, CSV])
def test_an_empty_result_is_valid_in_every_format(api: TestClient, append: Append, accept: str) -> None:
    append(ROWS)
    answer = api.get("/v1/trades?start=2030-01-01T00:00:00Z&limit=5", headers={"Accept": accept})
    assert answer.status_code == 200
    if accept == CSV:
        assert len(answer.text.splitlines()) == 1
    else:
        assert table(answer.content, accept).num_rows == 0


@pytest.mark.parametrize("accept", [ARROW, PARQUET, CSV])
@pytest.mark.parametrize("limit", ["_BUFFER_BYTES", "_FLUSH_SECONDS"])
def test_a_long_result_is_streamed_and_a_short_one_has_a_content_length(
    api: TestClient, append: Append, monkeypatch: pytest.MonkeyPatch, accept: str, limit: str
) -> None:
    append([trade(number, number / 100) for number in range(2500)])
    headers = {"Accept": accept, "Accept-Encoding": "identity"}
    monkeypatch.setattr(responses, "_FLUSH_SECONDS", 60)
    short = api.get("/v1/trades", headers=headers)
    assert int(short.headers["content-length"]) == len(short.content)
    monkeypatch.setattr(responses, limit, 0)
    with api.stream("GET", "/v1/trades", headers=headers) as long:
        assert "content-length" not in long.headers
        content = b"".join(long.iter_bytes())
    if accept == CSV:
        assert content == short.content
        assert content.count(b"\n") == 2501
    else:
        assert table(content, accept).equals(table(short.content, accept))
        assert table(content, accept).column("trade_id").to_pylist() == [str(number) for number in range(2500)]


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("side::ENUM('SELL', 'BUY', 'NONE')", ["BUY", "BUY"]),
        ("[side::ENUM('SELL', 'BUY', 'NONE')]", [["BUY"], ["BUY"]]),
        ("{a: side::ENUM('SELL', 'BUY', 'NONE')}", [{"a": "BUY"}] * 2),
    ],
)
def test_an_enum_keeps_its_values_in_arrow(api: TestClient, append: Append, column: str, values: list[Any]) -> None:
    append(ROWS)
    statement = f"SELECT {column} AS chosen FROM gold_crypto_trades"
    answer = api.post("/v1/sql", json={"statement": statement}, headers={"Accept": ARROW})
    assert table(answer.content, ARROW).column("chosen").to_pylist() == values


@pytest.mark.parametrize(
    ("accept", "status", "content_type"),
    [
        ("*/*", 200, "application/json"),
        ("text/*", 200, "text/csv; charset=utf-8"),
        ("text/html, application/json;q=0.1", 200, "application/json"),
        (f"{CSV};q=0.2, {ARROW};q=0.9", 200, ARROW),
        ("text/html", 406, "application/problem+json"),
        ("application/json;q=0", 406, "application/problem+json"),
        ("application/json;q=x, text/csv", 200, "text/csv; charset=utf-8"),
    ],
)
def test_accept_selects_the_format(
    api: TestClient, append: Append, accept: str, status: int, content_type: str
) -> None:
    append(ROWS)
    answer = api.get("/v1/trades", headers={"Accept": accept})
    assert (answer.status_code, answer.headers["content-type"]) == (status, content_type)


def test_json_is_compressed_for_clients_that_accept_gzip(api: TestClient, append: Append) -> None:
    append(ROWS)
    packed = api.get("/v1/trades", headers={"Accept-Encoding": "gzip"})
    plain = api.get("/v1/trades", headers={"Accept-Encoding": "gzip;q=0"})
    assert (packed.headers.get("content-encoding"), plain.headers.get("content-encoding")) == ("gzip", None)
    assert packed.json() == plain.json()
    assert packed.headers["etag"] != plain.headers["etag"]
    arrow = api.get("/v1/trades", headers={"Accept": ARROW, "Accept-Encoding": "gzip"})
    assert "content-encoding" not in arrow.headers


def test_an_unchanged_result_gets_304(api: TestClient, append: Append) -> None:
    append(ROWS)
    url = "/v1/trades?start=2026-01-31T12:00:00Z&end=2026-01-31T13:00:00Z"
    tag = api.get(url).headers["etag"]
    again = api.get(url, headers={"If-None-Match": f'"other", W/{tag}'})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    append([trade(3, 2)])
    assert api.get(url, headers={"If-None-Match": tag}).status_code == 200


def test_only_results_that_cannot_change_are_immutable(api: TestClient, append: Append) -> None:
    snapshot = append(ROWS)
    immutable = {
        url: "immutable" in api.get(url).headers["cache-control"]
        for url in (
            "/v1/trades?end=2026-01-31T13:00:00Z",
            f"/v1/trades?as_of={snapshot}",
            f"/v1/trades?as_of={snapshot}&window_minutes=60",
            f"/v1/ohlcv?symbol=BTCUSDT&as_of={snapshot}",
            "/v1/ohlcv?symbol=BTCUSDT",
        )
    }
    assert list(immutable.values()) == [False, True, False, False, False]  # bars: the audit may still judge them


def test_responses_are_private_and_vary_by_key(serve: Serve, append: Append) -> None:
    append(ROWS)
    answer: Any = serve().get("/v1/trades")
    assert "private" in answer.headers["cache-control"]
    assert "Authorization" in answer.headers["vary"]
