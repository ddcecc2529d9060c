"""`/v1/stream` over real sockets with a real broker: each trade once, resumable, and no client can harm the others."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import islice
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from httpx2 import Client
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from k2.query.api import errors
from k2.query.api.auth import AccessControl
from k2.query.api.routes import stream
from k2.query.api.settings import ApiSettings
from k2.query.live.broadcaster import Broadcaster
from k2.query.live.resume import Cursor
from k2.schemas import topics
from k2.schemas.channels import TRADES
from tests.spark.builders import consecutive, trade
from tests.system.harness import eventually
from tests.system.lab import TOPIC, Lab

pytestmark = pytest.mark.system

LONG = (("source", "live"), ("filler", "x" * 4_000))  # so that no buffer between server and client holds it all


class Server:
    """The stream's routes behind uvicorn on a local port."""

    def __init__(self, lab: Lab, **options: Any) -> None:
        self.lab = lab
        self.hub: Broadcaster | None = None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

        @asynccontextmanager
        async def lifespan(app: FastAPI) -> AsyncIterator[None]:
            self.hub = Broadcaster(lab.platform, TRADES, **options)
            app.state.broadcasters = {TRADES: self.hub}
            yield
            await self.hub.close()

        app = FastAPI(lifespan=lifespan, exception_handlers=errors.HANDLERS)
        app.state.access, app.state.settings = AccessControl(ApiSettings()), ApiSettings()
        app.include_router(stream.router())
        self.server = uvicorn.Server(uvicorn.Config(app, port=self.port, log_level="error"))

    def events(self, last: str = "", **query: str) -> "Events":
        return Events(f"http://127.0.0.1:{self.port}/v1/stream", query, {"Last-Event-ID": last} if last else {})

    def socket(self, query: str = "", **options: Any):
        return connect(f"ws://127.0.0.1:{self.port}/v1/stream{query}", **options)

    @property
    def subscribers(self) -> int:
        assert self.hub is not None
        return self.hub.subscribers


class Events:
    """Server-sent events, read as a browser reads them."""

    def __init__(self, url: str, query: dict[str, str], headers: dict[str, str]) -> None:
        self.client = Client(timeout=20)
        self._context = self.client.stream("GET", url, params=query, headers=headers)

    def __enter__(self) -> "Events":
        self.answer = self._context.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._context.__exit__(None, None, None)
        self.client.close()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        event: dict[str, Any] = {}
        for line in self.answer.iter_lines():
            name, _, value = line.partition(": ")
            if name in {"event", "id", "data"}:
                event[name] = json.loads(value) if name == "data" else value
            elif not line:
                if "data" in event:  # an id alone is stored, but is no event
                    yield event
                event = {}

    def take(self, count: int) -> list[dict[str, Any]]:
        return list(islice(self, count))


@contextmanager
def serving(lab: Lab, **options: Any) -> Iterator[Server]:
    server = Server(lab, **options)
    thread = threading.Thread(target=lambda: asyncio.run(server.server.serve()))
    thread.start()
    try:
        eventually("the server listens", lambda: server.server.started, within=30)
        yield server
    finally:
        server.server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


@pytest.fixture
def served(lab: Lab) -> Iterator[Server]:
    with serving(lab) as server:
        yield server


def ids(events: list[dict[str, Any]]) -> list[int]:
    return [int(event["data"]["trade_id"]) for event in events]


def counted(first: int, last: int) -> list[int]:
    return list(range(first, last + 1))


def test_new_trades_are_streamed_with_exact_numbers(lab: Lab, served: Server):
    lab.send(trade(1))
    with served.events() as events:
        lab.send(trade(2, price=1, vendor_data=(("source", "live"),)), trade(3))
        first, second = events.take(2)
    assert ids([first, second]) == [2, 3]
    assert first["event"] == "trade"
    assert first["data"]["price"] == "0.000000000001"
    assert first["data"]["timestamp"] == "2026-03-02T10:00:02.000000Z"
    assert first["data"]["vendor_data"] == '{"source":"live"}'


