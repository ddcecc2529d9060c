"""The real application over a small set of tables: real catalog and files, requests through ASGI."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest
from starlette.testclient import TestClient

from k2.cli.embedded.layout import Layout
from k2.query.api.app import create
from k2.query.api.server import run, server
from k2.query.api.settings import ApiSettings
from k2.query.iceberg import catalog, tables
from k2.schemas.channels import shared_tables
from tests.unit.query.conftest import Append, layout
from tests.unit.query.conftest import append as append_to_gold

__all__ = ["append_to_gold", "layout"]

Serve = Callable[..., TestClient]


@pytest.fixture
def append(layout: Layout, append_to_gold: Append) -> Append:
    """Append rows to Gold, with all tables that feeds share created."""
    with closing(catalog.connect(layout.platform())) as opened:
        tables.ensure(opened, shared_tables())
    return append_to_gold


@pytest.fixture
def serve(layout: Layout) -> Iterator[Serve]:
    """Return a client of an application with these settings."""
    with ExitStack() as stack:

        def serving(**settings: Any) -> TestClient:
            app = create(ApiSettings.read(**settings), layout.platform())
            client = TestClient(app, base_url="http://localhost", raise_server_exceptions=False)
            return stack.enter_context(client)

        yield serving


@pytest.fixture
def api(serve: Serve) -> TestClient:
    return serve()


@pytest.fixture
def running(layout: Layout) -> Iterator[Callable[..., str]]:
    """Start a real server on this machine with these settings, and return its URL."""
    with ExitStack() as stack:

        def started(**settings: Any) -> str:
            urls: list[str] = []
            http_server = server(ApiSettings.read(**settings | {"port": 0}), layout.platform())
            thread = threading.Thread(target=run, args=(http_server, urls.append))
            thread.start()
            stack.callback(thread.join)
            stack.callback(setattr, http_server, "should_exit", True)
            deadline = time.monotonic() + 60
            while not urls and thread.is_alive() and time.monotonic() < deadline:
                time.sleep(0.01)
            return urls[0]

        yield started
