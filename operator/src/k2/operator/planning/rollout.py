"""How a changed SparkApplication gets in without losing a batch, and gets out again if it does not work.

A state machine over values: what is remembered of the application, what is seen of it now, the time. It returns what
to do and what to remember; the caller does the one and stores the other.

    steady --new spec--> stopping --stopped, or out of time--> starting --healthy--> steady, and this spec is stable
                                                                  `--out of time--> the last stable spec is applied
"""

from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final, Literal

from k2.operator.observed.objects import Application, moment

STOP_WITHIN: Final = timedelta(minutes=2)
START_WITHIN: Final = timedelta(minutes=10)
STUCK_AFTER: Final = timedelta(minutes=5)
COOL_DOWN: Final = timedelta(minutes=30)

_PENDING_RERUN: Final = "PENDING_RERUN"


class Action(StrEnum):
    """What to do with an application."""

    KEEP = "keep"
    STOP = "stop"  # suspend it: at a batch's end if there is time
    APPLY = "apply"  # the desired spec
    ROLL_BACK = "roll back"  # apply the last stable spec
    RECREATE = "recreate"  # delete it and apply it again


@dataclass(frozen=True, slots=True)
class Memory:
    """What is remembered of one application. Specs are remembered by their hash; times are RFC 3339."""

    stage: Literal["steady", "stopping", "starting"] = "steady"
    since: str = ""
    trying: str = ""  # the spec that was applied last
    stable: str = ""  # the last spec that was healthy
    refused: str = ""  # a spec that was rolled back, not tried again until it changes

    def document(self) -> dict[str, str]:
        """The memory as an annotation holds it, in JSON."""
        return {name: value for name, value in asdict(self).items() if value}

    @classmethod
    def parse(cls, raw: dict[str, Any]) -> "Memory":
        """The memory in an annotation; what a newer version added is left out."""
        return cls(**{name: value for name, value in raw.items() if name in cls.__slots__})


@dataclass(frozen=True, slots=True)
class Seen:
    """The application as it is now: the hash of its spec, empty if it is not there."""

    running: str
    healthy: bool
    stopped: bool  # no driver runs


@dataclass(frozen=True, slots=True)
class Step:
    """What to do, and what to remember from now on."""

    action: Action
    memory: Memory
    message: str = ""


def step(desired: str, seen: Seen, memory: Memory, now: datetime) -> Step:
    """The next step towards a desired spec, by its hash."""
    if not seen.running:
        # Deleted by hand, or new: nothing runs that could be stopped.
        wanted = memory.stable if desired == memory.refused and memory.stable else desired
        action = Action.APPLY if wanted == desired else Action.ROLL_BACK
        return Step(action, _start(memory, wanted, now))
    match memory.stage:
        case "stopping":
            return _stopping(desired, seen, memory, now)
        case "starting":
            return _starting(desired, seen, memory, now)
    return _steady(desired, seen, memory, now)


def _steady(desired: str, seen: Seen, memory: Memory, now: datetime) -> Step:
    if seen.running == desired:
        stable = desired if seen.healthy else memory.stable
        return Step(Action.KEEP, replace(memory, trying=desired, stable=stable, refused=""))
    if desired == memory.refused:
        return Step(Action.KEEP, memory, _REFUSED)
    if seen.stopped or not seen.healthy:
        # What does not work has no batch to finish.
        return Step(Action.APPLY, _start(memory, desired, now))
    return Step(Action.STOP, replace(memory, stage="stopping", since=_text(now), stable=seen.running, refused=""))


def _stopping(desired: str, seen: Seen, memory: Memory, now: datetime) -> Step:
    if desired == seen.running or seen.stopped or _past(memory, STOP_WITHIN, now):
        # The same spec may be desired again: applying it takes the suspension back.
        return Step(Action.APPLY, _start(memory, desired, now))
    return Step(Action.STOP, memory, "waiting for the end of a batch")


def _starting(desired: str, seen: Seen, memory: Memory, now: datetime) -> Step:
    if desired not in {memory.trying, memory.refused}:
        return Step(Action.APPLY, _start(memory, desired, now))
    if seen.running != memory.trying:
        # An apply that was decided on and did not happen: the operator ended in between.
        return Step(Action.ROLL_BACK if memory.trying == memory.stable else Action.APPLY, memory)
    if seen.healthy:
        return Step(Action.KEEP, replace(memory, stage="steady", since="", stable=memory.trying))
    if not _past(memory, START_WITHIN, now):
        return Step(Action.KEEP, memory, "waiting for its first batch")
    if memory.stable in {"", memory.trying}:
        return Step(Action.KEEP, memory, "it does not start, and there is no earlier spec to go back to")
    back = replace(_start(memory, memory.stable, now), refused=memory.trying)
    return Step(Action.ROLL_BACK, back, _REFUSED)


_REFUSED: Final = "the new spec did not become healthy within 10 minutes; the last that did runs again until it changes"


def _start(memory: Memory, spec: str, now: datetime) -> Memory:
    refused = memory.refused if spec == memory.stable else ""
    return replace(memory, stage="starting", since=_text(now), trying=spec, refused=refused)


@dataclass(frozen=True, slots=True)
class Watch:
    """What the watchdog remembers of one application; times are RFC 3339."""

    stuck_since: str = ""
    recreated_at: str = ""


def watch(
    found: Application,
    memory: Watch,
    now: datetime,
    stuck_after: timedelta = STUCK_AFTER,
    cool_down: timedelta = COOL_DOWN,
) -> tuple[Action, Watch, bool]:
    """What to do with an application in PENDING_RERUN, what to remember, and whether it needs a person.

    The Spark operator may leave one there for ever when the old driver's pod is slow to go. It is made anew once;
    again only after a while, so that the watchdog is never itself the storm.
    """
    if found.state != _PENDING_RERUN:
        return Action.KEEP, replace(memory, stuck_since=""), False
    since = memory.stuck_since or _text(now)
    stuck = replace(memory, stuck_since=since)
    if now - moment(since) < stuck_after:
        return Action.KEEP, stuck, False
    if memory.recreated_at and now - moment(memory.recreated_at) < cool_down:
        return Action.KEEP, stuck, True
    return Action.RECREATE, Watch("", _text(now)), False


def _past(memory: Memory, limit: timedelta, now: datetime) -> bool:
    return not memory.since or now - moment(memory.since) >= limit


def _text(now: datetime) -> str:
    return now.isoformat(timespec="seconds")
