"""Fixtures of all tests: recorded frames, a schema registry, and a derandomized hypothesis profile."""

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import accumulate
from pathlib import Path

import pytest
from aiohttp import web
from hypothesis import HealthCheck, settings

from tests.java_options import INTERPRETED

# Interpreted; some tests of the platform compile as users' platforms do.
os.environ.setdefault("JDK_JAVA_OPTIONS", INTERPRETED)

# What a file of a folder takes in a process of its own, in seconds, roughly: make test prints the true ones.
_BUSY = {"tests/system": 60, "tests/spark/audit": 60, "tests/spark/maintenance": 60, "tests/spark": 40}
_WAITING = {"tests/apiserver": 30, "tests/hostile": 120, "tests/console": 90, "tests/simulation": 10, "tests": 1}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order tests by file, so that with xdist files that compute and files that wait run side by side to the end.

    A file runs in one process. Files with a JVM compute, and four of them at a time take two cores past their
    time-outs; those of the others that take long wait for servers, clocks and sockets. Of each kind, long files come
    first, and both are spread over the whole run. Within a file the order stays.
    """
    files: dict[str, bool] = {}
    for item in items:
        path = item.path.as_posix()
        busy = any(item.get_closest_marker(name) for name in ("spark", "system"))
        files[path] = files.get(path, False) or busy
    places = _spread([path for path, busy in files.items() if busy], _BUSY)
    places |= _spread([path for path, busy in files.items() if not busy], _WAITING)
    items.sort(key=lambda item: places[item.path.as_posix()])


def _spread(paths: list[str], seconds: dict[str, int]) -> dict[str, float]:
    """Return the place of each path between 0 and 1: the share of all work that is to be done before it."""

    def weight(path: str) -> int:
        return next((weight for place, weight in seconds.items() if f"{place}/" in path), 1)

    paths = sorted(paths, key=weight, reverse=True)
    before = accumulate(map(weight, paths), initial=0)
    total = sum(map(weight, paths)) or 1
    return {path: done / total for path, done in zip(paths, before, strict=False)}


settings.register_profile(
    "k2",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=100,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("k2")


@pytest.fixture(scope="session")
def captures() -> Path:
    """The folder of recorded exchange frames."""
    folder = os.environ.get("K2_CAPTURES")
    if not folder:
        pytest.skip("K2_CAPTURES is not set; it names the folder of recorded exchange frames")
    return Path(folder)


@contextmanager
def _served(app: web.Application) -> Iterator[str]:
    """An application on a free port of this machine, in a thread of its own, so that blocking clients can ask it."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def wait(coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(10)

    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)

    async def start() -> str:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    try:
        yield wait(start())
    finally:
        wait(runner.cleanup())
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


@pytest.fixture
def serve() -> Iterator[Callable[[web.Application], str]]:
    """Serves an application until the test ends; returns its URL."""
    with ExitStack() as stack:
        yield lambda app: stack.enter_context(_served(app))


@pytest.fixture
def registry_url(serve: Callable[[web.Application], str], tmp_path: Path) -> str:
    """The embedded schema registry, empty."""
    from k2.cli.embedded.registry import application
    from k2.cli.embedded.schema_store import SchemaStore

    return serve(application(SchemaStore(tmp_path / "registry.db")))
