"""Whether two records of one identity are the same: what a channel calls content, and the record's time.

A second record with the same content is a duplicate, and one with other content a conflict. Spark compares columns,
the audit and the queries values. Vendor data and the time of arrival never decide: they differ between connections.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

ID_CONFLICT: Final = "ID_CONFLICT"  # the category of the dead letters; such a record breaks no rule of its own

_MILLISECOND: Final = 1_000  # microseconds

# Copies whose times are closer than this always meet; copies that are further apart are found by the audit at the
# latest, since no file statistics would lead from one to the other.
SEARCH_MARGIN: Final = timedelta(minutes=1)


def same_time(first: Any, second: Any) -> Any:
    """Return whether two times are equal at the coarser precision of the two, as a value or a column of an engine.

    Both are UTC microseconds. A time in whole milliseconds may come from a source that has no others. No exchange has a
    source of whole seconds, and a time in whole seconds is usually a precise one.
    """
    rounded_first, rounded_second = first - first % _MILLISECOND, second - second % _MILLISECOND
    is_coarse = (first == rounded_first) | (second == rounded_second)
    return (first == second) | (is_coarse & (rounded_first == rounded_second))


def differences(
    columns: tuple[str, ...], first: Mapping[str, Any], second: Mapping[str, Any], times: tuple[int, int]
) -> tuple[str, ...]:
    """Return the `columns` in which two records differ, then "time" if their `times` (UTC microseconds) do."""
    differing = [name for name in columns if first[name] != second[name]]
    return (*differing, *(() if same_time(*times) else ("time",)))
