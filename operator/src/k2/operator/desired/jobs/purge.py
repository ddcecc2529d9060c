"""The Job that purges a deleted feed's tables and checkpoints."""

from typing import Any, Final

from k2.operator.desired.jobs.pod import job_pod
from k2.operator.desired.naming import PURGE, Manifest, metadata
from k2.operator.settings import Settings
from k2.schemas.feed.model import ExchangeFeed
from k2.schemas.values import seconds

COMMAND: Final = ["python", "-m", "k2.jobs.purge"]

_BACKOFF_LIMIT: Final = 2  # retries within one Job; a failed Job is recreated
_TTL: Final = 3600  # seconds in which a finished Job's log can be read, while the feed exists


def purge_job(feed: ExchangeFeed, settings: Settings, *, exchange: bool) -> Manifest:
    """Build the Job. `exchange`: the feed is the last of its exchange, so shared data is purged too."""
    spec: dict[str, Any] = {
        "backoffLimit": _BACKOFF_LIMIT,
        "activeDeadlineSeconds": max(60, int(seconds(settings.deletion_deadline))),
        "ttlSecondsAfterFinished": _TTL,
        "template": job_pod(feed, settings, PURGE, COMMAND, *(("--exchange",) if exchange else ())),
    }
    about = metadata(feed, f"{feed.name}-{PURGE}", PURGE)
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": about, "spec": spec}
