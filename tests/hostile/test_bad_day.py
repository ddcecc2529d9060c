"""A bad day: five exchanges, every fault at a time of its own, by a seed; nothing is lost in silence."""

import asyncio
import os
import random
from collections.abc import Sequence

import pytest

from k2.ingest.connection.session import Tuning
from k2.ingest.simulator.faults import KINDS, parse
from k2.schemas.exchanges.registry import EXCHANGES
from tests.hostile.judge import Judge
from tests.hostile.test_faults import TUNING, impatient, url

__all__ = ["impatient"]

SECONDS = 120.0
SEED = os.environ.get("K2_SEED", "1")
# After these, what was traded last before them can be asked for no more, so nothing shows whether it was lost: the
# history of an exchange is that of the newest listing. `test_faults` and the tests of listings have them alone.
ENDINGS = {"reset", "delist"}
# A loss that more than 60 trades follow at once is out of Bybit's history before anything could compare with it.
UNNUMBERED = {"drop", "mute", "quiet", "silent"}
LIMITS = {"bybit": "1,arguments", "kraken": "1,messages"}  # below what K2 keeps; of the others, one symbol a connection


def schedule(exchange: str, symbols: Sequence[str], seed: str, seconds: float = SECONDS) -> list[str]:
    """Every fault once, at a random time of the first two thirds of some seconds; what is halted trades again later."""
    rng = random.Random(f"{seed}/{exchange}")
    kinds = KINDS.keys() - ENDINGS - (UNNUMBERED if exchange == "bybit" else set())
    arguments = {kind: "=2s" for kind, (unit, _, _) in KINDS.items() if unit in {"time", "offset"}} | {
        "late": "=1h", "cut": f"={max(15, seconds / 8):.0f}s", "list": f"={symbols[-1]}",
        "limit": f"={LIMITS.get(exchange, '1,symbols')}",
    }  # fmt: skip
    at = {kind: rng.uniform(5, seconds * 2 / 3) for kind in sorted(kinds)} | {"list": seconds * 2 / 3}
    return [f"{kind}{arguments.get(kind, '')}@{at[kind]:.0f}s" for kind in sorted(kinds)]


@pytest.mark.slow
@pytest.mark.parametrize("exchange", EXCHANGES)
async def test_a_bad_day(exchange, simulate, shard, eventually):
    simulator = await simulate(exchange, rate=200, seed=SEED)
    faults = schedule(exchange, simulator.venue.default_symbols, SEED)
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
