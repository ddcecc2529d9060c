"""The Lease of the one operator that writes: acquired before kopf starts, renewed in a thread, checked at each write.

A process that loses it ends at once, without any cleanup that could write; as a new process it stands by.
"""

import os
import threading
import time
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final

from k2.common import logs
from k2.operator.api.cluster import Cluster, Unavailable, path
from k2.operator.planning import leadership
from k2.operator.planning.leadership import Instant, Observation

log = logs.get("election")

EXIT_CODE: Final = 75  # of a process that lost its lease
_API: Final = "coordination.k8s.io/v1"
_TIMEOUT: Final = 2.0  # seconds of a request
_ACQUIRE: Final = 0.5  # seconds between two looks at a lease that another process has, or that could not be renewed
_RENEW: Final = 2.0  # seconds between two renewals: they are the only writes of an idle operator
_CHECK: Final = 0.2  # seconds between two checks of a leader's own lease


class Election:
    """One process's part in the election. `cluster` needs no guard of its own."""

    def __init__(self, cluster: Cluster, namespace: str, name: str, identity: str) -> None:
        self._cluster = cluster
        self._namespace, self._name, self._identity = namespace, name, identity
        self._observation = Observation()
        self._renewed: Instant | None = None
        self._stopped = threading.Event()
        self._error = ""

    @property
    def error(self) -> str:
        """Why the lease could not be read or written last; empty if it could."""
        return self._error

    def acquire(self) -> None:
        """Wait until this process has the lease."""
        log.info("standing by", lease=f"{self._namespace}/{self._name}", identity=self._identity)
        while not self.attempt():
            time.sleep(_ACQUIRE)
        log.info("lease acquired", lease=f"{self._namespace}/{self._name}", identity=self._identity)
        threading.Thread(target=self._renew, name="lease", daemon=True).start()

    def check(self) -> None:
        """End the process if it may not write: it does not return then."""
        if not leadership.is_valid(self._renewed, _now()):
            self._end("the lease was not renewed in time")

    def release(self) -> None:
        """Let another process take the lease at once."""
        self._stopped.set()
        if leadership.is_valid(self._renewed, _now()):
            self._renewed = None
            try:
                self._write(self._read(), "")
            except Unavailable as failure:
                log.warning("the lease is not released: it expires", error=str(failure))

    def _renew(self) -> None:
        due = 0.0
        while not self._stopped.wait(_CHECK):
            self.check()
            if time.monotonic() >= due:
                due = time.monotonic() + (_RENEW if self.attempt() else _ACQUIRE)

    def attempt(self) -> bool:
        """Acquire or renew the lease once; return whether it was written. A leader that finds another one ends.

        A conflict alone proves no other leader: someone may have changed the object's metadata meanwhile.
        """
        error, acquired = "", False
        try:
            lease, now = self._read(), _now()
            if self._renewed is not None and leadership.holder(lease) not in {"", self._identity}:
                self._end("another process has the lease")
            if lease is not None:
                self._observation = leadership.observe(lease, self._observation, now)
            if lease is None or leadership.may_take(lease, self._identity, self._observation, now):
                acquired = self._write(lease, self._identity)
        except Unavailable as failure:
            error = str(failure)
        else:
            if acquired:
                self._renewed = now  # the time before the request: another process counts from later on
        if error and error != self._error:
            log.warning("the lease cannot be read or written: nothing is written without it", error=error)
        self._error = error
        return acquired

    def _read(self) -> dict[str, Any] | None:
        status, answer = self._send("GET", path(_API, "Lease", self._namespace, self._name))
        return None if status == HTTPStatus.NOT_FOUND else answer

    def _write(self, lease: dict[str, Any] | None, identity: str) -> bool:
        """Write the record unless it has changed since it was read; return whether it was written."""
        text = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        metadata = lease["metadata"] if lease else {"name": self._name, "namespace": self._namespace}
        spec = leadership.record(lease, identity, text)
        body = {"apiVersion": _API, "kind": "Lease", "metadata": metadata, "spec": spec}
        method, name = ("PUT", self._name) if lease else ("POST", "")
        status, _ = self._send(method, path(_API, "Lease", self._namespace, name), body)
        return status < HTTPStatus.BAD_REQUEST

    def _send(self, method: str, where: str, body: Any = None) -> tuple[int, dict[str, Any]]:
        status, answer = self._cluster.send(method, where, body, _TIMEOUT)
        expected = {HTTPStatus.NOT_FOUND} if method == "GET" else {HTTPStatus.CONFLICT}
        if status >= HTTPStatus.BAD_REQUEST and status not in expected:
            raise Unavailable(f"{method} {where}: {status} {answer.get('message', '')}")
        return status, dict(answer)

    def _end(self, reason: str) -> None:
        log.error("lease lost", reason=reason, identity=self._identity)
        os._exit(EXIT_CODE)


_GUARDS: Final[list[Election]] = []


def install(election: Election) -> None:
    """Make an election's lease the condition of all writes."""
    _GUARDS[:] = [election]


def check() -> None:
    """End the process if it needs a lease and has none."""
    for election in _GUARDS:
        election.check()


def _now() -> Instant:
    return Instant(time.monotonic(), time.time())
