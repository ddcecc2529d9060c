"""The phase of a feed, derived from its conditions."""

from collections.abc import Iterable
from typing import Final

from k2.operator.observed.conditions import READY, SYMBOLS_REFUSED, Condition
from k2.schemas.feed.phases import Phase

# The feed cannot run until a user changes it.
TERMINAL_REASONS: Final = frozenset({"InvalidSpec", "TopicConflict"})


def phase(conditions: Iterable[Condition], *, deleting: bool = False) -> Phase:
    """Return the feed's phase. `Ready` must be among the conditions."""
    if deleting:
        return "Deleting"
    by_type = {condition.type: condition for condition in conditions}
    ready = by_type.pop(READY)
    by_type.pop(SYMBOLS_REFUSED, None)  # it is no part
    if ready.status == "True":
        return "Running"
    if not ready.transient:
        return "Failed" if ready.reason in TERMINAL_REASONS else "Degraded"
    if ready.reason == "Suspended":
        return "Suspended"
    return "Pending" if all(condition.reason == "Creating" for condition in by_type.values()) else "Progressing"
