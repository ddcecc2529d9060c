"""The Job that builds Silver and Gold of a feed again."""

from typing import Any, Final

from k2.operator.desired.jobs.pod import job_pod
from k2.operator.desired.naming import COMBINED, LAYERS, REBUILD, Manifest, metadata
from k2.operator.settings import Settings
from k2.schemas.feed.model import ExchangeFeed

COMMAND: Final = ["python", "-m", "k2.jobs.rebuild", "silver"]  # and then Gold

_BACKOFF_LIMIT: Final = 2  # retries: a rebuild that was interrupted can be repeated
_TTL: Final = 86400  # seconds in which a finished Job's log can be read


def rebuild_nonce(feed: ExchangeFeed) -> int:
    """Return the number of the rebuild that the feed asks for."""
    return feed.spec.rebuild_nonce or 0


def rebuild_name(feed: ExchangeFeed) -> str:
    """Return the name of the Job that carries out the feed's `rebuildNonce`."""
    return f"{feed.name}-{REBUILD}-{rebuild_nonce(feed)}"


def rebuilt_parts(feed: ExchangeFeed) -> tuple[str, ...]:
    """Return the parts that do not run meanwhile: Silver and Gold, or the application that runs all layers."""
    return (COMBINED,) if feed.spec.layers.topology == "Combined" else LAYERS[1:]


def rebuild_job(feed: ExchangeFeed, settings: Settings) -> Manifest:
    """Build the Job. It has no deadline: how long it takes depends on how much data there is."""
    spec: dict[str, Any] = {
        "backoffLimit": _BACKOFF_LIMIT,
        "ttlSecondsAfterFinished": _TTL,
        "template": job_pod(feed, settings, REBUILD, COMMAND),
    }
    about = metadata(feed, rebuild_name(feed), REBUILD)
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": about, "spec": spec}
