"""The API server, as the operator uses it: server-side apply with one field manager, and little else.

The only module that knows the `kubernetes` client. Its calls block, so each runs in a thread.
"""

import asyncio
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final

from kubernetes import config
from kubernetes.client import ApiClient, ApiException, Configuration
from urllib3.exceptions import HTTPError

from k2.common import logs
from k2.operator.desired.naming import MANAGER, Manifest
from k2.operator.observed import objects
from k2.operator.observed.objects import Raw, Refusal

log = logs.get("cluster")

APPLY: Final = "application/apply-patch+yaml"
_TIMEOUT: Final = 30.0
_RETRY_AFTER: Final = 5.0
_BUSY: Final = frozenset({0, 429, 500, 502, 503, 504})
# The words of a 500 that says that a manifest has a field which the kind has not: no later time will do.
_UNKNOWN_FIELD: Final = "failed to create typed patch object"
_CORE: Final = "v1"
_IRREGULAR: Final = {"NetworkPolicy": "networkpolicies"}


class Refused(RuntimeError):
    """The API server understood a request and refused it."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(f"{refusal.verb} {refusal.resource} {refusal.name}: {refusal.code} {refusal.message}")
        self.refusal = refusal


class Unavailable(ConnectionError):
    """The API server is away or busy; `after` says in how many seconds to ask again."""

    def __init__(self, words: str, after: float = _RETRY_AFTER) -> None:
        super().__init__(words)
        self.after = after


def plural(kind: str) -> str:
    """A kind's resource: `Deployment` is `deployments`."""
    return _IRREGULAR.get(kind, f"{kind.lower()}s")


def path(api_version: str, kind: str, namespace: str, name: str = "", subresource: str = "") -> str:
    """Where an object is, or without a name all of its kind in the namespace."""
    root = f"/api/{api_version}" if api_version == _CORE else f"/apis/{api_version}"
    parts = [root, "namespaces", namespace, plural(kind), name, subresource]
    return "/".join(part for part in parts if part)


def connect() -> ApiClient:
    """A client of the cluster that this process runs in, or else of the kubeconfig's current context."""
    settings = Configuration()
    try:
        config.load_incluster_config(client_configuration=settings)
    except config.ConfigException:
        config.load_kube_config(client_configuration=settings)
    return ApiClient(settings)


class Cluster:
    """Reads and writes objects. Methods raise `Refused` and `Unavailable`."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client

    async def apply(self, manifest: Manifest, *, subresource: str = "") -> Raw:
        """Makes the fields of a manifest so, whoever else claims them; returns the object."""
        about = manifest["metadata"]
        where = path(manifest["apiVersion"], manifest["kind"], about["namespace"], about["name"], subresource)
        query = [("fieldManager", MANAGER), ("force", "true")]
        return await self._ask("PATCH", "apply", where, query, manifest, APPLY)

    async def get(self, api_version: str, kind: str, namespace: str, name: str) -> Raw | None:
        """An object; None if it is not there."""
        try:
            return await self._ask("GET", "get", path(api_version, kind, namespace, name))
        except Refused as refused:
            if refused.refusal.code == HTTPStatus.NOT_FOUND:
                return None
            raise

    async def delete(self, live: Raw) -> None:
        """Deletes an object as it was seen, and what it owns; one that is gone or was made anew is let be."""
        about = live["metadata"]
        where = path(live["apiVersion"], live["kind"], about["namespace"], about["name"])
        body = {"preconditions": {"uid": about["uid"]}, "propagationPolicy": "Background"}
        try:
            await self._ask("DELETE", "delete", where, body=body)
        except Refused as refused:
            if refused.refusal.code not in {HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT}:
                raise

    async def event(self, body: Raw, kind: str, reason: str, message: str) -> None:
        """Writes one Event about a feed."""
        about = body["metadata"]
        now = datetime.now(UTC)
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": f"{about['name']}.", "namespace": about["namespace"]},
            "involvedObject": {
                "apiVersion": body["apiVersion"],
                "kind": body["kind"],
                "name": about["name"],
                "namespace": about["namespace"],
                "uid": about["uid"],
            },
            "type": kind,
            "reason": reason,
            "message": message[:1024],
            "reportingComponent": MANAGER,
            "source": {"component": MANAGER},
            "firstTimestamp": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "lastTimestamp": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "count": 1,
        }
        await self._ask("POST", "create", path("v1", "Event", about["namespace"]), body=event)

    async def _ask(
        self,
        method: str,
        verb: str,
        where: str,
        query: list[tuple[str, str]] | None = None,
        body: Any = None,
        content: str = "application/json",
    ) -> Raw:
        log.debug("asked", verb=verb, path=where)
        status, headers, answer = await asyncio.to_thread(self._send, method, where, query or [], body, content)
        if status < HTTPStatus.BAD_REQUEST:
            return answer
        resource, _, name = where.rpartition("/namespaces/")[2].partition("/")[2].partition("/")
        if status in _BUSY and _UNKNOWN_FIELD not in answer.get("message", ""):
            raise Unavailable(f"{verb} {resource} {name}: {status} {answer.get('message', '')}", _after(headers))
        raise Refused(objects.refusal(verb, resource, name, {"code": status, **answer}))

    def _send(
        self, method: str, where: str, query: list[tuple[str, str]], body: Any, content: str
    ) -> tuple[int, Mapping[str, str], Raw]:
        headers = {"Content-Type": content, "Accept": "application/json"}
        request = self._client.param_serialize(
            method,
            where,
            query_params=query,
            header_params=headers,
            body=json.dumps(body) if content == APPLY else body,
            auth_settings=["BearerToken"],
        )
        try:
            answer = self._client.call_api(*request[:4], _request_timeout=_TIMEOUT)
            raw = answer.read()
        except (HTTPError, OSError, ApiException) as error:
            raise Unavailable(f"{method} {where}: {error}") from error
        return answer.status, dict(answer.getheaders() or {}), _object(raw)


def _object(raw: bytes) -> Raw:
    try:
        found = json.loads(raw)
    except ValueError:
        return {"message": raw.decode(errors="replace")[:500]}
    return found if isinstance(found, dict) else {}


def _after(headers: Mapping[str, str]) -> float:
    told = {name.lower(): value for name, value in headers.items()}.get("retry-after", "")
    return float(told) if told.isdigit() else _RETRY_AFTER
