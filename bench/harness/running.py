"""The whole embedded platform, as `k2 up --simulate` runs it, for the length of a measurement."""

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
from bench.harness.services import feed, written
from k2.cli.embedded import state, status
from k2.cli.embedded.layout import Layout

SYMBOLS: Final = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT", "DOGEUSDT")
_UP_WITHIN: Final = 180.0
_DOWN_WITHIN: Final = 300.0


@dataclass(frozen=True, slots=True)
class Platform:
    """One that runs."""

    layout: Layout
    process: subprocess.Popen[Any]
    began: float

    def look(self) -> status.FeedStatus:
        """The feed as it is now."""
        alive(self.process, self.layout.root / "up.log")
        found = state.load(self.layout.state)
        return status.look(status.feeds(self.layout, found), found)[0]

    def parts(self) -> dict[str, list[psutil.Process]]:
        """Its processes by part, without the simulated exchange."""
        found = {"k2 up": [psutil.Process(self.process.pid)]}
        for name, child in state.load(self.layout.state).children.items():
            if not name.startswith("simulator-"):
                found["ingest" if name.startswith("ingest-") else name] = tree([child.pid])
        return found

    def warm_up(self, seconds: float) -> None:
        """Waits until it has run for so long, start-up and Gold's first rows included."""
        self.watch(self.began + seconds - time.monotonic())

    def watch(self, seconds: float) -> None:
        """Waits, and raises `BenchFailed` should it end."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            alive(self.process, self.layout.root / "up.log")
            time.sleep(min(1.0, left))


@contextmanager
def platform(folder: Path, rate: float, trigger: str = "") -> Iterator[Platform]:
    """A platform whose Gold has rows. It is stopped in order, and what is left is ended."""
    layout = Layout.at(folder / "data")
    file, log = written(feed(list(SYMBOLS), trigger=trigger), folder), layout.root / "up.log"
    words = ["up", "-f", str(file), "--simulate", "--rate", str(rate), "--data", str(layout.root)]
    try:
        with started(python("-m", "k2.cli.main", *words), log) as process:
            found = Platform(layout, process, time.monotonic())
            until("rows in Gold", lambda: _reached_gold(found), _UP_WITHIN, 1.0, (process, log))
            yield found
            process.send_signal(signal.SIGINT)
            try:
                code = process.wait(_DOWN_WITHIN)
            except subprocess.TimeoutExpired:
                raise BenchFailed(f"k2 up did not stop within {_DOWN_WITHIN:.0f} s") from None
            if code:
                raise BenchFailed(f"k2 up ended with {code}")
    finally:
        for child in state.load(layout.state).children.values():
            if (left := child.find()) is not None:
                end(tree([left.pid]))


def _reached_gold(found: Platform) -> bool:
    started_all = any(name.startswith("ingest-") for name in state.load(found.layout.state).children)
    return started_all and bool(found.look().rows.get("gold"))
