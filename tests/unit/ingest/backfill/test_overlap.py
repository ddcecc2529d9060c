"""Which symbols are compared with the history, when, and what failures of it change."""

import asyncio
from collections import Counter
from types import SimpleNamespace

import pytest

from k2.ingest.backfill import overlap
from k2.ingest.backfill.overlap import OverlapCheck
from k2.ingest.backfill.rest import RestUnreachable
from k2.ingest.exchanges import rest_answers
from k2.ingest.exchanges.bybit import Bybit
from k2.ingest.sequencing.reconnect_windows import ReconnectWindowTracker
from k2.schemas.exchanges.spec import Pair

ETH = Pair("ETHUSDT", "ETHUSDT", "ETH", "USDT")


class History:
    """A REST client that notes what is requested, and has no trades."""

    answers = rest_answers("bybit")

    def __init__(self):
        self.requested, self.fails = [], False

    async def fetch_once(self, request, read):
        self.requested.append(request.params["symbol"])
        if self.fails:
            raise RestUnreachable("no answer")
        return read(b'{"retCode":0,"retMsg":"OK","result":{"list":[]}}')


@pytest.fixture
async def checked(pair, monkeypatch):
    monkeypatch.setattr(overlap, "_EVERY", 0.001)
    stats, history = SimpleNamespace(received=Counter(), errors=Counter()), History()
    pairs = {each.symbol: each for each in (pair, ETH)}
    check = OverlapCheck(Bybit([pair, ETH]), history, ReconnectWindowTracker(), SimpleNamespace(), stats, lambda: pairs)
    task = asyncio.create_task(check.run())
    yield SimpleNamespace(stats=stats, history=history, task=task)
    task.cancel()


async def test_a_symbol_is_compared_once_enough_is_new(checked, eventually):
    checked.stats.received["BTCUSDT"] = 19
    await asyncio.sleep(0.05)
    assert checked.history.requested == []
    checked.stats.received["BTCUSDT"] = 20
    await eventually(lambda: checked.history.requested == ["BTCUSDT"])
    await asyncio.sleep(0.05)
    assert checked.history.requested == ["BTCUSDT"]


async def test_the_busiest_symbol_comes_first_and_each_has_its_turn(checked, eventually):
    checked.stats.received.update(BTCUSDT=50, ETHUSDT=20)
    await eventually(lambda: len(checked.history.requested) == 2)
    assert checked.history.requested == ["BTCUSDT", "ETHUSDT"]


async def test_a_quiet_symbol_is_compared_some_time_after_its_newest_trade(checked, eventually, monkeypatch):
    monkeypatch.setattr(overlap, "_REST", 0.05)
    checked.stats.received["ETHUSDT"] = 1
    await eventually(lambda: checked.history.requested == ["ETHUSDT"])


async def test_a_history_that_does_not_answer_ends_nothing(checked, eventually):
    checked.history.fails = True
    checked.stats.received["BTCUSDT"] = 20
    await eventually(lambda: checked.history.requested)
    checked.history.fails = False
    checked.stats.received["BTCUSDT"] = 40
    await eventually(lambda: len(checked.history.requested) == 2)
    assert not checked.task.done()
