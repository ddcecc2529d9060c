"""The pods of these Jobs: Spark in one process, with the feed's file and the tables' credentials."""

from collections.abc import Sequence
from typing import Any, Final

from k2.operator.desired.naming import Manifest, config_name, selector
from k2.operator.desired.pods import (
    FEED_FILE,
    container_security,
    empty_dir,
    feed_volume,
    placement,
    pod_security,
    volumes,
)
from k2.operator.desired.spark import catalog_token, environment, jobs_client
from k2.operator.quantities import mebibytes
from k2.operator.settings import Settings
from k2.schemas.feed.model import ExchangeFeed

_HEAP: Final = 0.6  # of the memory limit; the rest is for Python and the JVM's non-heap memory


def job_pod(
    feed: ExchangeFeed, settings: Settings, component: str, command: Sequence[str], *arguments: str
) -> Manifest:
    """Build the pod template of a Job that runs a command on the feed."""
    annotations = {"annotations": dict(settings.pod_annotations)} if settings.pod_annotations else {}
    labels = {"labels": settings.pod_labels | selector(feed, component), **annotations}
    return {"metadata": labels, "spec": _pod(feed, settings, component, command, arguments)}


def _pod(
    feed: ExchangeFeed, settings: Settings, component: str, command: Sequence[str], arguments: Sequence[str]
) -> Manifest:
    feed_file, mount = feed_volume(config_name(feed))
    pairs = [empty_dir("tmp", "/tmp"), empty_dir("work", "/opt/spark/work-dir")]  # noqa: S108 - emptyDirs
    memory, kafka = settings.combined_memory, jobs_client(settings)
    more_volumes, more_mounts = volumes(settings)
    token, token_mounts = catalog_token(settings)
    container = {
        "name": component,
        "image": settings.jobs_image,
        "imagePullPolicy": settings.image_pull_policy,
        "command": list(command),
        "args": [*("--feed", FEED_FILE), *("--memory", f"{int(mebibytes(memory) * _HEAP)}m"), *arguments],
        "env": environment(settings),
        "resources": {"requests": {"cpu": settings.spark_cpu, "memory": memory}, "limits": {"memory": memory}},
        "securityContext": container_security(settings),
        "volumeMounts": [mount, *(mount for _, mount in pairs), *kafka.mounts, *more_mounts, *token_mounts],
    }
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "serviceAccountName": settings.spark_service_account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": pod_security(settings, settings.spark_user),
        "volumes": [feed_file, *(volume for volume, _ in pairs), *kafka.volumes, *more_volumes, *token],
        "containers": [container],
        **placement(feed, settings, selector(feed, component)),
    }
    if settings.image_pull_secrets:
        pod["imagePullSecrets"] = [{"name": name} for name in settings.image_pull_secrets]
    return pod
