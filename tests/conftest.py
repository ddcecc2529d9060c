"""Fixtures of all tests: recorded frames, a schema registry, and a derandomized hypothesis profile."""

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from aiohttp import web
from hypothesis import HealthCheck, settings

from tests.java_options import INTERPRETED

# Interpreted; some tests of the platform compile as users' platforms do.
os.environ.setdefault("JDK_JAVA_OPTIONS", INTERPRETED)

# With xdist a file runs in one process: long files come first, so that no process is left with one at the end.
_LONGEST_FIRST = (
    "tests/system",
    "tests/apiserver",
    "tests/spark/audit/test_audit.py",
    "tests/spark/maintenance",
    "tests/spark/audit",
    "tests/spark",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order tests by the folder or file that they are in; within it the order stays."""

    def rank(item: pytest.Item) -> int:
        path = item.path.as_posix()
        return next((index for index, place in enumerate(_LONGEST_FIRST) if place in path), len(_LONGEST_FIRST))

    items.sort(key=rank)


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
