"""Cancel running DuckDB queries from another thread: the client disconnected, or a query exceeds its time limit.

stop = Interrupt()
with stop.scope():
    engine.trades(...)  # in one thread
stop()  # in another: the query fails at once
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock
from typing import TYPE_CHECKING, Protocol

from k2.query.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator


_active: ContextVar[Interrupt | None] = ContextVar("k2_query_interrupt", default=None)


class Interruptible(Protocol):
    """What runs a query: a connection to DuckDB, or the process of a statement."""

    def interrupt(self) -> None:
        """Fail the running query."""


class Interrupt:
    """Cancel every query started in its scope, now and later. Thread-safe and idempotent."""

    def __init__(self) -> None:
        self._connections: list[Interruptible] = []
        self._stopped = False
        self._lock = Lock()

    def __call__(self) -> None:
        """Cancel the running queries."""
        import duckdb

        with self._lock:
            self._stopped = True
            for connection in self._connections:
                try:
                    connection.interrupt()
                except duckdb.ConnectionException:  # already closed
                    continue

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Make the queries that are started in this context cancellable."""
        token = _active.set(self)
        try:
            yield
        finally:
            _active.reset(token)

    def register(self, connection: Interruptible) -> None:
        """Add a connection. Raises `Unavailable` if already cancelled."""
        with self._lock:
            if self._stopped:
                raise Unavailable("the query was cancelled")
            self._connections.append(connection)


def register(connection: Interruptible) -> None:
    """Add a connection to the active `Interrupt`, if there is one."""
    if (current := _active.get()) is not None:
        current.register(connection)
