"""A bad day: five exchanges, every fault at a time of its own, by a seed; nothing is lost in silence."""

import asyncio
import os
import random

import pytest

from k2.ingest.connection.session import Tuning
from k2.ingest.simulator.faults import KINDS, parse
from k2.schemas.exchanges.registry import EXCHANGES
from tests.hostile.judge import Judge
from tests.hostile.test_faults import TUNING, impatient, url

__all__ = ["impatient"]

SECONDS = 120.0
SEED = os.environ.get("K2_SEED", "1")
# What only another setting survives: a new listing, limits that are below what K2 keeps, and ends of symbols.
OTHERS = {"reset", "limit", "delist", "halt", "clock", "oversized"}
UNNUMBERED = {"drop", "mute", "stuck", "frozen", "undone", "quiet", "silent"}  # without ids, what is missing is unknown


def schedule(exchange: str, seed: str, seconds: float = SECONDS) -> list[str]:
    """Every fault once, at a random time of the first two thirds of some seconds."""
    rng = random.Random(f"{seed}/{exchange}")
    kinds = KINDS.keys() - OTHERS - (UNNUMBERED if exchange == "bybit" else set())
    short = {kind: "=2s" for kind, (unit, _, _) in KINDS.items() if unit == "time"} | {
        "late": "=1h", "cut": f"={max(15, seconds / 8):.0f}s",
    }  # fmt: skip
    return [f"{kind}{short.get(kind, '')}@{rng.uniform(5, seconds * 2 / 3):.0f}s" for kind in sorted(kinds)]


@pytest.mark.slow
@pytest.mark.parametrize("exchange", EXCHANGES)
async def test_a_bad_day(exchange, simulate, shard, eventually):
    simulator = await simulate(exchange, rate=200, seed=SEED)
    faults = schedule(exchange, SEED)
    print(f"K2_SEED={SEED}: {' '.join(faults)}")
    ingest = shard(exchange, simulator.venue.default_symbols, url(simulator, "http"))
    task = ingest.start(url(simulator, "ws"), tuning=Tuning(**TUNING))
    for fault in faults:
        simulator.inject(parse(fault))
    await asyncio.sleep(SECONDS)
    assert not task.done()
    before = dict(ingest.stats.received)
    await eventually(lambda: all(ingest.stats.received[pair.symbol] > before[pair.symbol] for pair in ingest.pairs), 60)
    judge = Judge(simulator, ingest)
    await judge.stop(60, lambda: not ingest.stats.gaps_open)
    assert judge.findings() == []
