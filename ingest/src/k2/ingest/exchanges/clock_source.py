"""How an exchange tells its time over REST: a request, and where the time stands in the answer. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import msgspec

from k2.ingest.exchanges.answers import RestAnswers
from k2.ingest.exchanges.base import DECODE_ERRORS, MalformedFrame, Request

_LATEST: Final = 253_402_300_799 * 10**6  # the end of the year 9999


@dataclass(frozen=True, slots=True)
class ClockSource:
    """The request for an exchange's time, and the reader of its answer.

    `read` returns UTC microseconds, truncated to `resolution` seconds. It raises `RestRefused` or `MalformedFrame`.
    """

    request: Request
    read: Callable[[bytes], int]
    resolution: float


def clock_source(
    path: str, fields: Sequence[str | int], answers: RestAnswers, *, micros: Decimal, resolution: float
) -> ClockSource:
    """Return the source whose answer has the time below `fields`, in units of so many `micros`."""

    def read(body: bytes) -> int:
        try:
            value: Any = msgspec.json.decode(body)
            for field in fields:
                value = value[field]
            time = int(Decimal(str(value)) * micros)
        except (*DECODE_ERRORS, LookupError, TypeError, ValueError, InvalidOperation, OverflowError) as error:
            answers.check(body)
            raise MalformedFrame(f"no time in an answer of {len(body)} bytes") from error
        if not 0 < time <= _LATEST:
            raise MalformedFrame(f"time {value!r} is not between 1970 and 9999")
        return time

    return ClockSource(Request(path, {}), read, resolution)
