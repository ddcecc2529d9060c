"""Digests of the Secrets and ConfigMaps that a feed's processes read at their start.

Each is read by its name, at most once in a period for all feeds of a namespace: the operator may not list Secrets. Only
digests are retained. They stand in annotations, which more people may read than Secrets, so each guess at the contents
costs as much as one at a stored password.
"""

import hashlib
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from k2.common import logs
from k2.operator.api.cluster import Cluster, RequestRejected, ServerError
from k2.operator.observed.objects import K8sObject
from k2.operator.planning.inputs import Reference

log = logs.get("inputs")

_PERIOD: Final = 30.0  # seconds
_ITERATIONS: Final = 100_000  # of PBKDF2: some 50 ms for each version of an object
_LENGTH: Final = 8  # bytes


@dataclass(frozen=True, slots=True)
class _Entry:
    read_at: float  # monotonic
    version: str
    digest: str  # empty: it does not exist, or may not be read


class InputReader:
    """Reads objects by name. `read` raises `Unavailable` if the API server is unreachable."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._entries: dict[tuple[str, Reference], _Entry] = {}

    async def read(self, namespace: str, references: Iterable[Reference]) -> dict[Reference, str]:
        """Return the digest of each object that exists and may be read."""
        digests = {one: await self._digest(namespace, one) for one in sorted(set(references))}
        return {one: digest for one, digest in digests.items() if digest}

    async def _digest(self, namespace: str, reference: Reference) -> str:
        key, now = (namespace, reference), time.monotonic()
        entry = self._entries.get(key)
        if entry is not None and now - entry.read_at < _PERIOD:
            return entry.digest
        try:
            raw = await self._cluster.get("v1", reference.kind, namespace, reference.name)
        except (RequestRejected, ServerError) as error:
            log.warning("changes are not noticed: it cannot be read", object=str(reference), error=str(error))
            raw = None
        version = raw["metadata"]["resourceVersion"] if raw is not None else ""
        if raw is None:
            digest = ""
        elif entry is not None and entry.version == version:
            digest = entry.digest
        else:
            digest = digest_of(raw, reference)
        self._entries[key] = _Entry(now, version, digest)
        return digest


def digest_of(raw: K8sObject, reference: Reference) -> str:
    """Return a digest of an object's contents, whatever its metadata is."""
    contents = [raw.get("data") or {}, raw.get("binaryData") or {}]
    text = json.dumps(contents, sort_keys=True).encode()
    return hashlib.pbkdf2_hmac("sha256", text, str(reference).encode(), _ITERATIONS, _LENGTH).hex()
