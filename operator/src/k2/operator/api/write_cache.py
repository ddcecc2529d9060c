"""Write-through cache of a feed's objects: what the watches reported, overlaid with what this process wrote since.

A write is visible at once, not only when its watch event arrives, so that the next round does not write it again. The
objects that watches reported are in kopf's indices, which are filled before any handler runs; parsed feeds and the
operator's own writes are here.

Resource versions of one resource are increasing numbers; Kubernetes guarantees that for its own storage.
"""

import time
from collections.abc import Iterable, Mapping
from typing import Any, Final

from k2.operator.api.object_codec import unpack
from k2.operator.desired.naming import FEED
from k2.operator.observed.feed_objects import FeedObjects
from k2.operator.observed.objects import K8sObject
from k2.operator.planning.conflicts import Claim, ClaimCache

FeedKey = tuple[str, str]  # namespace, feed
Key = tuple[str, str, str]  # kind, namespace, name

_EXPIRES_AFTER: Final = 300.0  # seconds; a watch that lags, or was interrupted, reports a write late


class WriteCache:
    """Objects by key, as the API server returned them."""

    def __init__(self) -> None:
        self._written: dict[Key, tuple[float, K8sObject]] = {}  # with the time of the write
        self._by_feed: dict[FeedKey, set[Key]] = {}
        self._observed: dict[Key, int] = {}  # the newest version that a watch reported
        self._claims = ClaimCache()

    def record(self, raw: K8sObject) -> None:
        """Cache the API server's answer to a write."""
        key = _key(raw)
        # The watch event may arrive before the answer; the round that wrote the object still runs without it.
        if _version(raw) >= self._observed.get(key, 0):
            if key in self._written:
                self._forget(key)
            self._written[key] = (time.monotonic(), raw)
            self._by_feed.setdefault(_feed(raw), set()).add(key)

    def observe(self, raw: K8sObject, *, deleted: bool = False) -> bool:
        """Process a watch event. Return whether somebody else changed the object, not just this process."""
        key, version = _key(raw), _version(raw)
        if deleted:
            self._observed.pop(key, None)
        else:
            self._observed[key] = version
        written = _version(self._written[key][1]) if key in self._written else None
        if written is not None and written <= version:
            self._forget(key)
        return deleted or written != version

    def feed_objects(self, key: FeedKey, indices: Mapping[str, Any]) -> FeedObjects:
        """Return the newest objects of a feed, from kopf's indices `children`, `pods` and `feeds`."""
        namespace, feed = key
        return FeedObjects(
            children=self.overlay(namespace, feed, map(unpack, indices["children"].get(key, ()))),
            pods=tuple(indices["pods"].get(key, ())),
            feeds=tuple(raw for store in list(indices["feeds"].values()) for raw in store),
            shared=self.overlay(namespace, "", map(unpack, indices["children"].get((namespace, ""), ()))),
        )

    def newest(self, body: K8sObject) -> K8sObject:
        """Return a feed with the status that this process wrote last."""
        metadata = body["metadata"]
        written = self.find(body["kind"], metadata["namespace"], metadata["name"])
        if written is not None and written["metadata"]["uid"] == metadata["uid"]:
            return {**body, "status": written["status"]}
        return body

    def claims(self, feeds: Iterable[K8sObject]) -> list[Claim]:
        """Return the claims of the cluster's valid feeds; a feed is parsed again only when its spec changes."""
        return self._claims.claims(feeds)

    def overlay(self, namespace: str, feed: str, observed: Iterable[K8sObject]) -> tuple[K8sObject, ...]:
        """Replace observed objects of a feed by newer ones that were written and not observed yet."""
        keys = tuple(self._by_feed.get((namespace, feed), ()))
        newer = {key: raw for key in keys if (raw := self._find(key)) is not None}
        if not newer:
            return tuple(observed)
        return (*(raw for raw in observed if _key(raw) not in newer), *newer.values())

    def find(self, kind: str, namespace: str, name: str) -> K8sObject | None:
        """Return an object that was written and not observed yet."""
        return self._find((kind, namespace, name))

    def _find(self, key: Key) -> K8sObject | None:
        written_at, raw = self._written.get(key, (0.0, None))
        if raw is not None and time.monotonic() - written_at > _EXPIRES_AFTER:
            self._forget(key)
            return None
        return raw

    def _forget(self, key: Key) -> None:
        _, raw = self._written.pop(key)
        keys = self._by_feed[_feed(raw)]
        keys.discard(key)
        if not keys:
            del self._by_feed[_feed(raw)]


def _feed(raw: K8sObject) -> FeedKey:
    metadata = raw["metadata"]
    return metadata["namespace"], metadata.get("labels", {}).get(FEED, "")


def _key(raw: K8sObject) -> Key:
    metadata = raw["metadata"]
    return raw["kind"], metadata["namespace"], metadata["name"]


def _version(raw: K8sObject) -> int:
    version: str = raw["metadata"].get("resourceVersion", "")
    return int(version) if version.isdigit() else 0
