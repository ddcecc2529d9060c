"""SparkApplications: one for each layer of a feed, or one for all three.

The Spark operator starts an application anew on any change of its spec, so equal feeds give equal specs. Volumes,
secrets and security stand in pod templates, which Spark reads itself: without the Spark operator's webhook the fields
of the application that say the same are silently dropped.
"""

from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import urlsplit

from k2.operator.desired import sizes
from k2.operator.desired.config import layer_hash
from k2.operator.desired.hashing import digest
from k2.operator.desired.naming import (
    COMBINED,
    CONFIG_HASH,
    JOBS_PORT,
    LAYERS,
    METRICS,
    RESTART_NONCE,
    SPEC_HASH,
    Manifest,
    config_name,
    metadata,
    selector,
)
from k2.operator.desired.pods import (
    FEED_FILE,
    container_security,
    feed_volume,
    plain,
    pod_security,
    secret,
    writable,
)
from k2.operator.desired.sparkconf import spark_conf
from k2.operator.settings import Settings
from k2.schemas.feed.model import ExchangeFeed

API_VERSION: Final = "sparkoperator.k8s.io/v1beta2"

_GRACE: Final = 60  # seconds in which a driver may end its batch
_DRIVER: Final = "spark-kubernetes-driver"
_EXECUTOR: Final = "spark-kubernetes-executor"


def spark_applications(feed: ExchangeFeed, settings: Settings, restart: str = "") -> tuple[Manifest, ...]:
    """The feed's applications. Another `restart` starts them anew; empty leaves them alone."""
    parts = (COMBINED,) if feed.spec.layers.topology == "Combined" else LAYERS
    return tuple(spark_application(feed, settings, part, restart) for part in parts)


def spark_application(feed: ExchangeFeed, settings: Settings, part: str, restart: str = "") -> Manifest:
    """The application of one layer, or of `layers`."""
    size = sizes.of(feed, settings, part)
    spec: dict[str, Any] = {
        "type": "Python",
        "mode": "cluster",
        "sparkVersion": settings.spark_version,
        "image": settings.jobs_image,
        "imagePullPolicy": settings.image_pull_policy,
        "mainApplicationFile": settings.jobs_main,
        "arguments": _arguments(part),
        "suspend": feed.spec.suspend,
        # Always ignores counts of retries and needs both intervals.
        "restartPolicy": {
            "type": "Always",
            "onFailureRetryInterval": settings.restart_interval,
            "onSubmissionFailureRetryInterval": settings.restart_interval,
        },
        "sparkConf": spark_conf(settings, size),
        "driver": _driver(feed, settings, part, size, restart),
        "executor": _executor(settings, part, size),
    }
    if settings.image_pull_secrets:
        spec["imagePullSecrets"] = list(settings.image_pull_secrets)
    return {
        "apiVersion": API_VERSION,
        "kind": "SparkApplication",
        "metadata": metadata(feed, f"{feed.name}-{part}", part, annotations={SPEC_HASH: spec_hash(spec)}),
        "spec": spec,
    }


def spec_hash(spec: Manifest) -> str:
    """A hash of all that a running driver depends on, which being suspended is not."""
    return digest({name: value for name, value in spec.items() if name != "suspend"})


def _arguments(part: str) -> list[str]:
    where = ["--host", "0.0.0.0", "--port", str(JOBS_PORT)]  # noqa: S104 - the pod's own address
    if part == COMBINED:
        # A query that fails starts again by itself, so that it does not take the other layers with it.
        return ["--feed", FEED_FILE, "--layer", "all", *where, "--restart"]
    return ["--feed", FEED_FILE, "--layer", part, *where]


