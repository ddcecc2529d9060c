"""Client of the Kubernetes API server: server-side apply with one field manager, get, delete and Events.

The only module that imports the client of `kubernetes`. Its calls block, so each runs in a thread.
"""

import asyncio
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final

from kubernetes import config
from kubernetes.client import ApiClient, ApiException, Configuration
from urllib3.exceptions import HTTPError

from k2.common import logs
from k2.operator.desired.naming import MANAGER, Manifest
from k2.operator.observed import objects
from k2.operator.observed.objects import K8sObject, Rejection

log = logs.get("cluster")

APPLY: Final = "application/apply-patch+yaml"
_TIMEOUT: Final = 30.0
_RETRY_AFTER: Final = 5.0
_RETRYABLE: Final = frozenset({0, 429, 500, 502, 503, 504})
# The message of a 500 for a manifest with a field that its kind does not have. A retry would not help.
_UNKNOWN_FIELD: Final = "failed to create typed patch object"
_CORE: Final = "v1"
_IRREGULAR: Final = {"NetworkPolicy": "networkpolicies"}


class RequestRejected(RuntimeError):
    """The API server rejected a request."""

    def __init__(self, rejection: Rejection) -> None:
        super().__init__(str(rejection))
        self.rejection = rejection


class Unavailable(ConnectionError):
    """The API server is unreachable or overloaded; retry after `after` seconds."""

    def __init__(self, message: str, after: float = _RETRY_AFTER) -> None:
        super().__init__(message)
        self.after = after


class ServerError(Unavailable):
    """The API server failed one request, without asking to wait: often a webhook that this kind of object passes.

    Other requests may succeed. If the server fails all of them, the write of the status shows it.
    """

    def __init__(self, rejection: Rejection) -> None:
        super().__init__(str(rejection))
        self.rejection = rejection


def plural(kind: str) -> str:
    """Return the resource name of a kind: `deployments` for `Deployment`."""
    return _IRREGULAR.get(kind, f"{kind.lower()}s")


def path(api_version: str, kind: str, namespace: str, name: str = "", subresource: str = "") -> str:
    """Return the URL path of an object, or without a name that of the kind's collection in the namespace."""
    root = f"/api/{api_version}" if api_version == _CORE else f"/apis/{api_version}"
    parts = [root, "namespaces", namespace, plural(kind), name, subresource]
    return "/".join(part for part in parts if part)


def connect(*, retries: bool = True) -> ApiClient:
    """Return a client for the cluster that this process runs in, or else for the kubeconfig's current context.

    Without `retries` a request is sent once: urllib3 would repeat one that timed out, with its own time limit each.
    """
    settings = Configuration()
    if not retries:
        settings.retries = 0
    try:
        config.load_incluster_config(client_configuration=settings)
    except config.ConfigException:
        config.load_kube_config(client_configuration=settings)
    return ApiClient(settings)


class Cluster:
    """Read and write objects. Methods raise `RequestRejected`, `ServerError` and other `Unavailable`."""

    def __init__(self, client: ApiClient, guard: Callable[[], None] = lambda: None) -> None:
        """`guard` is called before each write, and does not return if this process may not write."""
        self._client = client
        self._guard = guard

    async def apply(self, manifest: Manifest, *, subresource: str = "") -> K8sObject:
        """Apply a manifest, taking over fields from other managers; return the object as stored."""
        metadata = manifest["metadata"]
        where = path(manifest["apiVersion"], manifest["kind"], metadata["namespace"], metadata["name"], subresource)
        query = [("fieldManager", MANAGER), ("force", "true")]
        return await self._request("PATCH", "apply", where, query, manifest, APPLY)

    async def get(self, api_version: str, kind: str, namespace: str, name: str) -> K8sObject | None:
        """Return an object, or None if it does not exist."""
        try:
            return await self._request("GET", "get", path(api_version, kind, namespace, name))
        except RequestRejected as error:
            if error.rejection.code == HTTPStatus.NOT_FOUND:
                return None
            raise

    async def delete(self, live: K8sObject) -> None:
        """Delete an object and what it owns, unless it is gone already or was recreated since (another uid)."""
        metadata = live["metadata"]
        where = path(live["apiVersion"], live["kind"], metadata["namespace"], metadata["name"])
        body = {"preconditions": {"uid": metadata["uid"]}, "propagationPolicy": "Background"}
        try:
            await self._request("DELETE", "delete", where, body=body)
        except RequestRejected as error:
            if error.rejection.code not in {HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT}:
                raise

    async def event(self, body: K8sObject, kind: str, reason: str, message: str) -> None:
        """Create an Event about a feed. `kind` is Normal or Warning."""
        metadata = body["metadata"]
        now = datetime.now(UTC)
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": f"{metadata['name']}.", "namespace": metadata["namespace"]},
            "involvedObject": {
                "apiVersion": body["apiVersion"],
                "kind": body["kind"],
                "name": metadata["name"],
                "namespace": metadata["namespace"],
                "uid": metadata["uid"],
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
        await self._request("POST", "create", path("v1", "Event", metadata["namespace"]), body=event)

    async def _request(
        self,
        method: str,
        verb: str,
        where: str,
        query: list[tuple[str, str]] | None = None,
        body: Any = None,
        content: str = "application/json",
    ) -> K8sObject:
        if method != "GET":
            self._guard()
        log.debug("API request", verb=verb, path=where)
        status, headers, answer = await asyncio.to_thread(self._send, method, where, query or [], body, content)
        if status < HTTPStatus.BAD_REQUEST:
            return answer
        resource, _, name = where.rpartition("/namespaces/")[2].partition("/")[2].partition("/")
        rejection = objects.rejection(verb, resource, name, {"code": status, **answer})
        if status not in _RETRYABLE or _UNKNOWN_FIELD in rejection.message:
            raise RequestRejected(rejection)
        wait = _retry_after(headers)
        if wait is None and status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise ServerError(rejection)
        raise Unavailable(f"{verb} {resource} {name}: {status} {rejection.message}", wait or _RETRY_AFTER)

    def send(self, method: str, where: str, body: Any, timeout: float) -> tuple[int, K8sObject]:
        """Send one request, whoever has the lease, and return the status and the answer. Blocks."""
        status, _, answer = self._send(method, where, [], body, "application/json", timeout, lambda: None)
        return status, answer

    def _send(
        self,
        method: str,
        where: str,
        query: list[tuple[str, str]],
        body: Any,
        content: str,
        timeout: float = _TIMEOUT,
        guard: Callable[[], None] | None = None,
    ) -> tuple[int, Mapping[str, str], K8sObject]:
        headers = {"Content-Type": content, "Accept": "application/json"}
        request = self._client.param_serialize(
            method,
            where,
            query_params=query,
            header_params=headers,
            body=json.dumps(body) if content == APPLY else body,
            auth_settings=["BearerToken"],
        )
        if method != "GET":
            (guard or self._guard)()  # again: this thread may have waited
        try:
            answer = self._client.call_api(*request[:4], _request_timeout=timeout)
            raw = answer.read()
        except (HTTPError, OSError, ApiException) as error:
            raise Unavailable(f"{method} {where}: {error}") from error
        return answer.status, dict(answer.getheaders() or {}), _object(raw)


def _object(raw: bytes) -> K8sObject:
    try:
        answer = json.loads(raw)
    except ValueError:
        return {"message": raw.decode(errors="replace")[:500]}
    return answer if isinstance(answer, dict) else {}


def _retry_after(headers: Mapping[str, str]) -> float | None:
    value = {name.lower(): text for name, text in headers.items()}.get("retry-after", "")
    return float(value) if value.isdigit() else None
