"""The processes of statements: a few wait, confined and warm, each serves one statement and ends."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec

from k2.query.errors import Unavailable
from k2.query.sql.cage.confinement.confine import Protection
from k2.query.sql.cage.control import ENDED, FORK, KILL, REPLY, REQUEST, Settings
from k2.query.sql.cage.process import StatementProcess

if TYPE_CHECKING:
    from concurrent.futures import Future

    from k2.query.sql.cage.limits import Limits

_ENVIRONMENT: Final = ("PATH", "PYTHONPATH", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH")
# How S3's client finds credentials, certificates and proxies: only where the warehouse is in S3.
_S3_ENVIRONMENT: Final = ("AWS_", "SSL_CERT_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "HOME")
# One heap for few threads, no thread pools in libraries: address space is what is limited.
_FIXED_ENVIRONMENT: Final = {
    "OPENBLAS_NUM_THREADS": "1", "ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "2",
    "PYTHONDONTWRITEBYTECODE": "1",
}  # fmt: skip


class Cage:
    """Run statements in processes of their own. Thread-safe. Nothing is started before the first statement.

    Args:
        limits: What each statement may use.
        warm: How many processes wait for a statement.
        network: The TCP port that they may connect to, of the object store; None: no network.

    """

    def __init__(self, limits: Limits, *, warm: int = 1, network: int | None = None) -> None:
        self.limits = limits
        self._warm, self._network = warm, network
        self._lock = threading.Lock()
        self._server: _ForkServer | None = None
        self._waiting: deque[StatementProcess] = deque()

    def process(self) -> StatementProcess:
        """Return a process for one statement, and start the one that waits in its place. Raises `Unavailable`."""
        with self._lock:
            if self._server is None or not self._server.alive:
                self._stop()
                self._server = _ForkServer(self.limits, self._network)
            while len(self._waiting) <= self._warm:
                self._waiting.append(self._server.fork())
            process = self._waiting.popleft()
        process.ready()
        return process

    def protection(self) -> Protection:
        """Start a process, and return what keeps it from changing anything. Raises `Unavailable`."""
        with self._lock:
            if self._server is None or not self._server.alive:
                self._stop()
                self._server = _ForkServer(self.limits, self._network)
            process = self._server.fork()
        try:
            return Protection(**process.ready())
        finally:
            process.close()

    def close(self) -> None:
        """End every process."""
        with self._lock:
            self._stop()

    def _stop(self) -> None:
        while self._waiting:
            self._waiting.popleft().close()
        if self._server is not None:
            self._server.close()
            self._server = None


class _ForkServer:
    """The process that forks those of statements. Its control socket closes when this process ends, however it ends."""

    def __init__(self, limits: Limits, network: int | None) -> None:
        self._limits = limits
        self._control, theirs = socket.socketpair()
        arguments = msgspec.json.encode(Settings(limits, network)).decode()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "k2.query.sql.cage.fork_server", arguments],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                env=_environment(s3=network is not None),
                start_new_session=True,
            )
        self._numbers = itertools.count()
        # Not the processes themselves: one that nobody refers to any more is ended.
        self._news: dict[int, tuple[Future[int], Future[int]]] = {}
        self._sending = threading.Lock()
        self.alive = True
        threading.Thread(target=self._listen, name="k2-cage", daemon=True).start()

    def fork(self) -> StatementProcess:
        """Ask for one more process, and do not wait for it."""
        number = next(self._numbers)
        ours, theirs = socket.socketpair()
        with theirs:
            process = StatementProcess(ours, self._limits, partial(self._kill, number))
            self._news[number] = process.started, process.exit
            try:
                with self._sending:
                    socket.send_fds(self._control, [REQUEST.pack(FORK, number)], [theirs.fileno()])
            except OSError as error:
                process.close()
                raise Unavailable("no process can be started for the statement") from error
        return process

    def close(self) -> None:
        """End the process, which ends those that it has forked."""
        self.alive = False
        with suppress(OSError):
            self._control.shutdown(socket.SHUT_RDWR)
        try:
            self._process.wait(2.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _kill(self, number: int) -> None:
        with suppress(OSError), self._sending:
            self._control.sendall(REQUEST.pack(KILL, number))

    def _listen(self) -> None:
        with suppress(OSError):
            while data := self._control.recv(REPLY.size, socket.MSG_WAITALL):
                what, number, value = REPLY.unpack(data)
                started, ended = self._news[number]
                if what == ENDED:
                    del self._news[number]
                    ended.set_result(value)
                else:
                    started.set_result(value)
        self.alive = False
        for _, ended in list(self._news.values()):
            ended.set_result(-signal.SIGKILL)
        self._control.close()


def _environment(*, s3: bool) -> dict[str, str]:
    passed = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    if s3:
        passed |= {name: value for name, value in os.environ.items() if name.upper().startswith(_S3_ENVIRONMENT)}
    return passed | _FIXED_ENVIRONMENT
