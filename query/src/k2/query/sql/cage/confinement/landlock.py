"""Landlock: the kernel refuses this process, and threads it starts later, whatever the rules do not allow.

It needs no privilege. There is no binding of it among maintained packages that offers the network rules, so the three
system calls are made here. Source: the kernel's `include/uapi/linux/landlock.h`; the numbers of the calls are the same
on every architecture.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path
from typing import Final

_CREATE, _ADD_RULE, _RESTRICT = 444, 445, 446
_VERSION: Final = 1  # flag of the first call: return the version of the interface
_PATH_BENEATH, _NET_PORT = 1, 2
_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_CONNECT_TCP: Final = 1 << 1
# By version of the interface: how many rights on files exist, and whether rules for ports and scopes do.
_FILE_RIGHTS: Final = {1: 13, 2: 14, 3: 15, 4: 15}
_NEWEST_FILE_RIGHTS: Final = 16
_WITH_PORTS, _WITH_SCOPES = 4, 6
_NO_NEW_PRIVILEGES: Final = 38  # prctl


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("ports", ctypes.c_uint64), ("scopes", ctypes.c_uint64))


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


class _Port(ctypes.Structure):
    _fields_ = (("allowed", ctypes.c_uint64), ("port", ctypes.c_uint64))


def version() -> int:
    """Return the version of the kernel's interface; 0 if it has none, or it is switched off."""
    if sys.platform != "linux":
        return 0
    try:
        return max(0, _call(_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION)))
    except OSError:
        return 0


def restrict(readable: list[str], connect: int | None) -> None:
    """Leave this thread the reading of files beneath some paths, and connections to one TCP port; None: to none.

    Every other right on files that the kernel knows is lost: writing, creating, removing, renaming, executing. A later
    call can only take more away. Raises `OSError`.
    """
    known_version = version()
    files = (1 << _FILE_RIGHTS.get(known_version, _NEWEST_FILE_RIGHTS)) - 1
    ruleset = _Ruleset(files, 3 if known_version >= _WITH_PORTS else 0, 3 if known_version >= _WITH_SCOPES else 0)
    size = 24 if known_version >= _WITH_SCOPES else 16 if known_version >= _WITH_PORTS else 8
    descriptor = _call(_CREATE, ctypes.byref(ruleset), ctypes.c_size_t(size), ctypes.c_uint32(0))
    try:
        for path in readable:
            _allow_reading(descriptor, path)
        if connect is not None and known_version >= _WITH_PORTS:
            port = _Port(_CONNECT_TCP, connect)
            _call(_ADD_RULE, ctypes.c_int(descriptor), _NET_PORT, ctypes.byref(port), ctypes.c_uint32(0))
        _libc().prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
        _call(_RESTRICT, ctypes.c_int(descriptor), ctypes.c_uint32(0))
    finally:
        os.close(descriptor)


def _allow_reading(ruleset: int, path: str) -> None:
    try:
        parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:  # DuckDB reports a lost file by its name
        return
    try:
        rule = _Beneath(_READ_FILE | _READ_DIR if Path(path).is_dir() else _READ_FILE, parent)
        _call(_ADD_RULE, ctypes.c_int(ruleset), _PATH_BENEATH, ctypes.byref(rule), ctypes.c_uint32(0))
    finally:
        os.close(parent)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _call(number: int, *arguments: object) -> int:
    result = int(_libc().syscall(number, *arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), "landlock")
    return result
