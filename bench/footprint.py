"""Memory and CPU of the whole embedded platform, at two rates, with the default triggers."""

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
class Usage:
    """Memory in bytes and CPU in cores, by component."""

    memory: dict[str, float] = field(default_factory=dict)
    cores: dict[str, float] = field(default_factory=dict)
    peak: float = 0.0
    rate: float = 0.0

    @property
    def total_cores(self) -> float:
        """The cores of all components."""
        return sum(self.cores.values())

    def largest(self, usage: dict[str, float]) -> str:
        """Return the component with the highest value."""
        return max(usage, key=lambda component: usage[component])


def run(folder: Path, *, quick: bool, rounds: int) -> Section:
    """Run the platform once for each rate."""
    warm, measured = (70.0, 20.0) if quick else (90.0, 60.0)
    usages = {}
    for rate in _RATES:
        with platform(folder / str(rate), rate) as running:
            running.warm_up(warm)
            usages[rate] = _measure(running, measured)
        usage = usages[rate]
        print(f"  {rate} trades/s: {number(usage.peak / 1e9)} GB, {number(usage.total_cores)} cores", flush=True)
    return _section(usages, warm, measured)


def _measure(running: Platform, seconds: float) -> Usage:
    usage, components = Usage(), running.components()
    before = {name: cpu_seconds(processes) for name, processes in components.items()}
    delivered, started_at = running.status().delivered, time.monotonic()
    samples: dict[str, list[int]] = {name: [] for name in components}
    while time.monotonic() - started_at < seconds:
        sizes = {name: pss(processes) for name, processes in components.items()}
        for name, size in sizes.items():
            samples[name].append(size)
        usage.peak = max(usage.peak, float(sum(sizes.values())))
        running.run_for(_SAMPLE_EVERY)
    elapsed = time.monotonic() - started_at
    usage.rate = (running.status().delivered - delivered) / elapsed
    usage.cores = {name: (cpu_seconds(processes) - before[name]) / elapsed for name, processes in components.items()}
    usage.memory = {name: mean(sizes) for name, sizes in samples.items()}
    return usage


def _section(usages: dict[int, Usage], warm: float, measured: float) -> Section:
    section = Section("footprint", "Memory and CPU of the whole platform")
    section.method = (
        f"`k2 up --simulate` with one feed of {len(SYMBOLS)} symbols, four partitions and the default triggers (10, "
        f"30 and 60 s), measured for {measured:.0f} s after a warm-up of {warm:.0f} s. Included are `k2 up` with its "
        "registry, the broker, ingest, and the jobs with their JVM, but not the simulated exchange.",
        f"Memory is the sum of the proportional set sizes (PSS) of all these processes, sampled every "
        f"{_SAMPLE_EVERY:.0f} s; the total is the highest sample, the components are means. Cores are CPU-seconds per "
        "second.",
    )
    for rate, usage in usages.items():
        at = f"at {rate:,} trades/s"
        section.figures += [
            Figure(f"K2 {at}", "memory, all", "GB", [usage.peak / 1e9]),
            Figure(f"K2 {at}", "CPU, all", "cores", [usage.total_cores]),
            Figure(f"K2 {at}", "acknowledged", "trades/s", [usage.rate]),
        ]
        for part in usage.cores:
            section.figures += [
                Figure(f"K2 {at}", f"memory, {part}", "GB", [usage.memory[part] / 1e9]),
                Figure(f"K2 {at}", f"CPU, {part}", "cores", [usage.cores[part]]),
            ]
    quiet = usages[_RATES[0]]
    largest, busiest = quiet.largest(quiet.memory), quiet.largest(quiet.cores)
    section.goals = [
        Goal(
            f"below {_MEMORY} GB at {_RATES[0]} trades/s",
            f"{number(quiet.peak / 1e9)} GB",
            quiet.peak < _MEMORY * 1e9,
            f"{largest} alone uses {number(quiet.memory[largest] / 1e9)} GB",
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
