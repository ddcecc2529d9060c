"""The query engine of the API, opened on first use: the API may start before the catalog exists."""

from threading import Lock

from k2.common.platform import Platform
from k2.query.api.settings import ApiSettings
from k2.query.engine import Engine


class EngineProvider:
    """Open one engine lazily and share it among all requests."""

    def __init__(self, platform: Platform, settings: ApiSettings) -> None:
        self.platform = platform
        self._settings = settings
        self._engine: Engine | None = None
        self._lock = Lock()

    def engine(self) -> Engine:
        """Return the engine. Raises `Unavailable` while there is no catalog; the next call retries."""
        with self._lock:
            if self._engine is None:
                self._engine = Engine(
                    self.platform,
                    memory=self._settings.memory,
                    limits=self._settings.sql_limits,
                    warm=self._settings.max_statements,
                    live=True,
                )
            return self._engine

    def tail_conflicts(self) -> int:
        """Return the number of conflicts that the last hybrid query left out; 0 before the first query."""
        engine = self._engine
        return engine.tail_conflicts if engine is not None else 0

    def close(self) -> None:
        """Close the engine if it is open."""
        with self._lock:
            if self._engine is not None:
                self._engine.close()
                self._engine = None
