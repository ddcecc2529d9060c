"""Stopping what DuckDB does from another thread: of a client that has gone, or of a question that takes too long.

stop = Interrupt()
with stop.able():
    engine.trades(...)  # in one thread
stop()  # in another: the question ends with an error, at once
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock
from typing import TYPE_CHECKING

from k2.query.errors import Unavailable

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_current: ContextVar["Interrupt | None"] = ContextVar("k2_query_interrupt", default=None)


class Interrupt:
    """Ends every question that is asked under it, now and later. Any thread may call it, any number of times."""

    def __init__(self) -> None:
        self._connections: list[DuckDBPyConnection] = []
        self._stopped = False
        self._lock = Lock()

    def __call__(self) -> None:
        """Stops what runs."""
        import duckdb

        with self._lock:
            self._stopped = True
            for connection in self._connections:
                try:
                    connection.interrupt()
                except duckdb.ConnectionException:  # it ended by itself
                    continue

    @contextmanager
    def able(self) -> Iterator[None]:
        """What is asked in here can be stopped."""
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)

    def adopt(self, connection: "DuckDBPyConnection") -> None:
        """Takes a connection in, or ends its question before it began."""
        with self._lock:
            if self._stopped:
                raise Unavailable("the question was given up")
            self._connections.append(connection)


def adopt(connection: "DuckDBPyConnection") -> None:
    """Lets whoever asks stop what runs on a connection."""
    if (current := _current.get()) is not None:
        current.adopt(connection)
