"""Latency of a trade from the exchange's websocket to Gold, with the whole platform running."""

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from bench.harness.figures import K2, Figure, Goal, Section, number
from bench.harness.running import SYMBOLS, platform
from k2.query.engine import Engine
from k2.query.sql.freshness import freshness

_RATE: Final = 1000.0
_GOAL: Final = 5.0


def run(folder: Path, *, quick: bool, rounds: int) -> Section:
    """Warm up, run for the measured time, and read the latencies from the tables."""
    warm, measured = (15.0, 20.0) if quick else (60.0, 90.0)
    with platform(folder, _RATE, "1s") as running:
        running.run_for(warm)
        since, before = datetime.now(UTC), running.status()
        running.run_for(measured)
        after = running.status()
        with closing(Engine(running.layout.platform())) as engine:
            latency = freshness(engine.catalog, since)
    delivered = (after.delivered - before.delivered) / measured
    section = Section("freshness", "Socket to Gold, with triggers of one second")
    section.method = (
        f"`k2 up --simulate --rate {_RATE:.0f}` with one feed of {len(SYMBOLS)} symbols and a trigger of 1 s in each "
        f"layer: simulated exchange, ingest, broker, registry and Spark on this machine. After {warm:.0f} s of "
        f"warm-up, {measured:.0f} s are measured. The figures come from Gold itself: the moment of the commit that "
        "made a row visible, less the moment its frame left the socket.",
    )
    section.figures = [
        Figure(K2, "socket to Gold, p50", "s", [latency.p50]),
        Figure(K2, "socket to Gold, p95", "s", [latency.p95]),
        Figure(K2, "socket to Gold, p99", "s", [latency.p99]),
        Figure(K2, "trades measured", "trades", [float(latency.rows)]),
        Figure(K2, "acknowledged meanwhile", "trades/s", [delivered]),
    ]
    section.goals = [
        Goal(
            f"p99 below {_GOAL:.0f} s",
            f"{number(latency.p99)} s",
            latency.p99 < _GOAL,
            f"half of the trades were in Gold after {number(latency.p50)} s. A trade waits for a batch of each of "
            f"three layers, so that three triggers of 1 s leave {number(_GOAL - 3)} s for three commits; the slowest "
            f"hundredth took {number(latency.p99 - 3)} s for them on a machine that runs everything at once",
        )
    ]
    return section
