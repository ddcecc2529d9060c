"""A client of an API server with a watch, and the requests in the server's audit log."""

import http.client
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from bench.harness.processes import BenchFailed
from tests.apiserver.support.servers import TOKEN, Api

MERGE: Final = "application/merge-patch+json"
WRITES: Final = frozenset({"create", "update", "patch", "delete", "deletecollection"})
POLICY: Final = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived", "ResponseStarted"],
    "rules": [{"level": "Metadata"}],
}


class Connection:
    """A persistent connection: `Api` opens one per request, which costs more than the request."""

    def __init__(self, api: Api) -> None:
        parts = urlsplit(api.url)
        self._http = http.client.HTTPSConnection(str(parts.hostname), parts.port, timeout=60, context=api.trust())

    def request(self, method: str, path: str, body: Any = None, content: str = "application/json") -> Any:
        """Send a request and return its JSON response. Raises `BenchFailed` on an error status."""
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": content}
        self._http.request(method, path, json.dumps(body) if body is not None else None, headers)
        response = self._http.getresponse()
        raw = response.read()
        if response.status >= http.HTTPStatus.BAD_REQUEST:
            raise BenchFailed(f"{method} {path}: {response.status} {raw[:300].decode(errors='replace')}")
        return json.loads(raw)

    def events(self, path: str) -> Iterator[Any]:
        """Yield the events of a watch from now on, until the connection is closed."""
        version = self.request("GET", f"{path}?limit=1")["metadata"]["resourceVersion"]
        self._http.request(
            "GET", f"{path}?watch=1&resourceVersion={version}", headers={"Authorization": f"Bearer {TOKEN}"}
        )
        with self._http.getresponse() as response:
            while line := response.readline():
                yield json.loads(line)

    def end(self) -> None:
        """End a watch that another thread reads."""
        if self._http.sock is not None:
            self._http.sock.shutdown(socket.SHUT_RDWR)


class ObservedTimes:
    """The times at which objects first reached an awaited state."""

    def __init__(self, name: Callable[[Any], str]) -> None:
        self._name = name  # the name of an object in the awaited state, else an empty string
        self._times: dict[str, float] = {}
        self._changed = threading.Condition()

    def record(self, body: Any) -> None:
        """Record the time if the object is in the awaited state."""
        if name := self._name(body):
            with self._changed:
                self._times.setdefault(name, time.monotonic())
                self._changed.notify_all()

    def wait(self, count: int, within: float) -> float:
        """Wait for `count` objects and return the monotonic time of the last one. Raises `BenchFailed`."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._times) >= count, within):
                raise BenchFailed(f"{len(self._times)} of {count} objects within {within:.0f} s")
            return sorted(self._times.values())[count - 1]

    def wait_for(self, name: str, within: float) -> float:
        """Wait for one object and return its monotonic time. Raises `BenchFailed`."""
        with self._changed:
            if not self._changed.wait_for(lambda: name in self._times, within):
                raise BenchFailed(f"{name} was not observed within {within:.0f} s")
            return self._times[name]


@contextmanager
def watching(api: Api, path: str, name: Callable[[Any], str]) -> Iterator[ObservedTimes]:
    """Watch a path in a thread. `name` returns the name of an object in the awaited state, else an empty string."""
    observed, connection, ended = ObservedTimes(name), Connection(api), threading.Event()

    def follow() -> None:
        try:
            for event in connection.events(path):
                observed.record(event["object"])
        except (OSError, ValueError, AttributeError, http.client.HTTPException):
            if not ended.is_set():
                raise

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    time.sleep(1)  # until it is open
    try:
        yield observed
    finally:
        ended.set()
        connection.end()
        thread.join(10)


class Audit:
    """The requests of one user in the audit log of an API server."""

    def __init__(self, log: Path, user: str) -> None:
        self._log = log
        self._user = user

    def requests(self, since: datetime, until: datetime) -> Counter[str]:
        """Count the requests in a time range by verb and resource, as in `patch configmaps`; watches are left out."""
        counts: Counter[str] = Counter()
        for entry in self._entries():
            received_at = datetime.fromisoformat(entry["requestReceivedTimestamp"])
            if since <= received_at <= until and entry["verb"] != "watch":
                reference = entry.get("objectRef", {})
                parts = (reference.get("resource", entry["requestURI"]), reference.get("subresource", ""))
                counts[f"{entry['verb']} {'/'.join(part for part in parts if part)}"] += 1
        return counts

    def _entries(self) -> Iterator[Any]:
        if not self._log.exists():
            raise BenchFailed(f"the API server wrote no audit log {self._log.name}")
        with self._log.open(encoding="utf-8") as lines:
            for line in lines:
                entry = json.loads(line)
                if entry["user"].get("username") == self._user:
                    yield entry


def writes(requests: Counter[str]) -> int:
    """Return the number of requests with a writing verb, whether or not they changed an object."""
    return sum(count for request, count in requests.items() if request.partition(" ")[0] in WRITES)
