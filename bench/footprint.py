"""Memory and CPU of the whole embedded platform, at two rates, with the triggers that feeds have by default."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Final

from bench.harness.figures import Figure, Goal, Section, number
from bench.harness.processes import cpu_seconds, pss
from bench.harness.running import SYMBOLS, Platform, platform

_RATES: Final = (60, 1000)
_MEMORY: Final = 2.5  # GB
_CORES: Final = 0.5
_SAMPLE_EVERY: Final = 5.0


@dataclass(slots=True)
class Weight:
    """What the parts used: bytes and cores."""

    memory: dict[str, float] = field(default_factory=dict)
    cores: dict[str, float] = field(default_factory=dict)
    highest: float = 0.0
    rate: float = 0.0

    @property
    def total_cores(self) -> float:
        """Of all parts."""
        return sum(self.cores.values())

    def heaviest(self, of: dict[str, float]) -> str:
        """The part that used most."""
        return max(of, key=lambda part: of[part])


def run(folder: Path, *, quick: bool, rounds: int) -> Section:
    """One run a rate."""
    warm, measured = (70.0, 20.0) if quick else (90.0, 60.0)
    weights = {}
    for rate in _RATES:
        with platform(folder / str(rate), rate) as running:
            running.warm_up(warm)
            weights[rate] = _weigh(running, measured)
        found = weights[rate]
        print(f"  {rate} trades/s: {number(found.highest / 1e9)} GB, {number(found.total_cores)} cores", flush=True)
    return _section(weights, warm, measured)


def _weigh(running: Platform, seconds: float) -> Weight:
    found, parts = Weight(), running.parts()
    before = {name: cpu_seconds(processes) for name, processes in parts.items()}
    delivered, began = running.look().delivered, time.monotonic()
    samples: dict[str, list[int]] = {name: [] for name in parts}
    while time.monotonic() - began < seconds:
        taken = {name: pss(processes) for name, processes in parts.items()}
        for name, size in taken.items():
            samples[name].append(size)
        found.highest = max(found.highest, float(sum(taken.values())))
        running.watch(_SAMPLE_EVERY)
    took = time.monotonic() - began
    found.rate = (running.look().delivered - delivered) / took
    found.cores = {name: (cpu_seconds(processes) - before[name]) / took for name, processes in parts.items()}
    found.memory = {name: mean(sizes) for name, sizes in samples.items()}
    return found


def _section(weights: dict[int, Weight], warm: float, measured: float) -> Section:
    section = Section("e", "The whole platform at rest and at work")
    section.method = (
        f"`k2 up --simulate` with one feed of {len(SYMBOLS)} symbols, four partitions and the default triggers "
        "(10, 30 and "
        f"60 s), weighed for {measured:.0f} s from {warm:.0f} s after the start on. Counted are `k2 up` with its "
        "registry, the "
        "broker, ingest, and the jobs with their JVM; the simulated exchange is not.",
        f"Memory is the sum of the proportional set sizes (PSS) of all these processes, looked at every "
        f"{_SAMPLE_EVERY:.0f} s; the total is the highest moment, the parts are means. Cores are CPU-seconds per "
        "second.",
    )
    for rate, weight in weights.items():
        at = f"at {rate:,} trades/s"
        section.figures += [
            Figure(f"K2 {at}", "memory, all", "GB", [weight.highest / 1e9]),
            Figure(f"K2 {at}", "CPU, all", "cores", [weight.total_cores]),
            Figure(f"K2 {at}", "acknowledged", "trades/s", [weight.rate]),
        ]
        for part in weight.cores:
            section.figures += [
                Figure(f"K2 {at}", f"memory, {part}", "GB", [weight.memory[part] / 1e9]),
                Figure(f"K2 {at}", f"CPU, {part}", "cores", [weight.cores[part]]),
            ]
    quiet = weights[_RATES[0]]
    fattest, busiest = quiet.heaviest(quiet.memory), quiet.heaviest(quiet.cores)
    section.goals = [
        Goal(
            f"below {_MEMORY} GB at {_RATES[0]} trades/s",
            f"{number(quiet.highest / 1e9)} GB",
            quiet.highest < _MEMORY * 1e9,
            f"{fattest} alone holds {number(quiet.memory[fattest] / 1e9)} GB",
        ),
        Goal(
            f"at most half a core at {_RATES[0]} trades/s",
            f"{number(quiet.total_cores)} cores",
            quiet.total_cores <= _CORES,
            f"{busiest} alone uses {number(quiet.cores[busiest])} cores, "
            f"{100 * quiet.cores[busiest] / quiet.total_cores:.0f} % of all",
        ),
    ]
    return section
