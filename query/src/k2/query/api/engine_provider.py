"""The engine, opened when it is first needed: the API may be there before the catalog is."""

from threading import Lock

from k2.common.platform import Platform
from k2.query.engine import Engine


class Lakehouse:
    """One engine for all requests."""

    def __init__(self, platform: Platform, memory: str, statements: int) -> None:
        self.platform = platform
        self._memory, self._statements = memory, statements
        self._engine: Engine | None = None
        self._lock = Lock()

    def engine(self) -> Engine:
        """The engine. Raises `Unavailable` while there is no catalog; asked again, it tries again."""
        with self._lock:
            if self._engine is None:
                self._engine = Engine(self.platform, memory=self._memory, statements=self._statements, live=True)
            return self._engine

    def close(self) -> None:
        """Lets go of it."""
        with self._lock:
            if self._engine is not None:
                self._engine.close()
                self._engine = None
