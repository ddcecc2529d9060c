"""A server of aiohttp in a thread of its own, for tests whose clients block."""

import asyncio
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web


@contextmanager
def serve(app: web.Application, context: ssl.SSLContext | None = None) -> Iterator[str]:
    """Serve an application on a free port of this machine, with TLS if there is a `context`; give its URL."""
    loop, started, ports, runner = asyncio.new_event_loop(), threading.Event(), list[int](), web.AppRunner(app)

    async def start() -> None:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        ports.append(runner.addresses[0][1])
        started.set()

    def run() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(start())
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    assert started.wait(30)
    try:
        yield f"{'http' if context is None else 'https'}://127.0.0.1:{ports[0]}"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
