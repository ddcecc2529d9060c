"""The live stream tells its subscribers why it has nothing for them."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from k2.common.platform import Platform
from k2.query.errors import WrongFormat
from k2.query.live import broadcaster
from k2.query.live.broadcaster import Broadcaster
from k2.query.live.subscriptions import Dropped
from k2.schemas.channels import TRADES

PARTITION = ("market.crypto.trades.binance", 0)
REASON = "the topic market.crypto.trades.binance has format 1"


def polled(_: float) -> list[Any]:
    raise WrongFormat(REASON)


class Kafka(SimpleNamespace):
    """A topic of one partition that holds records of another stored format."""

    def __init__(self, *_: Any) -> None:
        super().__init__(
            partitions=lambda _: {PARTITION: "BINANCE"},
            end_offsets=lambda partitions: dict.fromkeys(partitions, 0),
            reader=lambda _: SimpleNamespace(
                add=lambda *_: None, poll=polled, close=lambda: None, positions={PARTITION: 0}
            ),
        )


def test_a_topic_of_another_format_ends_a_subscription_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broadcaster, "RecordReader", Kafka)

    async def subscribe() -> Any:
        live = Broadcaster(Platform(), TRADES)
        subscription = await live.subscribe(frozenset(), None, None)
        try:
            async with asyncio.timeout(10):
                return await anext(subscription.events(heartbeat=60.0))
        finally:
            await live.close()

    event = asyncio.run(subscribe())
    assert isinstance(event, Dropped)
    assert event.reason == REASON
