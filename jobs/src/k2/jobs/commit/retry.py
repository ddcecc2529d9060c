"""Writers that meet on one table: of two commits that touch the same rows one wins, and the other is told so."""

import random
import time
from collections.abc import Callable
from typing import Final, TypeVar

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException

from k2.common import logs

log = logs.get("conflicts")

ERRORS: Final = (Py4JError, PySparkException)

_WORDS: Final = ("ValidationException", "CommitFailedException", "Found conflicting files", "Found new conflicting")
_ATTEMPTS: Final = 10
_FIRST: Final = 0.5  # seconds
_LONGEST: Final = 20.0
_Result = TypeVar("_Result")


class CameFirst(Exception):
    """Another writer has done what was to be done."""


def lost(error: BaseException) -> bool:
    """Whether a commit failed because another came before it: nothing was written, and it may be tried again."""
    told = str(error)
    return isinstance(error, CameFirst) or any(word in told for word in _WORDS)


def until_won(act: Callable[[], _Result]) -> _Result:
    """What `act` returns; it is done again when another writer's commit came between, ten times at most."""
    for attempt in range(1, _ATTEMPTS):
        try:
            return act()
        except ERRORS as error:
            if not lost(error):
                raise
            pause = min(_LONGEST, _FIRST * 2.0**attempt) * random.uniform(0.5, 1.0)
            log.info("another writer came first", attempt=attempt, seconds=round(pause, 1))
            time.sleep(pause)
    return act()
