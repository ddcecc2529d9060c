"""Deployments of a feed's ingest: one for each channel, shard and replica, each with one connection to the exchange."""

from decimal import Decimal
from typing import Any, Final

from k2.operator import quantities
from k2.operator.desired.config import ingest_hash
from k2.operator.desired.naming import (
    CONFIG_HASH,
    INGEST,
    METRICS,
    STATUS_PORT,
    Connection,
    Manifest,
    config_name,
    connections,
    labels,
    selector,
)
from k2.operator.desired.pods import (
    EGRESS_FILE,
    FEED_FILE,
    SHARDS_FILE,
    container_security,
    empty_dir,
    env_value,
    feed_volume,
    kafka_client,
    placement,
    pod_security,
    variables,
    volumes,
)
from k2.operator.settings import Settings
from k2.schemas.channels import TRADES
from k2.schemas.feed.model import ExchangeFeed, Resources
from k2.schemas.sharding import Counts

_GRACE: Final = 20  # seconds to flush; at most half of it again to commit what was received
_TERMINATION: Final = 45  # more than both


def ingest_deployments(feed: ExchangeFeed, settings: Settings, counts: Counts = ()) -> tuple[Manifest, ...]:
    """Build the Deployments of a feed; a shard without symbols has none. `counts` are as of `children`."""
    return tuple(ingest_deployment(feed, settings, connection) for connection in connections(feed, counts))


def ingest_deployment(feed: ExchangeFeed, settings: Settings, connection: Connection) -> Manifest:
    """Build the Deployment of one connection. Recreate: two pods at once would publish every record twice."""
    own = connection.labels
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": connection.name(feed),
            "namespace": feed.metadata.namespace,
            "labels": labels(feed, INGEST) | own,
        },
        "spec": {
            "replicas": 0 if feed.spec.suspend else 1,
            "revisionHistoryLimit": 2,
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": selector(feed, INGEST) | own},
            "template": {
                "metadata": {
                    "labels": settings.pod_labels | labels(feed, INGEST) | own,
                    "annotations": settings.pod_annotations | {CONFIG_HASH: ingest_hash(feed, connection.channel)},
                },
                "spec": _pod(feed, settings, connection),
            },
        },
    }


def _pod(feed: ExchangeFeed, settings: Settings, connection: Connection) -> Manifest:
    volume, mount = feed_volume(config_name(feed))
    scratch, scratch_mount = empty_dir("tmp", "/tmp")  # noqa: S108 - an emptyDir
    common_volumes, common_mounts = volumes(settings)
    kafka = kafka_client(settings, settings.kafka_ingest_secret, settings.kafka_ingest_user)
    mounts = [mount, scratch_mount, *common_mounts, *kafka.mounts]
    matched = selector(feed, INGEST) | connection.shard_labels
    pod: dict[str, Any] = {
        "serviceAccountName": settings.ingest_service_account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,  # a Service named k2-registry would set K2_REGISTRY_...
        "securityContext": pod_security(settings, settings.ingest_user),
        "terminationGracePeriodSeconds": _TERMINATION,
        "topologySpreadConstraints": [_spread(matched)],
        "volumes": [volume, scratch, *common_volumes, *kafka.volumes],
        "containers": [_container(feed, settings, connection, kafka.env, mounts)],
    }
    if settings.image_pull_secrets:
        pod["imagePullSecrets"] = [{"name": name} for name in settings.image_pull_secrets]
    return pod | placement(feed, settings, matched)


def _container(
    feed: ExchangeFeed, settings: Settings, connection: Connection, kafka: list[Manifest], mounts: list[Manifest]
) -> Manifest:
    arguments = ["--feed", FEED_FILE, "--shard", str(connection.shard), "--replica", str(connection.replica)]
    arguments += ["--egress", EGRESS_FILE, "--shards", SHARDS_FILE]
    if connection.channel is not TRADES:  # the default; arguments that change would restart the trades' pods
        arguments += ["--channel", connection.channel.name]
    if not settings.allow_private_endpoints:
        arguments.append("--public-addresses-only")
    return {
        "name": INGEST,
        "image": settings.ingest_image,
        "imagePullPolicy": settings.image_pull_policy,
        "command": ["python", "-m", "k2.ingest"],
        "args": [*arguments, "--host", "0.0.0.0", "--port", str(STATUS_PORT), "--grace", str(_GRACE)],  # noqa: S104
        "env": variables(
            settings,
            [
                *kafka,
                env_value("K2_REGISTRY_URL", settings.registry_url),
                env_value("K2_LOG_FORMAT", "json"),
                env_value("K2_LOG_LEVEL", settings.log_level),
                *_proxy(settings),
            ],
        ),
        "ports": [{"name": METRICS, "containerPort": STATUS_PORT, "protocol": "TCP"}],
        # The status server answers before Kafka and the exchange are connected: waiting for them must not kill the pod.
        "startupProbe": _probe("/healthz", period=2, failures=30),
        "livenessProbe": _probe("/healthz", period=10, failures=6),
        "readinessProbe": _probe("/readyz", period=5, failures=3),
        "resources": _resources(feed.spec.ingest.resources, settings),
        "securityContext": container_security(settings),
        "volumeMounts": mounts,
    }


def _proxy(settings: Settings) -> list[Manifest]:
    """Build the variables that lead to the exchanges. The registry, over HTTP, is reached directly."""
    names = {"HTTPS_PROXY": settings.https_proxy, "NO_PROXY": settings.no_proxy}
    return [env_value(name, value) for name, value in names.items() if value]


def _probe(path: str, *, period: int, failures: int) -> Manifest:
    get = {"path": path, "port": METRICS}
    return {"httpGet": get, "periodSeconds": period, "timeoutSeconds": 3, "failureThreshold": failures}


def _resources(resources: Resources, settings: Settings) -> Manifest:
    """Merge the user's resources over the platform's defaults. A default request is capped at the user's limit."""
    user_requests = resources.requests.model_dump(exclude_none=True)
    limits = resources.limits.model_dump(exclude_none=True)
    requests = {"cpu": settings.ingest_cpu, "memory": settings.ingest_memory}
    requests = {name: min(amount, limits.get(name, amount), key=_number) for name, amount in requests.items()}
    requests |= user_requests
    default_limit = {"memory": max(settings.ingest_memory_limit, requests["memory"], key=_number)}
    return {"requests": requests, "limits": default_limit | limits}


def _number(amount: str) -> Decimal:
    return quantities.parse(amount) or Decimal(0)


def _spread(matched: dict[str, str]) -> Manifest:
    """Spread the replicas of one shard over nodes, if possible."""
    return {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": matched},
    }
