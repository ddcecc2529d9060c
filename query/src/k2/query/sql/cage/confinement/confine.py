"""Take from this process, for good, what the statement of a user must not have.

Applied before DuckDB starts a thread: Landlock and the filter of system calls hold for this thread and those that it
starts. Whatever the machine does not offer is left out, and `Protection` says what holds.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Final

from k2.query.sql.cage.confinement import landlock, seccomp
from k2.query.sql.cage.limits import HEADROOM, Limits

_NOBODY: Final = 65534  # user and group
_KEEP_CAPABILITIES, _PARENT_DEATH_SIGNAL = 8, 1  # prctl
_CAPABILITIES_VERSION: Final = 0x20080522
_READ_ANY_FILE: Final = 1 << 2  # CAP_DAC_READ_SEARCH: files of the lake may be readable by their owner only
_NICE: Final = 5  # below the server's own queries
# What S3's client reads: resolver, certificates, libraries that are loaded when they are needed.
_CLIENT_FILES: Final = ("/etc", "/usr", "/lib", "/lib64", "/proc", "/sys/devices/system/cpu", "/dev")


@dataclass(frozen=True, slots=True)
class Protection:
    """What keeps the process of a statement from changing anything, on this machine."""

    landlock: int  # version of the kernel's interface; 0: none
    calls: bool  # system calls are filtered
    user: bool  # it runs as another user
    memory: bool  # its address space is limited
    enforced: bool  # writing was tried, and refused

    def as_dict(self) -> dict[str, Any]:
        """Return the fields by name."""
        return asdict(self)

    def __str__(self) -> str:
        parts = [
            *([f"Landlock {self.landlock}"] if self.landlock else []),
            *(["filtered system calls"] if self.calls else []),
            *(["a user of its own"] if self.user else []),
            *(["limited memory"] if self.memory else []),
        ]
        if not self.enforced:
            return "none: DuckDB's own restrictions alone keep statements from writing"
        return ", ".join(parts)


def start(limits: Limits, network: int | None) -> Protection:
    """Confine this process as far as possible without knowing the statement's tables.

    Limits of the kernel; another user, if this one is root; no writing, no new process, no socket, or only one to a TCP
    port.
    """
    memory = _limit_resources(limits)
    other_user = _leave_root()
    if sys.platform == "linux":  # after the change of the user, which clears it
        _libc().prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    known_version = landlock.version()
    if known_version:
        landlock.restrict(["/"], network)
    filtered = False
    if seccomp.supported():
        with suppress(OSError):  # a kernel without filters
            seccomp.restrict(network=network is not None)
            filtered = True
    return Protection(known_version, filtered, other_user, memory, enforced=_cannot_write())


def narrow(readable: list[str], network: int | None) -> None:
    """Leave of all files those beneath some paths."""
    if landlock.version():
        client_files = [] if network is None else [*_CLIENT_FILES, sys.prefix, sys.base_prefix]
        landlock.restrict([*readable, *client_files], network)


def _limit_resources(limits: Limits) -> bool:
    for number in (signal.SIGALRM, signal.SIGXCPU):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl-c is for the command, which ends this process
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    usage = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(usage.ru_utime + usage.ru_stime + limits.cpu_seconds + 1)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    os.nice(_NICE)
    if sys.platform != "linux":
        return False
    with open("/proc/self/statm", "rb") as statm:  # noqa: PTH123 - one line, at each start
        used = int(statm.read().split()[0]) * resource.getpagesize()
    most = used + limits.memory + HEADROOM
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    return True


def _leave_root() -> bool:
    """Become nobody, and keep of root's rights only the reading of any file. Return whether that was possible."""
    if sys.platform != "linux" or os.geteuid():
        return False
    libc = _libc()
    libc.prctl(_KEEP_CAPABILITIES, 1, 0, 0, 0)
    changed = False
    with suppress(OSError):  # a user namespace without that user
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
        changed = True
    header = (ctypes.c_uint32 * 2)(_CAPABILITIES_VERSION, 0)
    # Effective, permitted and inheritable; then the same for the capabilities above 31.
    libc.capset(header, (ctypes.c_uint32 * 6)(_READ_ANY_FILE, _READ_ANY_FILE, 0, 0, 0, 0))
    return changed


def _cannot_write() -> bool:
    """Try to create a file, and return whether that was refused."""
    for folder in ("/tmp", "."):  # noqa: S108 - where everybody may
        try:
            descriptor = os.open(f"{folder}/k2-cage-{os.getpid()}", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        except OSError:
            continue
        os.close(descriptor)
        with suppress(OSError):
            os.unlink(f"{folder}/k2-cage-{os.getpid()}")  # noqa: PTH108
        return False
    return True


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
