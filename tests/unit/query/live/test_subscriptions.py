"""A subscriber's ids: whatever happens between two events, who resumes from the last one misses nothing."""

import asyncio
import time
from typing import TYPE_CHECKING, Any, cast

import pytest

from k2.query.kafka.kafka_reader import Judged, Place
from k2.query.kafka.validation import Row
from k2.query.live.resume import Cursor
from k2.query.live.subscriptions import Dropped, Event, Silence, Subscription

if TYPE_CHECKING:
    from collections.abc import Mapping

    from k2.query.live.broadcaster import Hub

PLACE: Place = ("k2.market.crypto.trades.binance", 0)
NEVER = 60.0


class Offering:
    """A hub that has read what the test says it has."""

    def __init__(self) -> None:
        self.positions: Mapping[Place, int] = {PLACE: 0}
        self.subscription = Subscription(cast("Hub", self), frozenset({"BTCUSDT"}), None, 10, None)

    def leave(self, _: Subscription) -> None:
        """Nobody counts."""

    def reads(self, *offsets: int, symbol: str = "BTCUSDT") -> None:
        """As the hub does: where it stands and what it offers change in one step."""
        self.positions = {PLACE: offsets[-1] + 1}
        self.subscription.offer([judged(offset, symbol) for offset in offsets])


def judged(offset: int, symbol: str) -> Judged:
    row = Row(
        f"binance:{symbol}:{offset}",
        str(offset),
        symbol,
        "binance",
        symbol[:3],
        "USDT",
        0,
        10**8,
        10**8,
        "BUY",
        0,
        "{}",
    )
    return Judged(PLACE, offset, 0, row)


def resumed(event: Any) -> int:
    return Cursor.read(event.id).offsets.get(PLACE, 0)


def test_who_is_dropped_while_an_event_is_sent_resumes_after_that_event() -> None:
    async def main() -> None:
        hub = Offering()
        events = hub.subscription.events(NEVER)
        hub.reads(0, 1, 2)
        first = await anext(events)
        hub.reads(*range(3, 30))
        dropped = await asyncio.wait_for(anext(events), 5)
        assert isinstance(first, Event)
        assert isinstance(dropped, Dropped)
        assert (resumed(first), resumed(dropped)) == (1, 1)
        with pytest.raises(StopAsyncIteration):
            await anext(events)

    asyncio.run(main())


def test_a_trade_that_comes_as_silence_is_told_is_not_passed_over() -> None:
    async def main() -> None:
        hub = Offering()
        events = hub.subscription.events(0.05)
        waiting = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0.01)
        asyncio.get_running_loop().call_later(0.05, hub.reads, 0)
        time.sleep(0.1)  # noqa: ASYNC251 - the loop is held up until both are due in one step, silence first
        told = await waiting
        assert isinstance(told, Event)
        await events.aclose()

    asyncio.run(main())


def test_silence_passes_over_what_is_not_wanted() -> None:
    async def main() -> None:
        hub = Offering()
        events = hub.subscription.events(0.01)
        hub.reads(0, 1, 2, symbol="ETHUSDT")
        told = await anext(events)
        assert isinstance(told, Silence)
        assert resumed(told) == 3
        await events.aclose()

    asyncio.run(main())
