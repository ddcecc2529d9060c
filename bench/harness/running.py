"""Run the whole embedded platform for a benchmark, as `k2 up --simulate` does."""

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from bench.harness.processes import BenchFailed, alive, end, python, started, tree, until
from bench.harness.services import feed, write_feed
from k2.cli.embedded import state, status
from k2.cli.embedded.layout import Layout

SYMBOLS: Final = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT", "DOGEUSDT")
_UP_WITHIN: Final = 180.0
_DOWN_WITHIN: Final = 300.0


@dataclass(frozen=True, slots=True)
class Platform:
    """A running platform."""

    layout: Layout
    process: subprocess.Popen[Any]
    started_at: float  # monotonic seconds

    def status(self) -> status.FeedStatus:
        """Return the current status of the feed."""
        alive(self.process, self.layout.root / "up.log")
        current = state.load(self.layout.state)
        return status.collect(status.feeds(self.layout, current), current)[0]

    def components(self) -> dict[str, list[psutil.Process]]:
        """Return its processes by component, without the simulated exchange."""
        processes = {"k2 up": [psutil.Process(self.process.pid)]}
        for name, child in state.load(self.layout.state).children.items():
            if not name.startswith("simulator-"):
                processes["ingest" if name.startswith("ingest-") else name] = tree([child.pid])
        return processes

    def warm_up(self, seconds: float) -> None:
        """Wait until it has run for so many seconds, start-up included."""
        self.run_for(self.started_at + seconds - time.monotonic())

    def run_for(self, seconds: float) -> None:
        """Wait so many seconds. Raises `BenchFailed` if the platform ends meanwhile."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            alive(self.process, self.layout.root / "up.log")
            time.sleep(min(1.0, left))


@contextmanager
def platform(folder: Path, rate: float, trigger: str = "") -> Iterator[Platform]:
    """Run a platform and wait for rows in Gold; stop it at the end, and kill what remains."""
    layout = Layout.at(folder / "data")
    file, log = write_feed(feed(list(SYMBOLS), trigger=trigger), folder), layout.root / "up.log"
    words = ["up", "-f", str(file), "--simulate", "--no-audit", "--rate", str(rate), "--data", str(layout.root)]
    try:
        with started(python("-m", "k2.cli.main", *words), log) as process:
            running = Platform(layout, process, time.monotonic())
            until("rows in Gold", lambda: _reached_gold(running), _UP_WITHIN, 1.0, (process, log))
            yield running
            process.send_signal(signal.SIGINT)
            try:
                code = process.wait(_DOWN_WITHIN)
            except subprocess.TimeoutExpired:
                raise BenchFailed(f"k2 up did not stop within {_DOWN_WITHIN:.0f} s") from None
            if code:
                raise BenchFailed(f"k2 up exited with {code}")
    finally:
        for child in state.load(layout.state).children.values():
            if (left := child.find()) is not None:
                end(tree([left.pid]))


def _reached_gold(running: Platform) -> bool:
    ingest_started = any(name.startswith("ingest-") for name in state.load(running.layout.state).children)
    return ingest_started and bool(running.status().rows.get("gold"))
