"""`/v1/quotes`: the same pages as `/v1/trades`, of the other channel."""

from starlette.testclient import TestClient

from k2.cli.embedded.layout import Layout
from tests.unit.query.api.conftest import Append
from tests.unit.query.quotes import quote, store


def test_pages_follow_each_other_at_one_snapshot(api: TestClient, append: Append, layout: Layout) -> None:
    snapshot = store(layout, [quote(number, number, timed=number != 3) for number in range(5)])
    query = {"symbol": "BTCUSDT", "start": "2026-01-31T12:00:00Z", "limit": "2"}
    page = api.get("/v1/quotes", params=query).json()
    assert page["snapshot_id"] == str(snapshot)
    store(layout, [quote(9, 1.5)])
    rows = page["data"]
    while page["next"]:
        page = api.get(page["next"]).json()
        rows += page["data"]
    assert [row["ordinal"] for row in rows] == [0, 1, 2, 3, 4]
    assert [row["bid_price"] for row in rows[:2]] == ["100", "100.01"]
    assert (rows[3]["timestamp"], rows[3]["bid_quantity"]) == (None, "0.015")


def test_csv_has_all_rows_and_a_cursor_of_trades_is_refused(api: TestClient, append: Append, layout: Layout) -> None:
    store(layout, [quote(number, number) for number in range(3)])
    text = api.get("/v1/quotes", headers={"Accept": "text/csv"}).text
    assert [line.split(",")[4] for line in text.splitlines()] == ["bid_price", "100", "100.01", "100.02"]
    cursor = api.get("/v1/quotes", params={"limit": "1"}).json()["next"].partition("cursor=")[2]
    assert api.get("/v1/trades", params={"cursor": cursor}).status_code == 400
