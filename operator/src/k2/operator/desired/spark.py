"""SparkApplications of a feed: one for each layer, or one for all three.

The Spark operator restarts an application on any change of its spec, so equal feeds must give equal specs. Volumes,
secrets and security contexts are in pod templates, which Spark reads itself: without the Spark operator's webhook, the
corresponding fields of the application are silently dropped.
"""

from collections.abc import Container, Iterable
from typing import Any, Final
from urllib.parse import urlsplit

from k2.operator.desired import sizes, trust
from k2.operator.desired.config import layer_hash
from k2.operator.desired.hashing import digest
from k2.operator.desired.naming import (
    COMBINED,
    COMPONENT,
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
    KafkaClient,
    container_security,
    empty_dir,
    env_from_secret,
    env_value,
    feed_volume,
    kafka_client,
    placement,
    pod_security,
    variables,
    volumes,
)
from k2.operator.desired.sparkconf import spark_conf
from k2.operator.settings import Settings
from k2.schemas.feed.model import ExchangeFeed

API_VERSION: Final = "sparkoperator.k8s.io/v1beta2"

CATALOG_FOLDER: Final = "/etc/k2-catalog"

_GRACE: Final = 60  # seconds for a driver to finish its batch
_DRIVER: Final = "spark-kubernetes-driver"
_EXECUTOR: Final = "spark-kubernetes-executor"


def spark_applications(
    feed: ExchangeFeed, settings: Settings, restart: str = "", stopped: Container[str] = ()
) -> tuple[Manifest, ...]:
    """Build the feed's applications. A new value of `restart` restarts them; an empty one has no effect.

    Those of `stopped` parts are suspended, as all are of a feed that is.
    """
    parts = (COMBINED,) if feed.spec.layers.topology == "Combined" else LAYERS
    return tuple(spark_application(feed, settings, part, restart, suspend=part in stopped) for part in parts)


