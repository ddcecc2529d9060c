"""Whether a data folder can be worked with, found out before anything is started in it."""

import fcntl
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from k2.cli.embedded.layout import Layout

_LEAST_FREE: Final = 256 << 20
SCARCE: Final = 64 << 20  # less than this explains why processes die


class Unusable(ValueError):
    """A folder that must not be worked in, and what to change."""


def check(layout: Layout) -> None:
    """Raises `Unusable` for a folder that cannot be written, a full disk, or a damaged database."""
    try:
        layout.root.mkdir(parents=True, exist_ok=True)
        (layout.root / ".probe").write_bytes(b"")
        (layout.root / ".probe").unlink()
    except OSError as error:
        raise Unusable(f"{layout.root} cannot be written: {error.strerror}; choose another with --data") from error
    if (left := free(layout)) < _LEAST_FREE:
        raise Unusable(f"only {left >> 20} MB are free in {layout.root}; make room for at least {_LEAST_FREE >> 20} MB")
    for database in (layout.catalog, layout.registry):
        if database.exists() and (damage := _damage(database)):
            raise Unusable(
                f"{database} is damaged ({damage}); restore it from a backup, or move {layout.root} away to start anew"
            )


def free(layout: Layout) -> int:
    """Bytes left on the folder's disk."""
    return shutil.disk_usage(layout.root).free


def _damage(database: Path) -> str:
    try:
        with closing(sqlite3.connect(f"file:{database}?mode=rw", uri=True, timeout=10)) as connection:
            found: str = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.DatabaseError as error:
        return str(error)
    return "" if found == "ok" else " ".join(found.split())


def claim(layout: Layout) -> Any:
    """A lock on the folder, held until the result is closed. Raises `Unusable` if somebody else holds it."""
    file = os.fdopen(os.open(layout.lock, os.O_RDWR | os.O_CREAT, 0o644), "r+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = file.read().strip() or "another process"
        file.close()
        raise Unusable(f"{layout.root} is in use by k2 up ({holder}); stop it with k2 down, or use --data") from None
    file.truncate(0)
    file.write(f"pid {os.getpid()}\n")
    file.flush()
    return file
