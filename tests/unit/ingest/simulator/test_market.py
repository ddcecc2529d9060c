"""A market is its seed: prices, quantities, ids and bursts. The clock is given."""

from collections import Counter
from itertools import pairwise

import pytest

from k2.ingest.simulator.history import History
from k2.ingest.simulator.market import FIRST_ID, Market
from k2.ingest.simulator.sources import MarketTape
from k2.schemas.exchanges.spec import EXCHANGES
from k2.schemas.values import MAX_SCALED

BTC, ETH = (EXCHANGES["binance"].pair(native) for native in ("BTCUSDT", "ETHUSDT"))
OPENED = 1_700_000_000_000_000


def hour(seed: str = "1", rate: float = 30.0, pair=BTC) -> list:
    return list(Market(pair, seed, rate, OPENED).until(OPENED + 3600 * 10**6))


def test_the_same_seed_trades_the_same():
    assert hour("7") == hour("7")


def test_another_seed_or_symbol_trades_something_else():
    first = [(deal.price, deal.quantity) for deal in hour("7")[:100]]
    assert first != [(deal.price, deal.quantity) for deal in hour("8")[:100]]
    assert first != [(deal.price, deal.quantity) for deal in hour("7", pair=ETH)[:100]]


def test_how_often_the_market_is_asked_changes_nothing():
    market, found = Market(BTC, "1", 30.0, OPENED), []
    for second in range(3601):
        found += market.until(OPENED + second * 10**6)
    assert found == hour()


def test_ids_are_consecutive_and_times_do_not_go_back():
    deals = hour()
    assert [deal.id for deal in deals] == list(range(FIRST_ID, FIRST_ID + len(deals)))
    assert all(before.time <= after.time for before, after in pairwise(deals))
    assert all(deal.time % 1000 == 0 for deal in deals)


def test_every_price_and_quantity_fits_a_trade():
    assert all(0 < deal.price <= MAX_SCALED and 0 < deal.quantity <= MAX_SCALED for deal in hour())


@pytest.mark.parametrize("rate", [5.0, 60.0])
def test_the_rate_is_what_was_asked_for_on_average(rate):
    trades = sum(len(hour(str(seed), rate)) for seed in range(3))
    assert trades == pytest.approx(3 * 3600 * rate, rel=0.25)


def test_now_and_then_hundreds_trade_within_one_millisecond():
    busiest = max(Counter(deal.time for deal in hour(rate=100.0)).values())
    assert 100 <= busiest <= 1500


def test_one_sweep_has_one_aggressor():
    sides: dict[int, set[bool]] = {}
    for deal in hour(rate=1.0):
        sides.setdefault(deal.time, set()).add(deal.buy)
    assert all(len(found) == 1 for found in sides.values())


def test_a_tape_ends_after_its_count():
    tape = MarketTape([BTC, ETH], seed="1", rate=100, count=500)
    tape.open(OPENED)
    deals = [deal for sweep, _ in tape.until(OPENED + 3600 * 10**6) for deal in sweep]
    assert len(deals) == 500
    assert tape.finished
    assert not list(tape.until(OPENED + 7200 * 10**6))


def test_a_tape_renumbered_begins_at_one_and_a_late_trade_takes_the_next_id():
    tape = MarketTape([BTC], seed="1", rate=100)
    tape.open(OPENED)
    before = [deal for sweep, _ in tape.until(OPENED + 10**6) for deal in sweep]
    (late,) = tape.late(OPENED - 7200 * 10**6)
    assert (late.id, late.time) == (before[-1].id + 1, OPENED - 7200 * 10**6)
    tape.renumber()
    after = [deal for sweep, _ in tape.until(OPENED + 2 * 10**6) for deal in sweep]
    assert after[0].id == 1


def test_history_answers_by_id_and_by_time():
    history, deals = History(), hour()[:100]
    for deal in deals:
        history.add(deal)
    assert history.newest("BTCUSDT", 3) == deals[-3:]
    assert history.newest("BTCUSDT", 0) == []
    assert history.from_id("BTCUSDT", deals[10].id, 5) == deals[10:15]
    assert history.before_id("BTCUSDT", deals[10].id, 5) == deals[5:10]
    assert history.before_id("BTCUSDT", deals[2].id, 5) == deals[:2]
    later = history.after_time("BTCUSDT", deals[10].time, 1000)
    assert later == [deal for deal in deals if deal.time > deals[10].time]
    assert history.from_id("ETHUSDT", 1, 5) == []


def test_history_keeps_the_newest(monkeypatch):
    monkeypatch.setattr("k2.ingest.simulator.history.KEPT", 50)
    history, deals = History(), hour()[:100]
    for deal in deals:
        history.add(deal)
    kept = list(history.deals["BTCUSDT"])
    assert kept == deals[-len(kept) :]
    assert 50 <= len(kept) <= 55
