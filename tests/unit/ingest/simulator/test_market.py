"""A market is its seed: prices, quantities, ids and bursts. The clock is given."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest

from k2.ingest.simulator.history import History
from k2.ingest.simulator.listings import pair_of
from k2.ingest.simulator.market import FIRST_ID, Market
from k2.ingest.simulator.sources import MarketSource
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.values import MAX_SCALED

BTC, ETH = (pair_of(EXCHANGES["binance"], raw_symbol) for raw_symbol in ("BTCUSDT", "ETHUSDT"))
OPENED = 1_700_000_000_000_000


def hour(seed: str = "1", rate: float = 30.0, pair=BTC) -> list:
    return list(Market(pair, seed, rate, OPENED).until(OPENED + 3600 * 10**6))


def test_the_same_seed_trades_the_same():
    assert hour("7") == hour("7")


def test_another_seed_or_symbol_trades_something_else():
    first = [(trade.price, trade.quantity) for trade in hour("7")[:100]]
    assert first != [(trade.price, trade.quantity) for trade in hour("8")[:100]]
    assert first != [(trade.price, trade.quantity) for trade in hour("7", pair=ETH)[:100]]


def test_how_often_the_market_is_asked_changes_nothing():
    market, trades = Market(BTC, "1", 30.0, OPENED), []
    for second in range(3601):
        trades += market.until(OPENED + second * 10**6)
    assert trades == hour()


def test_ids_are_consecutive_and_times_do_not_go_back():
    trades = hour()
    assert [trade.id for trade in trades] == list(range(FIRST_ID, FIRST_ID + len(trades)))
    assert all(before.time <= after.time for before, after in pairwise(trades))
    assert all(trade.time % 1000 == 0 for trade in trades)


def test_every_price_and_quantity_fits_a_trade():
    assert all(0 < trade.price <= MAX_SCALED and 0 < trade.quantity <= MAX_SCALED for trade in hour())


@pytest.mark.parametrize("rate", [5.0, 60.0])
def test_the_rate_is_what_was_asked_for_on_average(rate):
    trades = sum(len(hour(str(seed), rate)) for seed in range(3))
    assert trades == pytest.approx(3 * 3600 * rate, rel=0.25)


def test_now_and_then_hundreds_trade_within_one_millisecond():
    busiest = max(Counter(trade.time for trade in hour(rate=100.0)).values())
    assert 100 <= busiest <= 1500


def test_one_sweep_has_one_aggressor():
    sides: dict[int, set[bool]] = {}
    for trade in hour(rate=1.0):
        sides.setdefault(trade.time, set()).add(trade.buy)
    assert all(len(directions) == 1 for directions in sides.values())


def test_a_tape_ends_after_its_count():
    source = MarketSource([BTC, ETH], seed="1", rate=100, count=500)
    source.open(OPENED)
    trades = [trade for sweep, _ in source.until(OPENED + 3600 * 10**6) for trade in sweep]
    assert len(trades) == 500
    assert source.finished
    assert not list(source.until(OPENED + 7200 * 10**6))


def test_the_next_listing_begins_at_one_with_later_times_and_a_late_trade_takes_the_next_id():
    source = MarketSource([BTC], seed="1", rate=100)
    source.open(OPENED)
    before = [trade for sweep, _ in source.until(OPENED + 10**6) for trade in sweep]
    (late,) = source.late(OPENED - 7200 * 10**6)
    assert (late.id, late.time) == (before[-1].id + 1, OPENED - 7200 * 10**6)
    source.relist()
    after = [trade for sweep, _ in source.until(OPENED + 2 * 10**6) for trade in sweep]
    assert [trade.id for trade in after] == list(range(1, len(after) + 1))
    assert after[0].time > before[-1].time
    assert ({trade.listing for trade in before}, {trade.listing for trade in after}) == ({1}, {2})


def test_no_trade_of_a_listing_shares_its_time_with_one_of_the_listing_before():
    source = MarketSource([BTC], seed="1", rate=20_000)
    source.open(OPENED)
    newest = {}
    for step in range(1, 100):
        for sweep, _ in source.until(OPENED + step * 10_000 + 500):
            for trade in sweep:
                assert newest.get(trade.listing - 1, 0) < trade.time
                newest[trade.listing] = trade.time
        source.relist()
    assert len(newest) > 20


def test_history_answers_for_the_ids_of_the_newest_listing():
    history, trades = History(), hour()[:20]
    for trade in (*trades, *(replace(trade, id=number, listing=2) for number, trade in enumerate(trades))):
        history.add(trade)
    assert [trade.id for trade in history.from_id("BTCUSDT", 0, 5)] == [0, 1, 2, 3, 4]
    assert [trade.id for trade in history.before_id("BTCUSDT", 3, 5)] == [0, 1, 2]
    assert history.from_id("BTCUSDT", trades[0].id, 5) == []
    assert [trade.id for trade in history.newest("BTCUSDT", 22)][:3] == [trades[18].id, trades[19].id, 0]


def test_history_answers_by_id_and_by_time():
    history, trades = History(), hour()[:100]
    for trade in trades:
        history.add(trade)
    assert history.newest("BTCUSDT", 3) == trades[-3:]
    assert history.newest("BTCUSDT", 0) == []
    assert history.from_id("BTCUSDT", trades[10].id, 5) == trades[10:15]
    assert history.before_id("BTCUSDT", trades[10].id, 5) == trades[5:10]
    assert history.before_id("BTCUSDT", trades[2].id, 5) == trades[:2]
    later = history.after_time("BTCUSDT", trades[10].time, 1000)
    assert later == [trade for trade in trades if trade.time > trades[10].time]
    assert history.from_id("ETHUSDT", 1, 5) == []


def test_history_keeps_the_newest(monkeypatch):
    monkeypatch.setattr("k2.ingest.simulator.history.RETAINED_TRADES", 50)
    history, trades = History(), hour()[:100]
    for trade in trades:
        history.add(trade)
    retained = list(history.trades["BTCUSDT"])
    assert retained == trades[-len(retained) :]
    assert 50 <= len(retained) <= 55
