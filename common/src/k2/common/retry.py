"""Retries of single calls, with exponential backoff and jitter. The only module that imports stamina.

Tests call `stamina.set_testing`, and then no retry waits.
"""

from stamina import AsyncRetryingCaller, RetryingCaller
from stamina.instrumentation import RetryDetails, set_on_retry_hooks

from k2.common import logs

__all__ = ["AsyncRetryingCaller", "RetryingCaller"]

log = logs.get("retry")


def _log(details: RetryDetails) -> None:
    error = str(details.caused_by) or type(details.caused_by).__name__
    # The first line: errors of Java carry their stack.
    log.warning(
        "retrying", error=error.partition("\n")[0][:200], attempt=details.retry_num, seconds=round(details.wait_for, 1)
    )


# In place of stamina's own hooks, which log all arguments and count in a registry that is not exported.
set_on_retry_hooks([_log])
