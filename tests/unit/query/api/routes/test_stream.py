"""The stream's channels: which there are, what each needs, and how a stream of books begins."""

import asyncio
import json
from collections.abc import AsyncGenerator, Iterator
from contextlib import suppress
from random import Random
from typing import Any

import pytest
from starlette.testclient import TestClient, WebSocketTestSession
from starlette.websockets import WebSocketDisconnect

from k2.cli.embedded.layout import Layout
from k2.query import arrow_schema
from k2.query.execution.hybrid import HybridView
from k2.query.kafka.records import ValidatedRecord
from k2.query.live.subscriptions import Dropped, Event, Heartbeat, Subscription
from k2.schemas.channels import BOOK
from k2.schemas.tables import GOLD_BOOK_TABLE
from tests.unit.query.book.exchange import Exchange
from tests.unit.query.book.test_reader import row as gold_row
from tests.unit.query.conftest import Append
from tests.unit.query.live.test_opening import row as kafka_row
from tests.unit.query.quotes import store

_PARTITION = ("market.crypto.book.binance", 0)
_STORED, _SENT = 12, 22  # ordinals: a snapshot in two parts, and 20 deltas
_LOCAL = {"Host": "localhost"}


class Ending(Subscription):
    """A subscription that ends once everything was sent."""

    async def events(self, _: float) -> AsyncGenerator[Event | Heartbeat | Dropped]:
        """Yield what is offered."""
        async for event in super().events(0.05):
            if isinstance(event, Heartbeat):
                return
            yield event


class Live:
    """A broadcaster whose subscribers are offered some records at once."""

    def __init__(self, records: list[ValidatedRecord]) -> None:
        self.positions = {_PARTITION: 0}
        self._records = records

    async def subscribe(self, symbols: frozenset[str], exchange: str | None, _: str | None) -> Subscription:
        live: Any = self
        subscription = Ending(live, BOOK, symbols, exchange, 1_000, None)
        asyncio.get_running_loop().call_soon(subscription.offer, self._records)
        return subscription

    def unsubscribe(self, _: Subscription) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing."""


@pytest.fixture
def books(layout: Layout, append: Append, api: TestClient, monkeypatch: pytest.MonkeyPatch) -> TestClient:
    """A server with the first messages of a connection in Gold, and all of them on the stream."""
    messages = list(Exchange(Random(4), 20).rows("a", {0}, ()))
    store(layout, [gold_row(each) for each in messages[:_STORED]], GOLD_BOOK_TABLE)
    empty = arrow_schema.records(BOOK).empty_table()
    monkeypatch.setattr(HybridView, "_tail_rows", lambda *_: empty)
    records = [ValidatedRecord(_PARTITION, at, 0, kafka_row(each)) for at, each in enumerate(messages)]
    api.app.state.broadcasters = {BOOK: Live(records)}  # type: ignore[attr-defined]
    return api


def messages(socket: WebSocketTestSession) -> Iterator[dict[str, Any]]:
    with suppress(WebSocketDisconnect):
        while True:
            yield socket.receive_json()


def events(text: str) -> list[dict[str, Any]]:
    blocks = [
        dict(line.split(": ", 1) for line in block.splitlines())
        for block in text.replace("\r", "").strip().split("\n\n")
    ]
    assert {block["event"] for block in blocks} == {"book"}
    return [json.loads(block["data"]) for block in blocks]


def test_a_stream_of_books_begins_with_the_state_and_goes_on_after_it(books: TestClient):
    snapshot, *deltas = events(books.get("/v1/stream?channel=book&symbols=btc/usdt").text)
    assert (snapshot["kind"], snapshot["ordinal"], snapshot["part"], snapshot["parts"]) == ("snapshot", _STORED, 1, 1)
    assert [(each["kind"], each["ordinal"]) for each in deltas] == [("delta", n) for n in range(_STORED + 1, _SENT + 1)]
    book = books.get("/v1/book?symbol=BTCUSDT").json()["data"][0]
    assert (snapshot["bids"], snapshot["asks"]) == (book["bids"], book["asks"])
    assert (snapshot["verdict"], snapshot["timestamp"]) == (book["verdict"], book["time"])


def test_a_websocket_carries_the_same_events(books: TestClient):
    url = "/v1/stream?channel=book&symbols=BTCUSDT"
    with books.websocket_connect(url, headers=_LOCAL) as socket:
        sent = list(messages(socket))
    assert {message["event"] for message in sent} == {"book"}
    assert [message["data"] for message in sent] == events(books.get(url).text)


def test_a_stream_that_resumes_has_no_state(books: TestClient):
    sent = events(books.get("/v1/stream?channel=book&symbols=BTCUSDT&cursor=any").text)
    assert [each["ordinal"] for each in sent] == list(range(1, _SENT + 1))


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("channel=depth", 'channel: "depth" is no channel; use one of trades, quotes, book'),
        ("channel=book", "symbols: a stream of books takes 1 to 10 symbols, not 0"),
        (f"channel=book&symbols={'A,' * 11}", "symbols: a stream of books takes 1 to 10 symbols, not 11"),
    ],
)
def test_a_channel_that_cannot_be_streamed_is_refused_with_a_reason(api: TestClient, query: str, reason: str):
    url = f"/v1/stream?{query}"
    answer = api.get(url)
    assert (answer.status_code, answer.json()["detail"]) == (400, reason)
    with api.websocket_connect(url, headers=_LOCAL) as socket, pytest.raises(WebSocketDisconnect) as closed:
        socket.receive_json()
    assert (closed.value.code, closed.value.reason) == (1008, reason)


def test_large_messages_fill_the_queue_of_a_client_sooner():
    live: Any = Live([])
    subscription = Subscription(live, BOOK, frozenset(), None, 10, None)
    (snapshot,) = list(Exchange(Random(4), 0).rows("a", {0}, (), parts=1))
    large = kafka_row(snapshot)._replace(bids=[{"price": 1, "quantity": 1}] * 500)
    records = [ValidatedRecord(_PARTITION, at, 0, large._replace(ordinal=at)) for at in range(2)]
    subscription.offer(records[:1])
    assert subscription.open
    subscription.offer(records[1:])
    assert not subscription.open
