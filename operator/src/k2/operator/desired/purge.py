"""The Job that purges a deleted feed's tables and checkpoints."""

from typing import Any, Final

from k2.operator.desired.naming import PURGE, Manifest, config_name, metadata, selector
from k2.operator.desired.pods import (
    FEED_FILE,
    container_security,
    empty_dir,
    feed_volume,
    placement,
    pod_security,
    volumes,
)
from k2.operator.desired.spark import environment, jobs_client
from k2.operator.quantities import mebibytes
from k2.operator.settings import Settings
from k2.schemas.feed.model import ExchangeFeed
from k2.schemas.values import seconds

COMMAND: Final = ["python", "-m", "k2.jobs.purge"]

_BACKOFF_LIMIT: Final = 2  # retries within one Job; a failed Job is recreated
_TTL: Final = 3600  # seconds in which a finished Job's log can be read, while the feed exists
_HEAP: Final = 0.6  # of the memory limit; the rest is for Python and the JVM's non-heap memory


def purge_job(feed: ExchangeFeed, settings: Settings, *, exchange: bool) -> Manifest:
    """Build the Job. `exchange`: the feed is the last of its exchange, so shared data is purged too."""
    spec: dict[str, Any] = {
        "backoffLimit": _BACKOFF_LIMIT,
        "activeDeadlineSeconds": max(60, int(seconds(settings.deletion_deadline))),
        "ttlSecondsAfterFinished": _TTL,
        "template": {"metadata": _metadata(feed, settings), "spec": _pod(feed, settings, exchange=exchange)},
    }
    about = metadata(feed, f"{feed.name}-{PURGE}", PURGE)
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": about, "spec": spec}


def _metadata(feed: ExchangeFeed, settings: Settings) -> Manifest:
    annotations = {"annotations": dict(settings.pod_annotations)} if settings.pod_annotations else {}
    return {"labels": settings.pod_labels | selector(feed, PURGE), **annotations}


def _pod(feed: ExchangeFeed, settings: Settings, *, exchange: bool) -> Manifest:
    feed_file, mount = feed_volume(config_name(feed))
    pairs = [empty_dir("tmp", "/tmp"), empty_dir("work", "/opt/spark/work-dir")]  # noqa: S108 - emptyDirs
    memory, kafka = settings.combined_memory, jobs_client(settings)
    more_volumes, more_mounts = volumes(settings)
    container = {
        "name": PURGE,
        "image": settings.jobs_image,
        "imagePullPolicy": settings.image_pull_policy,
        "command": COMMAND,
        "args": [
            *("--feed", FEED_FILE),
            *("--memory", f"{int(mebibytes(memory) * _HEAP)}m"),
            *(("--exchange",) if exchange else ()),
        ],
        "env": environment(settings),
        "resources": {"requests": {"cpu": settings.spark_cpu, "memory": memory}, "limits": {"memory": memory}},
        "securityContext": container_security(settings),
        "volumeMounts": [mount, *(mount for _, mount in pairs), *kafka.mounts, *more_mounts],
    }
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "serviceAccountName": settings.spark_service_account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": pod_security(settings, settings.spark_user),
        "volumes": [feed_file, *(volume for volume, _ in pairs), *kafka.volumes, *more_volumes],
        "containers": [container],
        **placement(feed, settings, selector(feed, PURGE)),
    }
    if settings.image_pull_secrets:
        pod["imagePullSecrets"] = [{"name": name} for name in settings.image_pull_secrets]
    return pod
