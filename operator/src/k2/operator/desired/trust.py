"""How Spark's JVMs come to trust the platform's certificate authorities, for the store and a REST catalog.

A driver makes its trust store itself, in Python, before it connects. An executor is a JVM from its start: an init
container makes it.
"""

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from k2.operator.desired.naming import Manifest
from k2.operator.desired.pods import CA_FILE, ca_volume, container_security, empty_dir, env_value
from k2.operator.settings import Settings

_FOLDER: Final = "/opt/k2-trust"
_STORE: Final = f"{_FOLDER}/ca.p12"
JAVA_OPTIONS: Final = (
    f"-Djavax.net.ssl.trustStore={_STORE} -Djavax.net.ssl.trustStoreType=PKCS12 "
    "-Djavax.net.ssl.trustStorePassword=changeit"  # Java's own: certificates are public
)
_RESOURCES: Final[Mapping[str, Mapping[str, str]]] = {
    "requests": {"cpu": "10m", "memory": "64Mi"},
    "limits": {"memory": "256Mi"},
}


def environment(settings: Settings) -> list[Manifest]:
    """Build the variables that name the authorities of the services that are reached over TLS."""
    services = {"K2_S3_CA_FILE": _store(settings), "K2_CATALOG_CA_FILE": settings.catalog_uri}
    secured = [name for name, url in services.items() if urlsplit(url).scheme == "https"]
    return [env_value(name, CA_FILE) for name in secured] if settings.ca_config_map else []


def executor(settings: Settings) -> tuple[list[Manifest], list[Manifest], list[Manifest]]:
    """Build the init container of an executor, the volume that it writes to, and the mount of that."""
    if not is_needed_by_executors(settings):
        return [], [], []
    volume, mount = empty_dir("trust", _FOLDER)
    init = {
        "name": "trust",
        "image": settings.jobs_image,
        "imagePullPolicy": settings.image_pull_policy,
        "command": ["python", "-m", "k2.jobs.spark.jvm.trust_store", _STORE],
        "env": [env_value("K2_S3_CA_FILE", CA_FILE)],
        "resources": {name: dict(values) for name, values in _RESOURCES.items()},
        "securityContext": container_security(settings),
        "volumeMounts": [ca_volume(settings.ca_config_map)[1], mount],
    }
    return [init], [volume], [mount]


def is_needed_by_executors(settings: Settings) -> bool:
    """Whether executors reach a store over TLS, of which the platform names the authorities."""
    return bool(settings.ca_config_map) and urlsplit(_store(settings)).scheme == "https"


def _store(settings: Settings) -> str:
    """Return the URL of the store; empty for tables on disks."""
    in_bucket = any(place.startswith("s3") for place in (settings.warehouse, settings.checkpoints))
    return (settings.s3_endpoint or "https://s3.amazonaws.com") if in_bucket else ""
