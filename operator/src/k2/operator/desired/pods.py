"""What every pod of K2 has in common: the restricted security profile, a writable /tmp, and its environment."""

from typing import Any, Final

from k2.operator.desired.naming import Manifest

FEED_FOLDER: Final = "/etc/k2"
FEED_FILE: Final = f"{FEED_FOLDER}/feed.yaml"


def pod_security(user: int) -> Manifest:
    """A pod's security context under the restricted profile."""
    return {
        "runAsNonRoot": True,
        "runAsUser": user,
        "runAsGroup": user,
        "fsGroup": user,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security() -> Manifest:
    """A container's security context under the restricted profile."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def plain(name: str, value: str) -> Manifest:
    """A variable whose value anybody may read."""
    return {"name": name, "value": value}


def secret(name: str, secret_name: str, key: str) -> Manifest:
    """A variable that is filled from a Secret of the feed's namespace."""
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": secret_name, "key": key}}}


def writable(name: str, path: str) -> tuple[Manifest, Manifest]:
    """An empty folder, and where it is mounted."""
    return {"name": name, "emptyDir": {}}, {"name": name, "mountPath": path}


def feed_volume(config_map: str) -> tuple[Manifest, Manifest]:
    """The feed's file, and where it is mounted."""
    volume: dict[str, Any] = {"name": "feed", "configMap": {"name": config_map}}
    return volume, {"name": "feed", "mountPath": FEED_FOLDER, "readOnly": True}
