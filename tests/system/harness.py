"""The embedded platform as a user runs it: `k2` processes, a simulated exchange beside them, and what Gold holds."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import yaml
from typer.testing import CliRunner

from k2.cli.embedded import state
from k2.cli.embedded.layout import Layout
from k2.cli.main import app
from k2.query.engine import Engine


def k2(*words: str, timeout: float = 120.0, **options: Any) -> subprocess.CompletedProcess[str]:
    """One `k2` command, to its end."""
    command = [sys.executable, "-m", "k2.cli.main", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, **options)


def eventually(what: str, check: Callable[[], Any], within: float = 300.0, every: float = 0.25) -> Any:
    """The first result of `check` that is true; an AssertionError that says `what` was waited for, if none comes.

    Checks are `every` so many seconds apart, later four times as many: what they take of the machine, it lacks.
    """
    deadline, pause = time.monotonic() + within, every
    while time.monotonic() < deadline:
        if result := check():
            return result
        time.sleep(pause)
        pause = min(pause * 1.2, every * 4)
    raise AssertionError(f"{what}: not within {within:.0f} s")


@dataclass(slots=True)
class Exchange:
    """A simulated exchange in a process of its own."""

    port: int

    def ask(self, path: str) -> Any:
        """What it tells of itself under /_sim."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/_sim/{path}", timeout=10) as answer:
            return json.load(answer)

    def misbehave(self, fault: str) -> None:
        """Makes it misbehave now."""
        url = f"http://127.0.0.1:{self.port}/_sim/faults"
        with urllib.request.urlopen(urllib.request.Request(url, fault.encode(), method="POST"), timeout=10) as answer:
            assert answer.status == 200

    @property
    def finished(self) -> bool:
        """Whether it has no more trades to make."""
        return bool(self.ask("stats")["finished"])

    def emitted(self) -> dict[str, set[str]]:
        """Every trade id that was ever traded, by the exchange's symbol."""
        return {native: set(map(str, ids)) for native, ids in self.ask("emitted").items()}

    def quotes(self) -> dict[str, list[int]]:
        """The sequence of every quote that there ever was, by the exchange's symbol."""
        return dict(self.ask("emitted?channel=quotes"))


@contextmanager
def exchange(name: str, *words: str, log: Path) -> Iterator[Exchange]:
    """A simulated exchange; `words` are those of `k2 simulate`."""
    command = [sys.executable, "-m", "k2.cli.main", "simulate", name, *words]
    with (
        log.open("w") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            yield Exchange(int(process.stdout.readline().rpartition(":")[2]))
        finally:
            process.terminate()


def feed(name: str, symbols: list[str], port: int = 0, **changes: Any) -> dict[str, Any]:
    """An ExchangeFeed that takes its trades from a port of this machine, with short triggers."""
    ingest = {"endpoints": [f"ws://127.0.0.1:{port}"], "restEndpoint": f"http://127.0.0.1:{port}"} if port else {}
    layers = {layer: {"trigger": "2s"} for layer in ("bronze", "silver", "gold")}
    spec = {"exchange": name, "symbols": symbols, "ingest": ingest, "kafka": {"partitions": 2}, "layers": layers}
    return {
        "apiVersion": "k2.marketdata.io/v1alpha1",
        "kind": "ExchangeFeed",
        "metadata": {"name": changes.pop("name", name)},
        "spec": spec | changes,
    }


@dataclass(slots=True)
class Running:
    """A platform in a folder, whether or not it runs right now."""

    root: Path
    feeds: list[Path]
    words: list[str] = field(default_factory=list)
    process: subprocess.Popen[str] | None = None

    @property
    def layout(self) -> Layout:
        """Its files."""
        return Layout.at(self.root)

    @property
    def state(self) -> state.State:
        """What runs."""
        return state.load(self.layout.state)

    def up(self) -> None:
        """Starts it, and waits until it has said that it runs."""
        files = [word for path in self.feeds for word in ("-f", str(path))]
        words = ["up", *files, "--data", str(self.root), "--no-audit", *self.words]  # the tests audit themselves
        command = [sys.executable, "-m", "k2.cli.main", *words]
        self.root.mkdir(parents=True, exist_ok=True)
        with self.root.with_suffix(".log").open("a") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, text=True)
        eventually("k2 up runs", lambda: self._status().get("running") or self.process.poll() is not None)
        assert self.process.poll() is None, self.said()

    def down(self) -> int:
        """Stops it; returns the exit code of `k2 up`."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(300)

    def said(self) -> str:
        """Return everything that `k2 up` has printed."""
        return self.root.with_suffix(".log").read_text()

    def print_logs(self, size: int = 4_000) -> None:
        """Print the last characters of each log: the report of a failure holds them."""
        for log in [self.root.with_suffix(".log"), *sorted(self.layout.logs.glob("*.log"))]:
            print(f"--- {log.name}\n{log.read_text(errors='replace')[-size:]}")

    def _status(self) -> dict[str, Any]:
        # In this process: a new one for each poll takes more of the machine than the platform does.
        done = CliRunner().invoke(app, ["status", "--json", "--data", str(self.root)])
        return json.loads(done.stdout) if done.exit_code == 0 else {}

    def status(self, name: str = "") -> dict[str, Any]:
        """One feed's row, with everything in it."""
        rows = self._status().get("feeds", [])
        return next((row for row in rows if not name or row["name"] == name), {})

    def kill(self, part: str) -> None:
        """SIGKILL to one part; the driver's JVM goes with it."""
        child = self.state.children.get(part)
        if child is not None and (process := child.find()) is not None:
            os.kill(process.pid, signal.SIGKILL)

    def sql(self, statement: str) -> list[dict[str, Any]]:
        """What a query over its tables gives."""
        with closing(Engine(self.layout.platform())) as engine:
            return engine.sql(statement).to_pylist()

    def gold(self, symbol: str) -> list[str]:
        """Every trade id of a symbol in Gold, as often as it stands there."""
        query = f"SELECT trade_id FROM gold_crypto_trades WHERE symbol = '{symbol}'"
        return [row["trade_id"] for row in self.sql(query)]

    def audit(self, *words: str) -> tuple[int, dict[str, Any]]:
        """`k2 audit --json`: its exit code and report."""
        done = k2("audit", "--json", "--data", str(self.root), *words, timeout=300)
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)


@contextmanager
def platform(folder: Path, *feeds: dict[str, Any], words: tuple[str, ...] = ()) -> Iterator[Running]:
    """A platform that runs these feeds; whatever of it still runs at the end is ended."""
    files = []
    for body in feeds:
        file = folder / f"{body['metadata']['name']}.yaml"
        file.write_text(yaml.safe_dump(body))
        files.append(file)
    with started(Running(folder / "data", files, list(words))) as running:
        yield running


@contextmanager
def started(running: Running) -> Iterator[Running]:
    """A platform in a folder, started; whatever of it still runs at the end is ended."""
    try:
        running.up()
        yield running
    except BaseException:
        running.print_logs()
        raise
    finally:
        _end(running)


def _end(running: Running) -> None:
    if running.process is not None and running.process.poll() is None:
        running.process.kill()
        running.process.wait()
    for child in running.state.children.values():
        if (process := child.find()) is not None:
            for one in [*process.children(recursive=True), process]:
                try:
                    one.kill()
                except psutil.NoSuchProcess:
                    continue
