"""Phases of a feed, as `status.phase` and `k2 status` report them."""

from typing import Final, Literal, get_args

Phase = Literal["Pending", "Progressing", "Running", "Degraded", "Suspended", "Failed", "Deleting"]

PHASES: Final[tuple[Phase, ...]] = get_args(Phase)
STOPPED: Final = "Stopped"  # only embedded: the platform does not run
