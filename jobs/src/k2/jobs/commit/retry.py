"""Retries of Iceberg commits that lost an optimistic-concurrency conflict."""

from collections.abc import Callable
from typing import Final, TypeVar

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException

from k2.common.retry import RetryingCaller

ERRORS: Final = (Py4JError, PySparkException)

_CONFLICT_MESSAGES: Final = (
    "ValidationException",
    "CommitFailedException",
    "Found conflicting files",
    "Found new conflicting",
)
_retrying: Final = RetryingCaller(attempts=10, timeout=None, wait_initial=0.5, wait_max=20.0)
_Result = TypeVar("_Result")


class CommitConflict(Exception):
    """Another writer committed the same change first."""


def is_conflict(error: BaseException) -> bool:
    """Whether a commit failed because of a concurrent one: nothing was written, and it can be retried."""
    message = str(error)
    return isinstance(error, CommitConflict) or any(text in message for text in _CONFLICT_MESSAGES)


def retry_on_conflict(commit: Callable[[], _Result]) -> _Result:
    """Call `commit`, again after a conflict with another writer, at most ten times; return its result."""
    return _retrying(lambda error: isinstance(error, ERRORS) and is_conflict(error), commit)