def test_only_matching_trades_are_streamed(lab: Lab, served: Server):
    with (
        served.events(symbols="ethusdt, SOLUSDT") as events,
        served.socket("?exchange=binance&symbols=BTCUSDT") as other,
    ):
        lab.send(trade(1), trade(2, symbol="ETHUSDT", base_asset="ETH"), trade(3, price=-1), trade(4))
        lab.send(trade(5, symbol="SOLUSDT", base_asset="SOL"), partition=1)
        assert sorted(ids(events.take(2))) == [2, 5]
        assert ids([json.loads(other.recv(10)) for _ in range(2)]) == [1, 4]


def test_a_duplicate_trade_is_sent_once(lab: Lab, served: Server):
    with served.events() as events:
        lab.send(*consecutive(1, 3), *consecutive(2, 3), trade(4))
        assert ids(events.take(4)) == [1, 2, 3, 4]


def test_a_client_resumes_where_it_stopped(lab: Lab, served: Server):
    """No duplicates and no omissions, while the connection ends repeatedly and trades are produced."""

    def market() -> None:
        for number in range(1, 1_200, 4):
            lab.send(*consecutive(number, number + 1), partition=0)
            lab.send(*consecutive(number + 2, number + 3), partition=1)
            lab.send(trade(number), partition=1)  # a duplicate of a redundant connection

    with served.events() as events:
        running = threading.Thread(target=market)
        running.start()
        sent = events.take(7)
    kinds = 0
    while len(sent) < 1_200:
        kinds += 1
        last, more = sent[-1]["id"], min(150, 1_200 - len(sent))
        if kinds % 2:
            with served.events(last=last) as events:
                sent += events.take(more)
        else:
            with served.socket(f"?cursor={last}") as other:
                messages = [json.loads(other.recv(20)) for _ in range(more)]
                sent += [event for event in messages if event["event"] == "trade"]
    running.join()
    assert sorted(ids(sent)) == counted(1, 1_200)


def test_a_duplicate_in_another_partition_is_not_sent_after_resuming(lab: Lab, served: Server):
    """Kafka returns one partition after the other; a client that resumes within one is sent no duplicates of it."""
    with served.events() as events:
        lab.send(trade(1))
        sent = events.take(1)
    lab.send(*consecutive(2, 3_000))
    lab.send(*consecutive(2, 6_000), partition=1)  # duplicates of a redundant connection, and more
    while len(sent) < 6_000:
        with served.events(last=sent[-1]["id"]) as events:
            sent += events.take(min(1_500, 6_000 - len(sent)))
    assert ids(sent) == counted(1, 6_000)


def test_an_id_holds_across_a_restart_of_the_server(lab: Lab):
    with serving(lab) as before, before.events() as events:
        lab.send(*consecutive(1, 3))
        last = events.take(2)[-1]["id"]
    lab.send(*consecutive(4, 6), partition=1)
    with serving(lab) as after, after.events(last=last) as events:
        assert sorted(ids(events.take(4))) == [3, 4, 5, 6]


@pytest.mark.parametrize("cursor", ["x", "....", "kwEAgA==" * 50, "", "AAAA"])
def test_an_invalid_id_is_rejected(lab: Lab, served: Server, cursor: str):
    with served.events(cursor=cursor) as events:
        if not cursor:
            assert events.answer.status_code == 200
            return
        assert events.answer.status_code == 400
        assert events.answer.headers["content-type"] == "application/problem+json"
        assert "leave it out" in json.loads(events.answer.read())["detail"]


def test_an_id_before_kafkas_first_offset_returns_410(lab: Lab, served: Server):
    from confluent_kafka import TopicPartition

    with served.events() as events:
        lab.send(*consecutive(1, 9))
        first = events.take(1)[0]["id"]
    place = TopicPartition(TOPIC, 0, 5)
    lab.admin.delete_records([place])[place].result(30)
    with served.events(last=first) as events:
        assert events.answer.status_code == 410


