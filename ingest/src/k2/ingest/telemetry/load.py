"""The load of an ingest process: the records that it receives per second, and by how much its event loop is late."""

from typing import Final

from k2.ingest.telemetry.stats import Stats

_SMOOTHING: Final = 0.2


class LoadMeter:
    """Measures between two calls of `sample`, which are to be `interval` seconds apart."""

    def __init__(self, stats: Stats, interval: float, now: float) -> None:
        self._stats, self._interval = stats, interval
        self._received, self._at = sum(stats.received.values()), now

    def sample(self, now: float) -> None:
        """Update the rate and the lag. `now` is monotonic, in seconds."""
        stats, received, elapsed = self._stats, sum(self._stats.received.values()), now - self._at
        stats.rate += _SMOOTHING * ((received - self._received) / max(elapsed, self._interval) - stats.rate)
        stats.loop_lag += _SMOOTHING * (max(0.0, elapsed - self._interval) - stats.loop_lag)
        self._received, self._at = received, now
