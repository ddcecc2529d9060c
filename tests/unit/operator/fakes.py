"""A cluster and pods in memory."""

import copy
from typing import Any

from k2.operator.api.cluster import RequestRejected
from k2.operator.observed.objects import K8sObject, Rejection


class FakeCluster:
    """Stores what is applied, and records requests. Kinds in `rejected` are answered with 403."""

    def __init__(self, *rejected: str) -> None:
        self.rejected = set(rejected)
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}
        self.requests: list[str] = []
        self.events: list[tuple[str, str, str]] = []
        self.statuses: list[dict[str, Any]] = []
        self._version = 0

    async def apply(self, manifest: dict[str, Any], *, subresource: str = "") -> dict[str, Any]:
        self._request("apply", manifest["kind"], manifest["metadata"]["name"])
        self._version += 1
        key = (manifest["kind"], manifest["metadata"]["name"])
        raw = copy.deepcopy({**self.objects.get(key, {}), **manifest})
        metadata = {"uid": "-".join(key), "creationTimestamp": "2026-01-01T00:00:00Z", "generation": 1}
        raw["metadata"] = metadata | self.objects.get(key, {}).get("metadata", {}) | raw["metadata"]
        raw["metadata"]["resourceVersion"] = str(self._version)
        self.objects[key] = raw
        if subresource == "status":
            self.statuses.append(raw["status"])
        return raw

    async def get(self, _: str, kind: str, __: str, name: str) -> dict[str, Any] | None:
        self._request("get", kind, name)
        return self.objects.get((kind, name))

    async def delete(self, live: K8sObject) -> None:
        self._request("delete", live["kind"], live["metadata"]["name"])
        self.objects.pop((live["kind"], live["metadata"]["name"]), None)

    async def event(self, _: K8sObject, kind: str, reason: str, message: str) -> None:
        self.events.append((kind, reason, message))

    def _request(self, verb: str, kind: str, name: str) -> None:
        self.requests.append(f"{verb} {kind}/{name}")
        if kind in self.rejected:
            raise RequestRejected(Rejection(verb, f"{kind.lower()}s", name, 403, "forbidden"))


class FakePods:
    """Pods that report nothing. Counts reads."""

    reads = 0

    async def read(self, *_: Any) -> tuple[tuple[()], dict[str, Any]]:
        self.reads += 1
        return (), {}
