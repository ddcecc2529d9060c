"""`python -m k2.query.sql.cage.fork_server`: a process that has imported all that statements need, and forks.

A process of a statement takes a few milliseconds this way, and not the half second of a new interpreter. The server of
forks has one thread, which makes forking safe, and reads nothing of what users send. It ends, and with it every process
that it forked, when its control socket closes.
"""

from __future__ import annotations

import importlib
import os
import selectors
import signal
import socket
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import msgspec

from k2.query.sql.cage import child
from k2.query.sql.cage.control import ENDED, FORK, REPLY, REQUEST, STARTED, Settings

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_MAX_DESCRIPTORS: Final = 256
_FOR_NETWORK: Final = ("pyarrow.dataset", "pyarrow.fs", "pyarrow.parquet")


def preload(*, network: bool) -> None:
    """Import what a statement would otherwise import in its confinement, where it cannot read the files."""
    for name in ("pyarrow.compute", "pyarrow.ipc", *(_FOR_NETWORK if network else ())):
        importlib.import_module(name)


def main(arguments: str) -> None:
    """Fork a process per request until the control socket, standard input, closes."""
    settings = msgspec.json.decode(arguments, type=Settings)
    preload(network=settings.network is not None)
    database = child.template()
    control = socket.socket(fileno=os.dup(0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    awake, wakes = os.pipe()
    for end in (awake, wakes):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
    running: dict[int, int] = {}  # pid by number
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(control, selectors.EVENT_READ)
            selector.register(awake, selectors.EVENT_READ)
            while True:
                ready = [key.fileobj for key, _ in selector.select()]
                if awake in ready:
                    os.read(awake, 4096)
                if control in ready and not _obey(control, running, database, settings):
                    return
                for number, status in _ended(running):
                    control.sendall(REPLY.pack(ENDED, number, status))
    except (BrokenPipeError, ConnectionResetError):  # the other end was closed with a reply under way
        return
    finally:
        _end(running)


def _obey(control: socket.socket, running: dict[int, int], database: DuckDBPyConnection, settings: Settings) -> bool:
    """Do what the server asks for; return False once it has closed the socket."""
    data, descriptors, _, _ = socket.recv_fds(control, REQUEST.size, 1, socket.MSG_WAITALL)
    if not data:
        return False
    what, number = REQUEST.unpack(data)
    if what == FORK:
        running[number] = pid = _fork(descriptors[0], database, settings)
        control.sendall(REPLY.pack(STARTED, number, pid))
    elif number in running:
        os.kill(running[number], signal.SIGKILL)
    return True


def _fork(descriptor: int, database: DuckDBPyConnection, settings: Settings) -> int:
    pid = os.fork()
    if pid:
        os.close(descriptor)
        return pid
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        nothing = os.open(os.devnull, os.O_RDWR)
        for standard in range(3):
            os.dup2(nothing, standard)
        own = os.dup2(descriptor, 3)
        os.closerange(4, _MAX_DESCRIPTORS)
        with socket.socket(fileno=own) as channel:
            child.run(channel, database, settings.limits, settings.network)
        status = 0
    finally:
        os._exit(status)


def _ended(running: dict[int, int]) -> list[tuple[int, int]]:
    ended = []
    for number, pid in list(running.items()):
        reaped, status = os.waitpid(pid, os.WNOHANG)
        if reaped:
            del running[number]
            ended.append((number, os.waitstatus_to_exitcode(status)))
    return ended


def _end(running: dict[int, int]) -> None:
    for pid in running.values():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1])
