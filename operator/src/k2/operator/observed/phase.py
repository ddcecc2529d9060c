"""One word for a feed, from its conditions."""

from collections.abc import Iterable
from typing import Final, Literal

from k2.operator.observed.conditions import READY, Condition

Phase = Literal["Pending", "Progressing", "Running", "Degraded", "Suspended", "Failed", "Deleting"]

# A feed that cannot run until somebody changes it.
HOPELESS: Final = frozenset({"InvalidSpec", "TopicConflict"})


def phase(conditions: Iterable[Condition], *, deleting: bool = False) -> Phase:
    """The feed's phase. `Ready` is among the conditions."""
    if deleting:
        return "Deleting"
    known = {found.type: found for found in conditions}
    whole = known.pop(READY)
    if whole.status == "True":
        return "Running"
    if not whole.passing:
        return "Failed" if whole.reason in HOPELESS else "Degraded"
    if whole.reason == "Suspended":
        return "Suspended"
    return "Pending" if all(found.reason == "Creating" for found in known.values()) else "Progressing"
