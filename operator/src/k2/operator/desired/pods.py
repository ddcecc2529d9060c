"""Parts shared by all pods of K2: security contexts, placement, volumes and environment variables."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from k2.common.kafka_connection import SecurityProtocol
from k2.operator.desired.naming import Manifest
from k2.operator.settings import Settings
from k2.schemas import egress, sharding
from k2.schemas.feed.model import ExchangeFeed

FEED_FOLDER: Final = "/etc/k2"
FEED_FILE: Final = f"{FEED_FOLDER}/feed.yaml"
CA_FOLDER: Final = "/etc/k2-ca"
CA_FILE: Final = f"{CA_FOLDER}/ca.crt"
EGRESS_FILE: Final = f"{FEED_FOLDER}/{egress.FILE}"
SHARDS_FILE: Final = f"{FEED_FOLDER}/{sharding.FILE}"
KAFKA_FOLDER: Final = "/etc/k2-kafka"  # has a folder for each Secret, so that a message about a file names the Secret


def pod_security(settings: Settings, user: int) -> Manifest:
    """Build a pod's security context: the setting's, with the ids of a user unless the cluster assigns them."""
    ids = {"runAsUser": user, "runAsGroup": user, "fsGroup": user} if settings.fixed_user_ids else {}
    return _without_nulls(ids | settings.pod_security_context)


def container_security(settings: Settings) -> Manifest:
    """Build a container's security context."""
    return _without_nulls(settings.container_security_context)


def _without_nulls(context: Mapping[str, Any]) -> Manifest:
    return {name: value for name, value in context.items() if value is not None}


def placement(feed: ExchangeFeed, settings: Settings, matched: Mapping[str, str]) -> Manifest:
    """Build the fields of a pod's spec that say where it runs. The feed's take precedence over the platform's.

    `matched` are the labels of the pods that a constraint without a labelSelector spreads.
    """
    own = feed.spec.placement
    constraints = own.topology_spread_constraints or settings.topology_spread_constraints
    fields = {
        "nodeSelector": own.node_selector or settings.node_selector,
        "tolerations": list(own.tolerations or settings.tolerations),
        "affinity": own.affinity or settings.affinity,
        "topologySpreadConstraints": [{"labelSelector": {"matchLabels": dict(matched)}} | each for each in constraints],
        "priorityClassName": own.priority_class_name or settings.priority_class_name,
    }
    return {name: value for name, value in fields.items() if value}


def variables(settings: Settings, own: Iterable[Manifest]) -> list[Manifest]:
    """Build the environment of a container: K2's own variables, and the platform's, which replace those."""
    trusted = [env_value("SSL_CERT_FILE", CA_FILE)] if settings.ca_config_map else []
    return [*{each["name"]: dict(each) for each in (*own, *trusted, *settings.extra_env)}.values()]


def volumes(settings: Settings) -> tuple[list[Manifest], list[Manifest]]:
    """Build the volumes of every pod and their mounts: trusted authorities, and the platform's own."""
    trusted = [ca_volume(settings.ca_config_map)] if settings.ca_config_map else []
    return (
        [*(volume for volume, _ in trusted), *map(dict, settings.extra_volumes)],
        [*(mount for _, mount in trusted), *map(dict, settings.extra_volume_mounts)],
    )


def env_value(name: str, value: str) -> Manifest:
    """Build an environment variable with a literal value."""
    return {"name": name, "value": value}


def env_from_secret(name: str, secret_name: str, key: str) -> Manifest:
    """Build an environment variable that reads a Secret of the feed's namespace."""
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": secret_name, "key": key}}}


def ca_volume(config_map: str) -> tuple[Manifest, Manifest]:
    """Build the volume with the certificate authorities that are trusted, and its mount."""
    volume: dict[str, Any] = {"name": "ca", "configMap": {"name": config_map}}
    return volume, {"name": "ca", "mountPath": CA_FOLDER, "readOnly": True}


def empty_dir(name: str, path: str) -> tuple[Manifest, Manifest]:
    """Build an emptyDir volume and its mount."""
    return {"name": name, "emptyDir": {}}, {"name": name, "mountPath": path}


def feed_volume(config_map: str) -> tuple[Manifest, Manifest]:
    """Build the volume with the feed's file and its mount."""
    volume: dict[str, Any] = {"name": "feed", "configMap": {"name": config_map}}
    return volume, {"name": "feed", "mountPath": FEED_FOLDER, "readOnly": True}


@dataclass(frozen=True, slots=True)
class KafkaClient:
    """How the processes of a pod reach Kafka and identify themselves: variables, volumes and mounts."""

    env: list[Manifest]
    volumes: list[Manifest] = field(default_factory=list)
    mounts: list[Manifest] = field(default_factory=list)


def kafka_client(settings: Settings, secret: str, user: str) -> KafkaClient:
    """Build them for the user whose password or certificate is in a Secret; an empty name: without a user.

    The Secrets are mounted, so that their new contents reach running pods. They are optional: a pod without one starts,
    says which it waits for, and continues when it is there.
    """
    env = [env_value("K2_KAFKA_BOOTSTRAP", settings.kafka_bootstrap)]
    protocol = SecurityProtocol(settings.kafka_security_protocol)
    if protocol is SecurityProtocol.PLAINTEXT:
        return KafkaClient(env)
    files = {"K2_KAFKA_CA_FILE": (settings.kafka_ca_secret, settings.kafka_ca_key)}
    env.append(env_value("K2_KAFKA_SECURITY_PROTOCOL", protocol.value))
    if protocol is SecurityProtocol.SASL_SSL:
        env.append(env_value("K2_KAFKA_USERNAME", user or secret))
        files["K2_KAFKA_PASSWORD_FILE"] = (secret, settings.kafka_password_key)
    elif secret:
        files["K2_KAFKA_CERTIFICATE_FILE"] = (secret, settings.kafka_certificate_key)
        files["K2_KAFKA_KEY_FILE"] = (secret, settings.kafka_private_key_key)
    env += [env_value(variable, f"{KAFKA_FOLDER}/{name}/{key}") for variable, (name, key) in files.items()]
    keys: dict[str, list[str]] = {}
    for name, key in files.values():
        keys.setdefault(name, []).append(key)
    pairs = [_optional_secret(f"kafka-{number}", name, keys[name]) for number, name in enumerate(keys)]
    return KafkaClient(env, [volume for volume, _ in pairs], [mount for _, mount in pairs])


def _optional_secret(volume: str, name: str, keys: list[str]) -> tuple[Manifest, Manifest]:
    items = [{"key": key, "path": key} for key in keys]
    secret = {"secretName": name, "optional": True, "defaultMode": 0o440, "items": items}
    return {"name": volume, "secret": secret}, {
        "name": volume,
        "mountPath": f"{KAFKA_FOLDER}/{name}",
        "readOnly": True,
    }
