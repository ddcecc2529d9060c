"""Leader election by a Lease: pure decisions on the stored record and two clocks.

Clocks of other machines are not compared: a record counts as abandoned when it has not changed for its duration as this
process measures it, and a leader gives up before that.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

DURATION: Final = 12  # seconds without a renewal until another process may take the lease
DEADLINE: Final = 9.0  # seconds since the last renewal until the leader writes no more


@dataclass(frozen=True, slots=True)
class Instant:
    """A time on two clocks, in seconds. The monotonic one stands still while a machine sleeps; the other may be set."""

    monotonic: float
    wall: float

    def since(self, earlier: "Instant") -> float:
        """Return the seconds since an earlier time, on the clock on which more have passed."""
        return max(self.monotonic - earlier.monotonic, self.wall - earlier.wall)


@dataclass(frozen=True, slots=True)
class Observation:
    """A record as it was first seen."""

    version: str = ""
    first: Instant = Instant(0.0, 0.0)


def observe(lease: Mapping[str, Any], before: Observation, now: Instant) -> Observation:
    """Return when this version of the record was first seen."""
    version = str(lease["metadata"].get("resourceVersion", ""))
    return before if version == before.version else Observation(version, now)


def holder(lease: Mapping[str, Any] | None) -> str:
    """Return who has the lease; empty if nobody has."""
    return str(((lease or {}).get("spec") or {}).get("holderIdentity") or "")


def may_take(lease: Mapping[str, Any], identity: str, observation: Observation, now: Instant) -> bool:
    """Return whether a process may write itself into the record: it is its own, released, or abandoned."""
    if holder(lease) in {"", identity}:
        return True
    # Only the monotonic clock: a clock that is set forwards must not depose a leader.
    return now.monotonic - observation.first.monotonic > float(
        (lease.get("spec") or {}).get("leaseDurationSeconds") or DURATION
    )


def is_valid(renewed: Instant | None, now: Instant) -> bool:
    """Return whether a leader that renewed its lease at that time may still write."""
    return renewed is not None and now.since(renewed) < DEADLINE


def record(lease: Mapping[str, Any] | None, identity: str, time: str) -> dict[str, Any]:
    """Return the spec of the record with a holder, at a time in RFC 3339 with microseconds; empty: it is released."""
    spec = dict((lease or {}).get("spec") or {})
    if identity and spec.get("holderIdentity") != identity:
        spec |= {"acquireTime": time, "leaseTransitions": int(spec.get("leaseTransitions") or 0) + bool(lease)}
    return spec | {"holderIdentity": identity, "leaseDurationSeconds": DURATION, "renewTime": time}