def test_a_slow_client_is_dropped_with_the_reason_and_an_id_to_resume(lab: Lab, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stream, "SEND_TIMEOUT", 300.0)
    with serving(lab, queue=500) as served, served.events() as slow, served.events() as quick:
        sent: list[dict[str, Any]] = []
        reading = threading.Thread(target=lambda: [sent.append(event) for event in islice(quick, 6_000)])
        reading.start()
        for start in range(1, 6_001, 250):
            lab.send(*consecutive(start, start + 249, vendor_data=LONG))
            eventually("the quick client has read", lambda begin=start: len(sent) >= begin - 1, within=60, every=0.01)
        reading.join(60)
        assert ids(sent) == counted(1, 6_000)
        messages = list(slow)
        eventually("both are gone", lambda: served.subscribers == 0, within=30)
        assert messages[-1]["event"] == "dropped"
        assert "were not read" in messages[-1]["data"]["reason"]
        received = ids(messages[:-1])
        assert received == counted(1, len(received))
        with served.events(last=messages[-1]["id"]) as again:
            left = min(100, 6_000 - len(received))
            assert left
            assert ids(again.take(left)) == counted(len(received) + 1, len(received) + left)


def test_a_client_that_reads_nothing_is_disconnected(lab: Lab, served: Server, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stream, "SEND_TIMEOUT", 0.5)
    with served.events():
        lab.send(*consecutive(1, 4_500, vendor_data=LONG))
        eventually("it is disconnected", lambda: served.subscribers == 0, within=60)


def test_a_client_that_disconnects_is_removed(lab: Lab, served: Server):
    for _ in range(5):
        with served.events(), served.socket():
            eventually("both are served", lambda: served.subscribers == 2, within=10)
        eventually("no subscriber is left", lambda: served.subscribers == 0, within=10)


def test_the_number_of_subscribers_is_limited(lab: Lab):
    with serving(lab, subscribers=2) as served, served.events(), served.socket():
        with served.events() as third:
            assert third.answer.status_code == 429
            assert third.answer.headers["retry-after"]
        with served.socket() as third, pytest.raises(ConnectionClosed) as closed:
            third.recv(10)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1013


@pytest.mark.parametrize("query", ["?symbols=BTC--USD", "?exchange=nowhere", "?cursor=x", "?symbol=BTCUSDT"])
def test_an_invalid_query_is_rejected_with_its_reason(lab: Lab, served: Server, query: str):
    answer = Client().get(f"http://127.0.0.1:{served.port}/v1/stream{query}")
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")
    with served.socket(query) as other, pytest.raises(ConnectionClosed) as closed:
        other.recv(10)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1008


def test_another_origin_cannot_open_a_websocket(lab: Lab, served: Server):
    with served.socket(origin="http://elsewhere.example") as other, pytest.raises(ConnectionClosed):
        other.recv(10)
    with served.socket(origin=f"http://127.0.0.1:{served.port}") as own:
        eventually("it is served", lambda: served.subscribers == 1, within=10)
        lab.send(trade(1))
        assert ids([json.loads(own.recv(10))]) == [1]


def test_heartbeats_are_sent_while_no_trades_match(lab: Lab, served: Server, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stream, "HEARTBEAT", 0.2)
    with served.socket("?symbols=ETHUSDT") as other, served.events(symbols="ETHUSDT") as events:
        lines = list(islice(events.answer.iter_lines(), 2))
        assert lines[0] == ": heartbeat"
        assert lines[1].startswith("id: ")
        lab.send(*consecutive(1, 50))

        def read() -> dict[str, Any] | None:
            message: dict[str, Any] = json.loads(other.recv(5))
            return message if sum(Cursor.decode(message["id"], TRADES).offsets.values()) == 50 else None

        heartbeat = eventually("records that do not match were read", read, 10)
        assert heartbeat["event"] == "heartbeat"
    lab.send(trade(51, symbol="ETHUSDT", base_asset="ETH"))
    with served.events(last=heartbeat["id"]) as events:
        assert ids(events.take(1)) == [51]


def test_without_kafka_there_is_no_stream(lab: Lab):
    lab.platform = lab.platform.model_copy(update={"kafka_bootstrap": "127.0.0.1:1"})
    with serving(lab) as served:
        answer = Client(timeout=30).get(f"http://127.0.0.1:{served.port}/v1/stream")
        assert (answer.status_code, "127.0.0.1:1" in answer.json()["detail"]) == (503, True)
        assert answer.headers["retry-after"]


def test_a_topic_created_later_is_streamed_too(lab: Lab, served: Server):
    topic = topics.trades("kraken")
    with served.events() as events:
        began = time.monotonic()
        lab.create(topic)
        lab.send(trade(1, exchange="kraken"), topic=topic)
        assert ids(events.take(1)) == [1]
        assert time.monotonic() - began < 20
