"""A stream of books begins with each connection's state: applied in order, its events give the exchange's book."""

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from random import Random
from typing import Any

import pytest

from k2.query.book.reader import BookState
from k2.query.book.reconstruction import BookMessage, newest_states
from k2.query.kafka.row_types import row_type
from k2.query.live import opening, record_json
from k2.query.live.subscriptions import Dropped, Event, Heartbeat
from k2.schemas.channels import BOOK
from k2.schemas.values import scaled, to_micros
from tests.unit.query.book.exchange import STEP, Exchange
from tests.unit.query.conftest import NOON

PAGE = (Path(__file__).parents[4] / "docs" / "how-to" / "stream.md").read_text("utf-8")
Sent = list[Event | Heartbeat | Dropped]


def row(message: BookMessage, symbol: str = "BTCUSDT") -> Any:
    """Return a message as it is read from Kafka."""
    levels = {
        side: [{"price": price, "quantity": quantity} for price, quantity in getattr(message, side)]
        for side in ("bids", "asks")
    }
    names = ("part", "parts", "first_id", "last_id", "previous_id", "price_exponent", "quantity_exponent")
    plain = {name: getattr(message, name) for name in (*names, "connection", "ordinal")}
    at = to_micros(message.time)
    return row_type(BOOK)(
        symbol=symbol, exchange="BINANCE", timestamp=at, ingestion_timestamp=at, kind=message.kind.value,
        verdict=message.verdict.value, clock_offset_ms=None, **plain, **levels,
    )  # fmt: skip


def opened(states: list[BookState], messages: list[BookMessage]) -> Sent:
    async def events() -> AsyncGenerator[Event | Heartbeat | Dropped]:
        for message in messages:
            yield Event(row(message), f"id-{message.connection}-{message.ordinal}")
        yield Dropped("the end", "last")

    async def collect() -> Sent:
        async with aclosing(opening.from_states(states, events(), "first")) as stream:
            return [event async for event in stream]

    return asyncio.run(collect())


def states_of(messages: list[BookMessage]) -> list[BookState]:
    newest = newest_states(messages)
    return [BookState("BINANCE", "BTCUSDT", name, ordinal, book) for name, (ordinal, book) in newest.items()]


def levels(rows: list[Any]) -> tuple[Any, Any]:
    """Apply rows as a client does: a snapshot replaces, a quantity of 0 deletes."""
    sides: dict[str, dict[int, int]] = {"bids": {}, "asks": {}}
    for each in rows:
        prices, quantities = 10 ** (each.price_exponent + 12), 10 ** (each.quantity_exponent + 12)
        for name, side in sides.items():
            if each.kind == "snapshot" and each.part == 1:
                side.clear()
            for level in getattr(each, name):
                side[level["price"] * prices] = level["quantity"] * quantities
                if not level["quantity"]:
                    del side[level["price"] * prices]
    return tuple(sorted(sides["bids"].items(), reverse=True)), tuple(sorted(sides["asks"].items()))


@pytest.mark.parametrize("seed", range(20))
def test_the_events_of_a_connection_give_the_exchange_s_book(seed: int):
    exchange = Exchange(Random(seed), 30)
    messages = list(exchange.rows("a", {0, 17}, ()))
    read = Random(seed).randint(2, len(messages))  # what the states include; the stream repeats some of it
    sent = opened(states_of(messages[:read]), messages[Random(seed + 1).randint(0, read) :])
    rows = [event.row for event in sent if isinstance(event, Event)]
    assert levels(rows) == exchange.truth(NOON + 30 * STEP)
    ordinals = [each.ordinal for each in rows]
    assert ordinals == sorted({read, *range(read, len(messages) + 1)})
    assert isinstance(sent[-1], Dropped)


def test_deltas_of_a_connection_without_a_state_wait_for_its_snapshot():
    messages = list(Exchange(Random(3), 10).rows("a", {6}, (), parts=3))
    rows = [event.row for event in opened([], messages) if isinstance(event, Event)]
    assert [(each.kind, each.part) for each in rows[:4]] == [*(("snapshot", part) for part in (1, 2, 3)), ("delta", 1)]
    assert len(rows) == 3 + 4


def test_a_large_state_comes_in_parts_that_are_resumed_after_the_subscription(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(opening, "_MOST_LEVELS", 3)
    exchange = Exchange(Random(5), 3)
    sent = opened(states_of(list(exchange.rows("a", {0}, ()))), [])
    rows = [event.row for event in sent if isinstance(event, Event)]
    assert all(len(each.bids) + len(each.asks) <= 3 for each in rows)
    assert [(each.part, each.parts) for each in rows] == [(number, len(rows)) for number in range(1, len(rows) + 1)]
    assert levels(rows) == exchange.truth(NOON + 3 * STEP)
    assert {event.id for event in sent if isinstance(event, Event)} == {"first"}


def test_a_connection_that_has_ended_has_no_state():
    exchange = Exchange(Random(6), 700)
    ended = list(exchange.rows("a", {0}, ()))[:200]
    assert [state.connection for state in states_of([*ended, *exchange.rows("b", {0}, ())])] == ["b"]
    assert {state.connection for state in states_of([*ended[:60], *list(exchange.rows("b", {0}, ()))[:120]])} == {
        "a",
        "b",
    }


def test_the_code_of_the_page_keeps_the_exchange_s_book():
    (code,) = [
        block for block in re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE) if "apply" in block
    ]
    page: dict[str, Any] = {}
    exec(compile(code, "stream.md", "exec"), page)
    exchange = Exchange(Random(9), 20)
    messages = list(exchange.rows("a", {0, 11}, ()))
    sent = [event.row for event in opened(states_of(messages[:9]), messages[4:]) if isinstance(event, Event)]
    for rows, changes in ((sent[:1], 7), (map(row, messages[4:8]), 7), (sent[1:], 20)):  # resumed after the snapshot
        for each in rows:
            page["apply"](record_json.fields(BOOK, each))
        book = page["books"]["BINANCE", "BTCUSDT", "a"]
        bids, asks = (
            tuple(sorted((scaled(price), scaled(quantity)) for price, quantity in book[side].items()))
            for side in ("bids", "asks")
        )
        assert (bids[::-1], asks) == exchange.truth(NOON + changes * STEP)
