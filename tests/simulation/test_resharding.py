"""While the number of shards changes, no trade is lost, none is stored with another content, and no gap opens."""

from datetime import timedelta

import pytest

from k2.ingest.instruments.joining import Joining
from k2.operator.planning import autoscale, resharding
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


@pytest.mark.parametrize("exchange", ["binance", "bybit"])
def test_a_pod_that_dies_while_its_symbols_move_loses_nothing(exchange):
    async def story(world: Elastic) -> None:
        await through(1)(world)
        world.cluster.target = 2
        await world.until(lambda: len(world.cluster.counts) == 2)
        await world.cluster.kill("spot-shard-0-0")
        await world.until(lambda: world.cluster.counts == (2,))
        await world.until(lambda: not world.judge.retrievable())

    world = simulate(3, exchange, story, rate=3.0)
    complete(world)
    assert {event.state.value for event in world.judge.gaps.values()} == {"repaired"}


def test_a_break_before_the_make_opens_gaps(monkeypatch):
    monkeypatch.setattr(resharding, "next_counts", lambda *given: (given[2],))
    world = simulate(1, "binance", through(1, 3, 1))
    assert world.judge.gaps


def test_a_position_that_is_read_before_the_subscription_opens_gaps(monkeypatch):
    async def resume_first(joining, pairs, added):
        if added:
            await joining._resume(added, {})
        joining._session.set_symbols(pairs)

    monkeypatch.setattr(Joining, "set_symbols", resume_first)
    world = simulate(1, "binance", through(1, 2), rate=10.0)
    assert world.judge.gaps


@pytest.fixture
def small(monkeypatch):
    """Half a core that carries five messages per second, and an operator that waits for less than ten minutes."""
    for name in ("HIGH", "AIM", "LOW"):
        monkeypatch.setattr(autoscale, name, getattr(autoscale, name) / 1000)
    for name, seconds in (("MORE_AFTER", 20), ("FEWER_AFTER", 40), ("COOL_DOWN", 30)):
        monkeypatch.setattr(autoscale, name, timedelta(seconds=seconds))


def following(load, changes, most):
    """Return a story in which each symbol's trades per second rise to a load and fall again, several times."""

    async def story(world: Elastic) -> None:
        while world.cluster.changes < changes:
            for rate, number in ((load, most), (load / 10, 1)):
                for market in world.exchange.markets.values():
                    market.rate = rate
                await world.until(lambda number=number: world.cluster.counts == (number,), 3600.0)

    return story


@pytest.mark.usefixtures("small")
def test_the_number_of_shards_follows_the_load_without_a_gap():
    world = simulate(1, "binance", following(0.6, 2, 2), rate=0.06, ingest={"shards": "auto", "autoscale": {"max": 2}})
    complete(world)
    assert world.judge.gaps == {}
    assert world.cluster.changes == 2


@pytest.mark.slow
@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("seed", range(3))
def test_a_load_that_rises_and_falls_changes_the_number_twenty_times(seed):
    story = following(0.9, 20, 6)
    world = simulate(seed, NUMBERED[seed], story, rate=0.09, ingest={"shards": "auto", "autoscale": {"max": 6}})
    complete(world)
    assert world.judge.gaps == {}
    assert world.cluster.changes >= 20
