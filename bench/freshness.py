"""How long a trade takes from the exchange's socket into Gold while the whole platform runs."""

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
    """One run: warm up, measure, ask the tables."""
    warm, measured = (15.0, 20.0) if quick else (60.0, 90.0)
    with platform(folder, _RATE, "1s") as running:
        running.watch(warm)
        since, before = datetime.now(UTC), running.look()
        running.watch(measured)
        after = running.look()
        with closing(Engine(running.layout.platform())) as engine:
            found = freshness(engine.catalog, since)
    delivered = (after.delivered - before.delivered) / measured
    section = Section("c", "Socket to Gold, with triggers of one second")
    section.method = (
        f"`k2 up --simulate --rate {_RATE:.0f}` with one feed of {len(SYMBOLS)} symbols and a trigger of 1 s in each "
        f"layer: simulated exchange, ingest, broker, registry and Spark on this machine. After {warm:.0f} s of "
        "warm-up, "
        f"{measured:.0f} s are measured. The figures come from Gold itself: the moment of the commit that made a row "
        "visible, less the moment its frame left the socket.",
    )
    section.figures = [
        Figure(K2, "socket to Gold, p50", "s", [found.p50]),
        Figure(K2, "socket to Gold, p95", "s", [found.p95]),
        Figure(K2, "socket to Gold, p99", "s", [found.p99]),
        Figure(K2, "trades measured", "trades", [float(found.rows)]),
        Figure(K2, "acknowledged meanwhile", "trades/s", [delivered]),
    ]
    section.goals = [
        Goal(
            f"p99 below {_GOAL:.0f} s",
            f"{number(found.p99)} s",
            found.p99 < _GOAL,
            f"half of the trades were in Gold after {number(found.p50)} s. A trade waits for a batch of each of three "
            f"layers, so that three triggers of 1 s leave {number(_GOAL - 3)} s for three commits; the slowest "
            f"hundredth took {number(found.p99 - 3)} s for them on a machine that runs everything at once",
        )
    ]
    return section
