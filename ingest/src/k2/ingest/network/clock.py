"""Compare this machine's clock with the exchange's: at start, and every ten minutes."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from k2.common import logs
from k2.ingest.backfill.rest import RestClient, RestUnreachable
from k2.ingest.exchanges.base import MalformedFrame, RestRefused
from k2.ingest.exchanges.clock_source import ClockSource

log = logs.get("clock")

TOLERANCE: Final = 1.0  # seconds
FAILURES: Final = (RestUnreachable, RestRefused, MalformedFrame)  # of `measure`
_INTERVAL: Final = 600.0
_RETRY: Final = 60.0


@dataclass(frozen=True, slots=True)
class ClockOffset:
    """How far this machine's clock is ahead of the exchange's, in seconds; wrong by at most `error`."""

    seconds: float
    error: float

    @property
    def wrong(self) -> bool:
        """Whether the clock is surely off by more than a second."""
        return abs(self.seconds) - self.error > TOLERANCE


def offset(read_at: float, elapsed: float, exchange: int, resolution: float) -> ClockOffset:
    """Return the offset that an answer shows: the exchange read its clock at some time between request and answer.

    `read_at` is when the answer was read, in seconds of this machine's UTC, `elapsed` how long it took; `exchange` is
    the exchange's time in UTC microseconds, truncated to `resolution` seconds.
    """
    shown = exchange / 1e6 + resolution / 2
    return ClockOffset(read_at - elapsed / 2 - shown, elapsed / 2 + resolution / 2)


async def measure(source: ClockSource, rest: RestClient, utc: Callable[[], float] = time.time) -> ClockOffset:
    """Ask the exchange for its time. Raises `FAILURES`."""

    def read(body: bytes) -> tuple[float, int]:
        return utc(), source.read(body)

    (read_at, exchange), elapsed = await rest.fetch_timed(source.request, read)
    return offset(read_at, elapsed, exchange, source.resolution)


async def follow(source: ClockSource, rest: RestClient, report: Callable[[ClockOffset], None]) -> None:
    """Measure and report until cancelled. An exchange that does not answer is asked again, the last result stays."""
    while True:
        try:
            measured = await measure(source, rest)
        except FAILURES as error:
            log.warning("clock not compared", error=str(error))
            await asyncio.sleep(_RETRY)
            continue
        if measured.wrong:
            log.error("clock is off", seconds=round(measured.seconds, 3), error=round(measured.error, 3))
        report(measured)
        await asyncio.sleep(_INTERVAL)
