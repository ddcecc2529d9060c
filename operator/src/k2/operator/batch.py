"""Keys that are handed over together when no more come: what is asked for often meanwhile is done once."""

import asyncio
from collections.abc import Callable, Iterable

from k2.operator.api.write_cache import FeedKey


class Batch:
    """Collects keys of feeds. To be used in an event loop."""

    def __init__(self, quiet: float, longest: float, hand_over: Callable[[FeedKey], None]) -> None:
        """Call `hand_over` with each key, `quiet` seconds after the last one or `longest` after the first."""
        self._quiet, self._longest, self._hand_over = quiet, longest, hand_over
        self._keys: set[FeedKey] = set()
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def add(self, keys: Iterable[FeedKey]) -> None:
        """Hand keys over with the others of this batch."""
        if not (added := set(keys)):
            return
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._keys |= added
        if self._timer is None:
            self._deadline = now + self._longest
        elif now < self._deadline:
            self._timer.cancel()
        else:
            return  # it is about to end
        self._timer = loop.call_at(min(now + self._quiet, self._deadline), self._end)

    def _end(self) -> None:
        keys, self._keys, self._timer = self._keys, set(), None
        for key in sorted(keys):
            self._hand_over(key)
