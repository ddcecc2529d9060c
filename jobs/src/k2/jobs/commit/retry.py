"""Retries of Iceberg commits that lost an optimistic-concurrency conflict."""

import random
import time
from collections.abc import Callable
from typing import Final, TypeVar

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException

from k2.common import logs

log = logs.get("conflicts")

ERRORS: Final = (Py4JError, PySparkException)

_CONFLICT_MESSAGES: Final = (
    "ValidationException",
    "CommitFailedException",
    "Found conflicting files",
    "Found new conflicting",
)
_ATTEMPTS: Final = 10
_FIRST_PAUSE: Final = 0.5  # seconds
_LONGEST_PAUSE: Final = 20.0
_Result = TypeVar("_Result")


class CommitConflict(Exception):
    """Another writer committed the same change first."""


def is_conflict(error: BaseException) -> bool:
    """Whether a commit failed because of a concurrent one: nothing was written, and it can be retried."""
    message = str(error)
    return isinstance(error, CommitConflict) or any(text in message for text in _CONFLICT_MESSAGES)


def retry_on_conflict(commit: Callable[[], _Result]) -> _Result:
    """Call `commit`, again after a conflict with another writer, at most ten times; return its result."""
    for attempt in range(1, _ATTEMPTS):
        try:
            return commit()
        except ERRORS as error:
            if not is_conflict(error):
                raise
            pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0**attempt) * random.uniform(0.5, 1.0)
            log.info("commit conflict, retrying", attempt=attempt, seconds=round(pause, 1))
            time.sleep(pause)
    return commit()
