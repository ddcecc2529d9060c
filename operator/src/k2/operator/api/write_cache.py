"""What was written a moment ago, until a watch has told of it: a round that began too early must not write it again.

Resource versions of one resource are numbers that grow; Kubernetes promises so much of its own storage.
"""

import time
from collections.abc import Iterable, Mapping
from typing import Any, Final

from k2.operator.desired.naming import FEED

Key = tuple[str, str, str]  # kind, namespace, name

_FORGET_AFTER: Final = 300.0  # seconds; a watch that was cut off, or is behind, tells its news late


class Fresh:
    """Objects as the API server returned them, by what they are."""

    def __init__(self) -> None:
        self._written: dict[Key, tuple[float, Mapping[str, Any]]] = {}
        self._of: dict[tuple[str, str], set[Key]] = {}  # by namespace and feed
        self._wrote: set[tuple[str, str]] = set()
        self._told: dict[Key, int] = {}  # the newest version that a watch told

    def wrote(self, raw: Mapping[str, Any]) -> None:
        """An object was written; the API server's answer."""
        key = _key(raw)
        # A watch may be faster than the answer: the round that wrote it began without it all the same.
        if _version(raw) >= self._told.get(key, 0):
            if key in self._written:
                self._forget(key)
            self._written[key] = (time.monotonic(), raw)
            self._of.setdefault(_feed(raw), set()).add(key)
            self._wrote.add(_feed(raw))

    def take(self, namespace: str, feed: str) -> bool:
        """Whether something of a feed was written since this was asked last, so that its status may be another."""
        found = (namespace, feed) in self._wrote
        self._wrote.discard((namespace, feed))
        return found

    def told(self, raw: Mapping[str, Any], *, deleted: bool = False) -> bool:
        """A watch told of an object. Returns whether that is news, and not what was just written."""
        key, version = _key(raw), _version(raw)
        if deleted:
            self._told.pop(key, None)
        else:
            self._told[key] = version
        written = _version(self._written[key][1]) if key in self._written else None
        if written is not None and written <= version:
            self._forget(key)
        return deleted or written != version

    def over(self, namespace: str, feed: str, seen: Iterable[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
        """What watches saw of a feed, or of none, with what they have not told of yet in its place."""
        newer = {key: raw for key in tuple(self._of.get((namespace, feed), ())) if (raw := self._find(key)) is not None}
        if not newer:
            return tuple(seen)
        return (*(raw for raw in seen if _key(raw) not in newer), *newer.values())

    def find(self, kind: str, namespace: str, name: str) -> Mapping[str, Any] | None:
        """An object that no watch has told of yet."""
        return self._find((kind, namespace, name))

    def _find(self, key: Key) -> Mapping[str, Any] | None:
        when, raw = self._written.get(key, (0.0, None))
        if raw is not None and time.monotonic() - when > _FORGET_AFTER:
            self._forget(key)
            return None
        return raw

    def _forget(self, key: Key) -> None:
        _, raw = self._written.pop(key)
        keys = self._of[_feed(raw)]
        keys.discard(key)
        if not keys:
            del self._of[_feed(raw)]


def _feed(raw: Mapping[str, Any]) -> tuple[str, str]:
    about = raw["metadata"]
    return about["namespace"], about.get("labels", {}).get(FEED, "")


def _key(raw: Mapping[str, Any]) -> Key:
    about = raw["metadata"]
    return raw["kind"], about["namespace"], about["name"]


def _version(raw: Mapping[str, Any]) -> int:
    version: str = raw["metadata"].get("resourceVersion", "")
    return int(version) if version.isdigit() else 0
