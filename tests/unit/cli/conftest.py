"""A feed as a user writes it, and the `k2` command in a process of its own."""

import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from k2.schemas.feed.model import ExchangeFeed

BODY = {
    "apiVersion": "k2.marketdata.io/v1alpha1",
    "kind": "ExchangeFeed",
    "metadata": {"name": "one"},
    "spec": {"exchange": "binance", "symbols": ["BTCUSDT"]},
}


@pytest.fixture
def body() -> Callable[..., dict[str, Any]]:
    """A valid body with some of its spec changed."""

    def make(name: str = "one", **spec: Any) -> dict[str, Any]:
        return {**BODY, "metadata": {"name": name}, "spec": BODY["spec"] | spec}

    return make


@pytest.fixture
def feed(body) -> Callable[..., ExchangeFeed]:
    return lambda name="one", **spec: ExchangeFeed.from_body(body(name, **spec))


@pytest.fixture
def file(tmp_path: Path, body) -> Callable[..., Path]:
    """A feed in a file."""

    def write(name: str = "one", **spec: Any) -> Path:
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(body(name, **spec)), "utf-8")
        return path

    return write


@pytest.fixture
def k2() -> Callable[..., subprocess.CompletedProcess[str]]:
    """One `k2` command, to its end."""

    def run(*words: object, **options: Any) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "k2.cli.main", *map(str, words)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, **options)

    return run


@pytest.fixture
def k2_process():
    """A `k2` command that runs until the test ends, and the first line that it printed."""
    with ExitStack() as stack:

        def start(*words: str) -> tuple[subprocess.Popen[str], str]:
            command = [sys.executable, "-m", "k2.cli.main", *words]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            stack.enter_context(process)
            stack.callback(process.terminate)
            assert process.stdout is not None
            return process, process.stdout.readline()

        yield start
