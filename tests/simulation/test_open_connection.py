"""What an exchange without consecutive ids loses on an open connection is found in its history, while it is there."""

import asyncio
from random import Random

import pytest

from k2.ingest.backfill.overlap import OverlapCheck
from tests.simulation.seeds import report
from tests.simulation.world import World, simulate

BYBIT = range(4, 104, 5)


async def lose_frames(world: World, rng: Random) -> None:
    """Lose frames of the open connections, which stay open."""
    for wire in world.exchange.wires_of(world.processes[0]):
        wire.drop = rng.randint(1, 30)


def only_that(patches: pytest.MonkeyPatch) -> None:
    """Let frames be lost, and nothing else happen."""
    patches.setattr(World, "_make_plan", staticmethod(lambda _: [(20.0, lose_frames), (50.0, lose_frames)]))
    patches.setattr("tests.simulation.world._REDUNDANT", 0.0)


def without_looking(patches: pytest.MonkeyPatch) -> None:
    """Let nobody compare with the history."""

    async def nothing(_: OverlapCheck) -> None:
        await asyncio.Event().wait()

    only_that(patches)
    patches.setattr(OverlapCheck, "run", nothing)


@pytest.mark.parametrize("first", range(4))
def test_what_an_open_connection_lost_is_repaired(first):
    for seed in BYBIT[first::4]:
        outcome = simulate(seed, only_that)
        assert not outcome.violations, report(outcome)
        assert " gap " in outcome.trace


def test_nothing_else_shows_it():
    assert any("not in the log" in text for text in simulate(BYBIT[0], without_looking).violations)
