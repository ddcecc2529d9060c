"""Parts shared by all pods of K2: the restricted security profile, writable volumes and environment variables."""

from typing import Any, Final

from k2.operator.desired.naming import Manifest
from k2.schemas import egress

FEED_FOLDER: Final = "/etc/k2"
FEED_FILE: Final = f"{FEED_FOLDER}/feed.yaml"
CA_FOLDER: Final = "/etc/k2-ca"
CA_FILE: Final = f"{CA_FOLDER}/ca.crt"
EGRESS_FILE: Final = f"{FEED_FOLDER}/{egress.FILE}"


def pod_security(user: int) -> Manifest:
    """Build a pod security context for the restricted profile."""
    return {
        "runAsNonRoot": True,
        "runAsUser": user,
        "runAsGroup": user,
        "fsGroup": user,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security() -> Manifest:
    """Build a container security context for the restricted profile."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }


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
