"""Secrets and ConfigMaps that a feed's processes read once, at their start: when one changes, what uses it restarts.

The annotation `INPUTS` of a pod has a digest of each. Kafka's Secrets and the feed's ConfigMap are none of them:
running processes follow their files.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from k2.operator.desired.naming import GROUP, SPEC_HASH, Manifest, config_name
from k2.operator.desired.spark import spec_hash
from k2.operator.settings import Settings
from k2.schemas.feed.model import ExchangeFeed

INPUTS: Final = f"{GROUP}/inputs"

_SECRET: Final = "Secret"  # noqa: S105 - a kind
_CONFIG_MAP: Final = "ConfigMap"
# Where a pod's spec names one: the field, and the key of the name below it.
_FIELDS: Final[Mapping[str, tuple[str, str]]] = {
    "secretKeyRef": (_SECRET, "name"),
    "secretRef": (_SECRET, "name"),
    "secret": (_SECRET, "secretName"),
    "configMapKeyRef": (_CONFIG_MAP, "name"),
    "configMapRef": (_CONFIG_MAP, "name"),
    "configMap": (_CONFIG_MAP, "name"),
}


class Reference(NamedTuple):
    """A Secret or ConfigMap of the feed's namespace."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"


def references(manifest: Manifest, feed: ExchangeFeed, settings: Settings) -> frozenset[Reference]:
    """Return what the pods of a Deployment or a SparkApplication read at their start."""
    if manifest["kind"] not in {"Deployment", "SparkApplication"}:
        return frozenset()
    followed = {Reference(_CONFIG_MAP, config_name(feed))}
    for name in (settings.kafka_ca_secret, settings.kafka_ingest_secret, settings.kafka_jobs_secret):
        followed.add(Reference(_SECRET, name))
    return frozenset(_named(manifest["spec"])) - followed


def _named(value: Any) -> Iterator[Reference]:
    if isinstance(value, Mapping):
        for field, below in value.items():
            kind, key = _FIELDS.get(field, ("", ""))
            if isinstance(below, Mapping) and (name := below.get(key) or below.get("name")) and kind:
                yield Reference(kind, name)
            else:
                yield from _named(below)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _named(item)


def with_inputs(
    manifest: Manifest, used: frozenset[Reference], digests: Mapping[Reference, str], live: Mapping[str, Any] | None
) -> Manifest:
    """Return the manifest with the digests of what its pods use.

    What does not exist, or may not be read, keeps the digest that the live object has: nothing restarts for it.
    """
    if not used:
        return manifest
    before = _annotation(live) if live is not None else {}
    current = {str(one): digests.get(one) or before.get(str(one), "") for one in sorted(used)}
    current = {name: digest for name, digest in current.items() if digest}
    if not current:
        return manifest
    spec, annotation = manifest["spec"], {INPUTS: json.dumps(current, sort_keys=True)}
    if manifest["kind"] == "Deployment":
        template = spec["template"]
        metadata = template["metadata"] | {"annotations": template["metadata"]["annotations"] | annotation}
        return manifest | {"spec": spec | {"template": template | {"metadata": metadata}}}
    driver = spec["driver"]
    spec = spec | {"driver": driver | {"annotations": driver["annotations"] | annotation}}
    metadata = manifest["metadata"]
    hashed = metadata | {"annotations": metadata["annotations"] | {SPEC_HASH: spec_hash(spec)}}
    return manifest | {"metadata": hashed, "spec": spec}


def _annotation(live: Mapping[str, Any]) -> dict[str, str]:
    spec = live["spec"]
    about = spec["template"]["metadata"] if live["kind"] == "Deployment" else spec["driver"]
    try:
        digests = json.loads((about.get("annotations") or {}).get(INPUTS, "{}"))
    except ValueError:  # a user's edit
        return {}
    return digests if isinstance(digests, dict) else {}
