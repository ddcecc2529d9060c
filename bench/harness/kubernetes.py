"""One connection to an API server, a watch of one kind, and what the server's audit log says was asked of it."""

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
    """One that is kept open: `Api` opens one a request, which costs more than the request."""

    def __init__(self, api: Api) -> None:
        parts = urlsplit(api.url)
        self._http = http.client.HTTPSConnection(str(parts.hostname), parts.port, timeout=60, context=api.trust())

    def ask(self, method: str, path: str, body: Any = None, content: str = "application/json") -> Any:
        """The answer. Raises `BenchFailed` if it is a refusal."""
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": content}
        self._http.request(method, path, json.dumps(body) if body is not None else None, headers)
        answer = self._http.getresponse()
        raw = answer.read()
        if answer.status >= http.HTTPStatus.BAD_REQUEST:
            raise BenchFailed(f"{method} {path}: {answer.status} {raw[:300].decode(errors='replace')}")
        return json.loads(raw)

    def events(self, path: str) -> Iterator[Any]:
        """What a watch tells, from now on, until the connection is closed."""
        version = self.ask("GET", f"{path}?limit=1")["metadata"]["resourceVersion"]
        self._http.request(
            "GET", f"{path}?watch=1&resourceVersion={version}", headers={"Authorization": f"Bearer {TOKEN}"}
        )
        with self._http.getresponse() as answer:
            while line := answer.readline():
                yield json.loads(line)

    def end(self) -> None:
        """Ends a watch that another thread reads."""
        if self._http.sock is not None:
            self._http.sock.shutdown(socket.SHUT_RDWR)


class Watched:
    """When each object of a kind first was as somebody waits for it to be."""

    def __init__(self, meant: Callable[[Any], str]) -> None:
        self._meant = meant  # what an object shows: a name to wait for, or nothing
        self._seen: dict[str, float] = {}
        self._news = threading.Condition()

    def note(self, body: Any) -> None:
        """An object was seen."""
        if what := self._meant(body):
            with self._news:
                self._seen.setdefault(what, time.monotonic())
                self._news.notify_all()

    def wait(self, count: int, within: float) -> float:
        """When the last of so many was seen."""
        with self._news:
            if not self._news.wait_for(lambda: len(self._seen) >= count, within):
                raise BenchFailed(f"{len(self._seen)} of {count} within {within:.0f} s")
            return sorted(self._seen.values())[count - 1]

    def wait_for(self, what: str, within: float) -> float:
        """When something was seen."""
        with self._news:
            if not self._news.wait_for(lambda: what in self._seen, within):
                raise BenchFailed(f"{what} was not seen within {within:.0f} s")
            return self._seen[what]


@contextmanager
def watching(api: Api, path: str, meant: Callable[[Any], str]) -> Iterator[Watched]:
    """A watch in a thread. `meant` gives what an object shows that is waited for."""
    found, connection, ended = Watched(meant), Connection(api), threading.Event()

    def follow() -> None:
        try:
            for event in connection.events(path):
                found.note(event["object"])
        except (OSError, ValueError, AttributeError, http.client.HTTPException):
            if not ended.is_set():
                raise

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    time.sleep(1)  # until it is open
    try:
        yield found
    finally:
        ended.set()
        connection.end()
        thread.join(10)


class Audit:
    """The audit log of an API server: which requests a user sent in a span of time."""

    def __init__(self, log: Path, user: str) -> None:
        self._log = log
        self._user = user

    def asked(self, since: datetime, until: datetime) -> Counter[str]:
        """How often the user asked for what: `patch configmaps`. Watches that were opened are not requests here."""
        found: Counter[str] = Counter()
        for entry in self._entries():
            moment = datetime.fromisoformat(entry["requestReceivedTimestamp"])
            if since <= moment <= until and entry["verb"] != "watch":
                about = entry.get("objectRef", {})
                parts = (about.get("resource", entry["requestURI"]), about.get("subresource", ""))
                found[f"{entry['verb']} {'/'.join(part for part in parts if part)}"] += 1
        return found

    def _entries(self) -> Iterator[Any]:
        if not self._log.exists():
            raise BenchFailed(f"the API server wrote no {self._log.name}")
        with self._log.open(encoding="utf-8") as lines:
            for line in lines:
                entry = json.loads(line)
                if entry["user"].get("username") == self._user:
                    yield entry


def writes(asked: Counter[str]) -> int:
    """How many of the requests were to change something, whether or not they did."""
    return sum(count for what, count in asked.items() if what.partition(" ")[0] in WRITES)
