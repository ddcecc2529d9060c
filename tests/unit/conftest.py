"""Fixtures of unit tests: simulated exchanges, waiting for a condition, retries without waits."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
import stamina

from k2.ingest.simulator.runner import build
from k2.ingest.simulator.server import Simulator


@pytest.fixture
async def simulate() -> AsyncIterator[Callable[..., Awaitable[Simulator]]]:
    """Starts simulated exchanges; stops them with the test."""
    started: list[Simulator] = []

    async def start(exchange: str, **options: Any) -> Simulator:
        simulator = build(exchange, **options)
        await simulator.start()
        started.append(simulator)
        return simulator

    yield start
    for simulator in started:
        await simulator.stop()


@pytest.fixture
def eventually() -> Callable[..., Any]:
    """Waits until a condition holds; fails after `within` seconds."""

    async def wait(condition: Callable[[], Any], within: float = 10.0) -> Any:
        deadline = asyncio.get_running_loop().time() + within
        while not (result := condition()):
            assert asyncio.get_running_loop().time() < deadline, "the condition did not hold in time"
            await asyncio.sleep(0.01)
        return result

    return wait


@pytest.fixture
def no_waits() -> Iterator[None]:
    """Lets every retry follow at once; their number stays."""
    with stamina.set_testing(True, attempts=1000, cap=True):
        yield
