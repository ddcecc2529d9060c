"""State machine that rolls out a changed SparkApplication without losing a batch, and rolls it back if it fails.

It works on values only: the stored rollout state, the observed application and the time. It returns the action to take
and the state to store; the caller takes the action and stores the state.

    steady --new spec--> stopping --stopped or timed out--> starting --healthy--> steady, and this spec is stable
                                                               `--timed out--> the last stable spec is applied
"""

from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final, Literal

from k2.operator.observed.objects import Application, parse_time

STOP_TIMEOUT: Final = timedelta(minutes=2)
START_TIMEOUT: Final = timedelta(minutes=10)
STUCK_AFTER: Final = timedelta(minutes=5)
COOL_DOWN: Final = timedelta(minutes=30)

_PENDING_RERUN: Final = "PENDING_RERUN"
_ROLLED_BACK: Final = (
    "the new spec did not become healthy within 10 minutes; the last stable spec runs until the spec changes"
)


class Action(StrEnum):
    """What to do with an application."""

    KEEP = "keep"
    STOP = "stop"  # suspend it: at the end of a batch if there is time
    APPLY = "apply"  # the desired spec
    ROLL_BACK = "roll back"  # apply the last stable spec
    RECREATE = "recreate"  # delete it and apply it again


@dataclass(frozen=True, slots=True)
class RolloutState:
    """Stored rollout state of one application. Specs are identified by their hash; times are RFC 3339."""

    stage: Literal["steady", "stopping", "starting"] = "steady"
    since: str = ""
    trying: str = ""  # the spec that was applied last
    stable: str = ""  # the last spec that was healthy
    refused: str = ""  # a spec that was rolled back; not tried again until the spec changes

    def document(self) -> dict[str, str]:
        """Return the state as a JSON object for an annotation."""
        return {name: value for name, value in asdict(self).items() if value}

    @classmethod
    def parse(cls, raw: dict[str, Any]) -> "RolloutState":
        """Read the state from an annotation; ignore fields that a newer version added."""
        return cls(**{name: value for name, value in raw.items() if name in cls.__slots__})


@dataclass(frozen=True, slots=True)
class ApplicationState:
    """The observed application: the hash of its spec (empty if it does not exist) and its health."""

    running: str
    healthy: bool
    stopped: bool  # no driver runs


@dataclass(frozen=True, slots=True)
class Step:
    """The action to take and the state to store."""

    action: Action
    state: RolloutState
    message: str = ""


def step(
    desired: str, observed: ApplicationState, state: RolloutState, now: datetime, *, suspended: bool = False
) -> Step:
    """Return the next step towards a desired spec, which is identified by its hash.

    What is `suspended` cannot become healthy: a new spec is tried when it is not any more.
    """
    if not observed.running:
        # New, or deleted by a user: there is no driver to stop.
        target = state.stable if desired == state.refused and state.stable else desired
        action = Action.APPLY if target == desired else Action.ROLL_BACK
        return Step(action, _start(state, target, now))
    if suspended and (state.stage != "steady" or observed.running != desired != state.refused):
        return Step(Action.STOP, replace(state, stage="stopping", since=""))
    match state.stage:
        case "stopping":
            return _stopping(desired, observed, state, now)
        case "starting":
            return _starting(desired, observed, state, now)
    return _steady(desired, observed, state, now)


def _steady(desired: str, observed: ApplicationState, state: RolloutState, now: datetime) -> Step:
    if observed.running == desired:
        stable = desired if observed.healthy else state.stable
        return Step(Action.KEEP, replace(state, trying=desired, stable=stable, refused=""))
    if desired == state.refused:
        return Step(Action.KEEP, state, _ROLLED_BACK)
    if observed.stopped or not observed.healthy:
        # An application that does not work has no batch to finish.
        return Step(Action.APPLY, _start(state, desired, now))
    return Step(Action.STOP, replace(state, stage="stopping", since=_text(now), stable=observed.running, refused=""))


def _stopping(desired: str, observed: ApplicationState, state: RolloutState, now: datetime) -> Step:
    if desired == observed.running or observed.stopped or _timed_out(state, STOP_TIMEOUT, now):
        # If the running spec is desired again, applying it reverts the suspension.
        return Step(Action.APPLY, _start(state, desired, now))
    return Step(Action.STOP, state, "waiting for the current batch to finish")


def _starting(desired: str, observed: ApplicationState, state: RolloutState, now: datetime) -> Step:
    if desired not in {state.trying, state.refused}:
        return Step(Action.APPLY, _start(state, desired, now))
    if observed.running != state.trying:
        # The state was stored but the spec was not applied: the operator stopped in between.
        return Step(Action.ROLL_BACK if state.trying == state.stable else Action.APPLY, state)
    if observed.healthy:
        return Step(Action.KEEP, replace(state, stage="steady", since="", stable=state.trying))
    if not _timed_out(state, START_TIMEOUT, now):
        return Step(Action.KEEP, state, "waiting for the first batch")
    if state.stable in {"", state.trying}:
        return Step(Action.KEEP, state, "the application does not start, and there is no earlier spec to roll back to")
    rolled_back = replace(_start(state, state.stable, now), refused=state.trying)
    return Step(Action.ROLL_BACK, rolled_back, _ROLLED_BACK)


def _start(state: RolloutState, spec: str, now: datetime) -> RolloutState:
    refused = state.refused if spec == state.stable else ""
    return replace(state, stage="starting", since=_text(now), trying=spec, refused=refused)


@dataclass(frozen=True, slots=True)
class StuckState:
    """How long one application has been in PENDING_RERUN, and when it was last recreated. Times are RFC 3339."""

    stuck_since: str = ""
    recreated_at: str = ""


def check_stuck(
    application: Application,
    state: StuckState,
    now: datetime,
    stuck_after: timedelta = STUCK_AFTER,
    cool_down: timedelta = COOL_DOWN,
) -> tuple[Action, StuckState, bool]:
    """Decide whether an application in PENDING_RERUN must be recreated.

    The Spark operator may leave an application in PENDING_RERUN for ever if the old driver's pod terminates slowly. It
    is recreated once, and again only after the cool-down, so that the watchdog never causes a restart storm itself.

    Returns:
        The action (KEEP or RECREATE), the state to remember, and whether manual intervention is needed.

    """
    if application.state != _PENDING_RERUN:
        return Action.KEEP, replace(state, stuck_since=""), False
    since = state.stuck_since or _text(now)
    stuck = replace(state, stuck_since=since)
    if now - parse_time(since) < stuck_after:
        return Action.KEEP, stuck, False
    if state.recreated_at and now - parse_time(state.recreated_at) < cool_down:
        return Action.KEEP, stuck, True
    return Action.RECREATE, StuckState("", _text(now)), False


def _timed_out(state: RolloutState, limit: timedelta, now: datetime) -> bool:
    return not state.since or now - parse_time(state.since) >= limit


def _text(now: datetime) -> str:
    return now.isoformat(timespec="seconds")
