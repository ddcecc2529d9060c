"""A bad day of the whole platform: five feeds, each exchange with every fault, by a seed.

Gold has every trade, or what is missing is listed with a reason.
`K2_BAD_DAY_SECONDS` is how long the day lasts, 30 if it is not set; `K2_SEED` chooses the times of the faults.
"""

import asyncio
import os
from collections import Counter
from collections.abc import Sequence

import pytest

from k2.ingest.simulator.faults import parse
from k2.query.errors import BadQuery, Unavailable
from k2.schemas.exchanges.registry import EXCHANGES
from tests.hostile.judge import Judge
from tests.hostile.recorded import Recorded
from tests.hostile.test_bad_day import SEED, schedule
from tests.system.harness import feed, platform

SECONDS = float(os.environ.get("K2_BAD_DAY_SECONDS", "30"))
SETTLED = 900.0  # seconds until everything must be in Gold or listed; a ban of Bybit alone lasts 600
RATE = 40.0  # trades per second of each exchange

pytestmark = [
    pytest.mark.slow,
    pytest.mark.system,
    pytest.mark.timeout(SECONDS + SETTLED + 900),
]


def wrong(judges: Sequence[Judge]) -> list[str]:
    """Read what the platform has; return everything that is wrong."""
    findings = []
    for judge in judges:
        name, recorded = judge.simulator.venue.spec.name, judge.ingest
        recorded.read()
        judge.reasons.clear()
        ids = Counter(row["message_id"] for row in recorded.stored())
        repeated = [f"{message_id} is {count} times in Gold" for message_id, count in ids.items() if count > 1]
        findings += [f"{name}: {each}" for each in [*judge.findings(), *repeated, *recorded.unlike_table(judge.until)]]
    return findings


def flowing(judges: Sequence[Judge]) -> bool:
    """Return whether Gold has trades of every symbol."""
    for judge in judges:
        try:
            judge.ingest.read()
        except (Unavailable, BadQuery):  # no table yet
            return False
        if {row["symbol"] for row in judge.ingest.stored()} < {pair.symbol for pair in judge.ingest.pairs}:
            return False
    return True


async def test_gold_has_every_trade_or_its_absence_is_listed(simulate, tmp_path):
    simulators = [await simulate(name, rate=RATE, seed=SEED) for name in EXCHANGES]
    feeds = [feed(each.venue.spec.name, list(each.venue.default_symbols), each.port) for each in simulators]
    running_platform = platform(tmp_path, *feeds)
    running = await asyncio.to_thread(running_platform.__enter__)
    try:
        judges = [Judge(each, Recorded(running, each)) for each in simulators]
        async with asyncio.timeout(SETTLED):
            while not await asyncio.to_thread(flowing, judges):  # noqa: ASYNC110 - other processes
                await asyncio.sleep(2)
        for simulator in simulators:
            faults = schedule(simulator.venue.spec.name, simulator.venue.default_symbols, SEED, SECONDS)
            print(f"K2_SEED={SEED} {simulator.venue.spec.name}: {' '.join(faults)}")
            for fault in faults:
                simulator.inject(parse(fault))
        await asyncio.sleep(SECONDS)
        assert running.process is not None
        assert running.process.poll() is None, running.said()
        for judge in judges:
            judge.until = judge.simulator._now
        findings = ["not judged yet"]
        deadline = asyncio.get_running_loop().time() + SETTLED
        while findings and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(5)
            findings = await asyncio.to_thread(wrong, judges)
            print(f"{len(findings)} findings; the first: {findings[:3]}")
        for judge in judges:
            trades = sum(len(each) for each in judge.simulator.history.trades.values())
            print(f"{judge.simulator.venue.spec.name}: {trades} traded, {len(judge.ingest.stored())} in Gold")
            print(*(f"  {count} are listed as missing: {reason}" for reason, count in judge.reasons.items()), sep="\n")
        assert findings == []
    finally:
        await asyncio.to_thread(running_platform.__exit__, None, None, None)
