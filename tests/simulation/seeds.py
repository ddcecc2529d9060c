"""What the tests of seeds share."""

from collections.abc import Iterable

from tests.simulation.world import Outcome, simulate

_MOST_REPORTED = 5


def check(seeds: Iterable[int]) -> None:
    """Simulate histories. Raises AssertionError with each seed that went wrong, and how to repeat it."""
    if failed := [outcome for outcome in map(simulate, seeds) if outcome.violations]:
        raise AssertionError("\n".join(report(outcome) for outcome in failed[:_MOST_REPORTED]))


def report(outcome: Outcome) -> str:
    """Return what went wrong in a history, and how to repeat it."""
    lines = [f"seed {outcome.seed} ({outcome.exchange}; {', '.join(outcome.faults)}), {outcome.digest[:12]}:"]
    lines += [f"  {violation}" for violation in outcome.violations[:_MOST_REPORTED]]
    return "\n".join([*lines, f"  again: make simulation SEEDS={outcome.seed} TRACE=1"])