def spark_application(
    feed: ExchangeFeed, settings: Settings, part: str, restart: str = "", *, suspend: bool = False
) -> Manifest:
    """Build the application of one layer, or of `layers` for all three."""
    size = sizes.of(feed, settings, part)
    spec: dict[str, Any] = {
        "type": "Python",
        "mode": "cluster",
        "sparkVersion": settings.spark_version,
        "image": settings.jobs_image,
        "imagePullPolicy": settings.image_pull_policy,
        "mainApplicationFile": settings.jobs_main,
        "arguments": _arguments(part),
        "suspend": feed.spec.suspend or suspend,
        # Always ignores retry counts and requires both intervals.
        "restartPolicy": {
            "type": "Always",
            "onFailureRetryInterval": settings.restart_interval,
            "onSubmissionFailureRetryInterval": settings.restart_interval,
        },
        "sparkConf": spark_conf(settings, size),
        "driver": _driver(feed, settings, part, size, restart),
        "executor": _executor(feed, settings, part, size),
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
    """Hash everything that a running driver depends on, which excludes `suspend`."""
    return digest({name: value for name, value in spec.items() if name != "suspend"})


def _arguments(part: str) -> list[str]:
    where = ["--host", "0.0.0.0", "--port", str(JOBS_PORT)]  # noqa: S104 - inside the pod
    if part == COMBINED:
        # A failed query is restarted in place, so that it does not stop the other layers.
        return ["--feed", FEED_FILE, "--layer", "all", *where, "--restart"]
    return ["--feed", FEED_FILE, "--layer", part, *where]


def _driver(feed: ExchangeFeed, settings: Settings, part: str, size: sizes.Sizes, restart: str) -> Manifest:
    feed_file, mount = feed_volume(config_name(feed))
    pod_volumes, mounts = _writable_and_kafka(settings)
    token, token_mounts = catalog_token(settings)
    container = {
        "name": _DRIVER,
        "env": environment(settings),
        "ports": [{"name": METRICS, "containerPort": JOBS_PORT, "protocol": "TCP"}],
        "securityContext": container_security(settings),
        "volumeMounts": [mount, *mounts, *token_mounts],
    }
    annotations = settings.pod_annotations | {CONFIG_HASH: layer_hash(feed, part)}
    matched = selector(feed, part)
    if restart:
        annotations[RESTART_NONCE] = restart
    return {
        **size.driver.document(),
        "serviceAccount": settings.spark_service_account,
        "labels": settings.pod_labels | matched,
        "annotations": annotations,
        "template": _template(feed, settings, container, [feed_file, *pod_volumes, *token], matched),
    }


def _executor(feed: ExchangeFeed, settings: Settings, part: str, size: sizes.Sizes) -> Manifest:
    pod_volumes, mounts = _writable_and_kafka(settings)  # Spark's tasks read Kafka with the driver's options
    init, trust_volumes, trust_mounts = trust.executor(settings)
    # The Spark operator copies the application's labels to executors too, which are not drivers.
    component = {COMPONENT: f"{part}-executor"}
    container = {
        "name": _EXECUTOR,
        "env": variables(settings, _s3_secrets(settings)),
        "securityContext": container_security(settings),
        "volumeMounts": [*mounts, *trust_mounts],
    }
    template = _template(feed, settings, container, [*pod_volumes, *trust_volumes], selector(feed) | component)
    if init:
        template["spec"]["initContainers"] = init
    count = {"instances": size.executors} if size.executors else {}
    annotations = {"annotations": dict(settings.pod_annotations)} if settings.pod_annotations else {}
    return {
        **size.executor.document(),
        **count,
        "labels": settings.pod_labels | component,
        **annotations,
        "template": template,
    }


def _template(
    feed: ExchangeFeed,
    settings: Settings,
    container: Manifest,
    pod_volumes: Iterable[Manifest],
    matched: dict[str, str],
) -> Manifest:
    return {
        "spec": {
            "enableServiceLinks": False,
            "securityContext": pod_security(settings, settings.spark_user),
            "terminationGracePeriodSeconds": _GRACE,
            "volumes": list(pod_volumes),
            "containers": [container],
            **placement(feed, settings, matched),
        }
    }


def _writable_and_kafka(settings: Settings) -> tuple[list[Manifest], list[Manifest]]:
    pairs = [empty_dir("tmp", "/tmp"), empty_dir("work", "/opt/spark/work-dir")]  # noqa: S108 - emptyDirs
    kafka, (more, more_mounts) = jobs_client(settings), volumes(settings)
    return (
        [*(volume for volume, _ in pairs), *kafka.volumes, *more],
        [*(mount for _, mount in pairs), *kafka.mounts, *more_mounts],
    )


def jobs_client(settings: Settings) -> KafkaClient:
    """Build how the processes that read Kafka's records into tables reach it."""
    return kafka_client(settings, settings.kafka_jobs_secret, settings.kafka_jobs_user)


def environment(settings: Settings) -> list[Manifest]:
    """Build the environment of processes that read and write tables: service addresses and credentials."""
    secrets = [*_catalog_secrets(settings), *_s3_secrets(settings)]
    return variables(settings, [*_addresses(settings), *trust.environment(settings), *secrets])


def _addresses(settings: Settings) -> list[Manifest]:
    return [
        *jobs_client(settings).env,
        env_value("K2_REGISTRY_URL", settings.registry_url),
        *_catalog(settings),
        env_value("K2_WAREHOUSE", settings.warehouse),
        env_value("K2_CHECKPOINTS", settings.checkpoints),
        *_bucket(settings),
        env_value("K2_LOG_FORMAT", "json"),
        env_value("K2_LOG_LEVEL", settings.log_level),
    ]


def _bucket(settings: Settings) -> list[Manifest]:
    if not {urlsplit(place).scheme for place in (settings.warehouse, settings.checkpoints)} & {"s3", "s3a"}:
        return []
    return [
        env_value("K2_S3_ENDPOINT", settings.s3_endpoint),
        env_value("K2_S3_REGION", settings.s3_region),
        env_value("K2_S3_PATH_STYLE", "true" if settings.s3_path_style else "false"),
    ]


def _catalog(settings: Settings) -> list[Manifest]:
    uri = env_value("K2_CATALOG_URI", settings.catalog_uri)
    if settings.catalog_type == "jdbc":
        return [uri]
    optional = {
        "K2_CATALOG_WAREHOUSE": settings.catalog_warehouse,
        "K2_CATALOG_OAUTH2_URI": settings.catalog_oauth2_uri,
        "K2_CATALOG_SCOPE": settings.catalog_scope,
        "K2_CATALOG_TOKEN_FILE": settings.catalog_token_key and f"{CATALOG_FOLDER}/{settings.catalog_token_key}",
    }
    given = [env_value(name, value) for name, value in optional.items() if value]
    return [env_value("K2_CATALOG_TYPE", settings.catalog_type), uri, *given]


def catalog_token(settings: Settings) -> tuple[list[Manifest], list[Manifest]]:
    """Build the volume with the token of a REST catalog and its mount, if there is one."""
    if not settings.catalog_token_key:
        return [], []
    items = [{"key": settings.catalog_token_key, "path": settings.catalog_token_key}]
    secret = {"secretName": settings.catalog_secret, "defaultMode": 0o440, "items": items}
    mount = {"name": "catalog", "mountPath": CATALOG_FOLDER, "readOnly": True}
    return [{"name": "catalog", "secret": secret}], [mount]


def _catalog_secrets(settings: Settings) -> list[Manifest]:
    if not settings.catalog_secret or settings.catalog_token_key:
        return []
    return [
        env_from_secret("K2_CATALOG_USER", settings.catalog_secret, settings.catalog_user_key),
        env_from_secret("K2_CATALOG_PASSWORD", settings.catalog_secret, settings.catalog_password_key),
    ]


def _s3_secrets(settings: Settings) -> list[Manifest]:
    """Build the S3 credentials under the names that both S3 clients (Hadoop's and PyIceberg's) read."""
    region = env_value("AWS_REGION", settings.s3_region)
    if not settings.s3_secret:
        return [region]
    return [
        env_from_secret("AWS_ACCESS_KEY_ID", settings.s3_secret, settings.s3_access_key),
        env_from_secret("AWS_SECRET_ACCESS_KEY", settings.s3_secret, settings.s3_secret_key),
        region,
    ]
