"""The real API on a free port, with its console."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from k2.common.platform import Platform
from k2.query.api.server import server
from k2.query.api.settings import ApiSettings


@contextmanager
def serving(platform: Platform, **settings: Any) -> Iterator[str]:
    """Serve the API while the context is open, and yield its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    overrides = {"port": port, "query_timeout": 180.0, **settings}  # test machines are busy
    running = server(ApiSettings.read(**overrides), platform)
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    try:
        while not running.started:
            assert thread.is_alive(), "the server ended"
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        running.should_exit = True
        thread.join(30)
