"""A client for simulated exchanges."""

from collections.abc import AsyncIterator

import aiohttp
import pytest


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """A client without any knowledge of K2."""
    async with aiohttp.ClientSession() as session:
        yield session
