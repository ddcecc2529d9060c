"""While the number of shards changes, no trade is lost, none is stored with another content, and no gap opens."""

import pytest

from k2.operator.planning import resharding
from tests.simulation.resharding import Elastic, simulate

NUMBERED = ("binance", "kraken", "coinbase")


def through(*numbers):
    """Return a story in which the number of shards is each of some numbers in turn."""

    async def story(world: Elastic) -> None:
        for number in numbers:
            world.cluster.target = number
            await world.until(lambda number=number: world.cluster.counts == (number,))
            await world.until(lambda: all(report.connected for report in world.cluster.reports()))

    return story


def complete(world: Elastic) -> None:
    judge = world.judge
    assert judge.violations == []
    assert len(judge.begun) == len(world.exchange.markets)
    assert {symbol: missing for symbol, missing in judge.missing.items() if missing} == {}


@pytest.mark.parametrize("exchange", NUMBERED)
def test_symbols_change_their_process_without_a_gap(exchange):
    world = simulate(1, exchange, through(1, 3, 2, 1))
    complete(world)
    assert world.judge.gaps == {}
    assert world.cluster.changes == 3


def test_where_trades_have_no_numbers_what_the_history_shows_is_compared():
    world = simulate(2, "bybit", through(1, 2, 1))
    complete(world)
    assert {event.state.value for event in world.judge.gaps.values()} <= {"repaired"}


def test_a_break_before_the_make_opens_gaps(monkeypatch):
    monkeypatch.setattr(resharding, "next_counts", lambda *given: (given[2],))
    world = simulate(1, "binance", through(1, 3, 1))
    assert world.judge.gaps


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_twenty_changes(seed):
    world = simulate(seed, NUMBERED[seed], through(1, *[2, 3, 4, 5, 6, 5, 4, 3, 2, 1] * 2))
    complete(world)
    assert world.judge.gaps == {}
    assert world.cluster.changes == 20
