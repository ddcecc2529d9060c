"""The schema registry of a platform that does not run, for a command that needs its schemas."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from aiohttp import web

from k2.cli.embedded import integrity
from k2.cli.embedded.layout import Layout
from k2.cli.embedded.ports import HOST
from k2.cli.embedded.registry import application
from k2.cli.embedded.schema_store import SchemaStore

_START_TIMEOUT: Final = 30.0  # seconds


@contextmanager
def registry(layout: Layout) -> Iterator[int]:
    """Serve the registry of a folder, and keep `k2 up` away meanwhile; yield the port. Raises `Unusable`."""
    with integrity.lock(layout):
        loop, runner = asyncio.new_event_loop(), web.AppRunner(application(SchemaStore(layout.registry)))
        started, ports = threading.Event(), list[int]()

        async def start() -> None:
            await runner.setup()
            await web.TCPSite(runner, HOST, 0).start()
            ports.append(int(runner.addresses[0][1]))
            started.set()

        def serve() -> None:
            asyncio.set_event_loop(loop)
            loop.run_until_complete(start())
            loop.run_forever()
            loop.run_until_complete(runner.cleanup())
            loop.close()

        thread = threading.Thread(target=serve, name="registry", daemon=True)
        thread.start()
        if not started.wait(_START_TIMEOUT):
            raise integrity.Unusable(f"the schema registry of {layout.root} does not start; see {layout.registry}")
        try:
            yield ports[0]
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