def _driver(feed: ExchangeFeed, settings: Settings, part: str, size: sizes.Sizes, restart: str) -> Manifest:
    feed_file, mount = feed_volume(config_name(feed))
    volumes, mounts = _scratch()
    container = {
        "name": _DRIVER,
        "env": environment(settings),
        "ports": [{"name": METRICS, "containerPort": JOBS_PORT, "protocol": "TCP"}],
        "securityContext": container_security(),
        "volumeMounts": [mount, *mounts],
    }
    annotations = {CONFIG_HASH: layer_hash(feed, part)}
    if restart:
        annotations[RESTART_NONCE] = restart
    return {
        **size.driver.document(),
        "serviceAccount": settings.spark_service_account,
        "labels": selector(feed, part),
        "annotations": annotations,
        "template": _template(settings, container, [feed_file, *volumes]),
    }


def _executor(settings: Settings, part: str, size: sizes.Sizes) -> Manifest:
    volumes, mounts = _scratch()
    container = {
        "name": _EXECUTOR,
        "env": _s3_secrets(settings),
        "securityContext": container_security(),
        "volumeMounts": mounts,
    }
    count = {"instances": size.executors} if size.executors else {}
    return {
        **size.executor.document(),
        **count,
        # The Spark operator gives them the application's labels too; they are no drivers.
        "labels": {"app.kubernetes.io/component": f"{part}-executor"},
        "template": _template(settings, container, volumes),
    }


def _template(settings: Settings, container: Manifest, volumes: Iterable[Manifest]) -> Manifest:
    return {
        "spec": {
            "enableServiceLinks": False,
            "securityContext": pod_security(settings.spark_user),
            "terminationGracePeriodSeconds": _GRACE,
            "volumes": list(volumes),
            "containers": [container],
        }
    }


def _scratch() -> tuple[list[Manifest], list[Manifest]]:
    pairs = [writable("tmp", "/tmp"), writable("work", "/opt/spark/work-dir")]  # noqa: S108 - the pod's own
    return [volume for volume, _ in pairs], [mount for _, mount in pairs]


def environment(settings: Settings) -> list[Manifest]:
    """The variables of whoever reads and writes tables: where the services are, and what opens them."""
    return [*_addresses(settings), *_catalog_secrets(settings), *_s3_secrets(settings)]


def _addresses(settings: Settings) -> list[Manifest]:
    return [
        plain("K2_KAFKA_BOOTSTRAP", settings.kafka_bootstrap),
        plain("K2_REGISTRY_URL", settings.registry_url),
        plain("K2_CATALOG_URI", settings.catalog_uri),
        plain("K2_WAREHOUSE", settings.warehouse),
        plain("K2_CHECKPOINTS", settings.checkpoints),
        *_bucket(settings),
        plain("K2_LOG_FORMAT", "json"),
        plain("K2_LOG_LEVEL", settings.log_level),
    ]


def _bucket(settings: Settings) -> list[Manifest]:
    if not {urlsplit(place).scheme for place in (settings.warehouse, settings.checkpoints)} & {"s3", "s3a"}:
        return []
    return [
        plain("K2_S3_ENDPOINT", settings.s3_endpoint),
        plain("K2_S3_REGION", settings.s3_region),
        plain("K2_S3_PATH_STYLE", "true" if settings.s3_path_style else "false"),
    ]


def _catalog_secrets(settings: Settings) -> list[Manifest]:
    if not settings.catalog_secret:
        return []
    return [
        secret("K2_CATALOG_USER", settings.catalog_secret, settings.catalog_user_key),
        secret("K2_CATALOG_PASSWORD", settings.catalog_secret, settings.catalog_password_key),
    ]


def _s3_secrets(settings: Settings) -> list[Manifest]:
    """Credentials under the names that both of S3's clients look for."""
    region = plain("AWS_REGION", settings.s3_region)
    if not settings.s3_secret:
        return [region]
    return [
        secret("AWS_ACCESS_KEY_ID", settings.s3_secret, settings.s3_access_key),
        secret("AWS_SECRET_ACCESS_KEY", settings.s3_secret, settings.s3_secret_key),
        region,
    ]
