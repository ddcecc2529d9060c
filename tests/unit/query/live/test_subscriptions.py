"""A subscriber's ids: a client that resumes from the last event misses nothing."""

import asyncio
import time
from typing import TYPE_CHECKING, Any, cast

import pytest

from k2.query.kafka.records import TopicPartition, ValidatedRecord
from k2.query.kafka.row_types import row_type
from k2.query.live.resume import Cursor
from k2.query.live.subscriptions import Dropped, Event, Heartbeat, Subscription
from k2.schemas.channels import TRADES
from tests.unit.query.books import BOOKS, Book, validated

if TYPE_CHECKING:
    from collections.abc import Mapping

    from k2.query.live.subscriptions import Stream

PARTITION: TopicPartition = ("k2.market.crypto.trades.binance", 0)
NEVER = 60.0


class FakeBroadcaster:
    """A broadcaster that has read what the test says."""

    def __init__(self) -> None:
        self.positions: Mapping[TopicPartition, int] = {PARTITION: 0}
        self.subscription = Subscription(cast("Stream", self), TRADES, frozenset({"BTCUSDT"}), None, 10, None)

    def unsubscribe(self, _: Subscription) -> None:
        """Do nothing."""

    def reads(self, *offsets: int, symbol: str = "BTCUSDT") -> None:
        """Change positions and offer records in one step, as the broadcaster does."""
        self.positions = {PARTITION: offsets[-1] + 1}
        self.subscription.offer([valid_record(offset, symbol) for offset in offsets])


def valid_record(offset: int, symbol: str) -> ValidatedRecord:
    row = row_type(TRADES)(
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
    return ValidatedRecord(PARTITION, offset, 0, row)


def resumed(event: Any) -> int:
    return Cursor.decode(event.id, TRADES).offsets.get(PARTITION, 0)


def test_a_subscriber_dropped_while_sending_resumes_after_the_sent_event() -> None:
    async def main() -> None:
        broadcaster = FakeBroadcaster()
        events = broadcaster.subscription.events(NEVER)
        broadcaster.reads(0, 1, 2)
        first = await anext(events)
        broadcaster.reads(*range(3, 30))
        dropped = await asyncio.wait_for(anext(events), 5)
        assert isinstance(first, Event)
        assert isinstance(dropped, Dropped)
        assert (resumed(first), resumed(dropped)) == (1, 1)
        with pytest.raises(StopAsyncIteration):
            await anext(events)

    asyncio.run(main())


def test_a_trade_that_arrives_with_the_heartbeat_is_not_skipped() -> None:
    async def main() -> None:
        broadcaster = FakeBroadcaster()
        events = broadcaster.subscription.events(0.05)
        waiting = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0.01)
        asyncio.get_running_loop().call_later(0.05, broadcaster.reads, 0)
        time.sleep(0.1)  # noqa: ASYNC251 - blocks the loop until both are due in one step, the heartbeat first
        event = await waiting
        assert isinstance(event, Event)
        await events.aclose()

    asyncio.run(main())


def test_a_heartbeat_skips_records_that_do_not_match() -> None:
    async def main() -> None:
        broadcaster = FakeBroadcaster()
        events = broadcaster.subscription.events(0.01)
        broadcaster.reads(0, 1, 2, symbol="ETHUSDT")
        event = await anext(events)
        assert isinstance(event, Heartbeat)
        assert resumed(event) == 3
        await events.aclose()

    asyncio.run(main())


def test_a_record_of_any_channel_is_sent_once_by_its_channels_identity() -> None:
    async def main() -> list[tuple[str, int]]:
        broadcaster = FakeBroadcaster()
        subscription = Subscription(cast("Stream", broadcaster), BOOKS, frozenset({"BTCUSDT"}), "BINANCE", 10, None)
        books = [Book(1), Book(2), Book(1, "b"), Book(1, depth=9), Book(2, "b"), Book(3, symbol="ETHUSDT")]
        rows = enumerate(map(validated, books))
        subscription.offer([ValidatedRecord(PARTITION, offset, 0, row) for offset, row in rows])
        sent = []
        async for event in subscription.events(0.01):
            if isinstance(event, Heartbeat):
                break
            assert isinstance(event, Event)
            sent.append((event.row[2], event.row[3]))
        return sent

    assert asyncio.run(main()) == [("a", 1), ("a", 2), ("b", 1), ("b", 2)]
