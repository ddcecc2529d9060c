"""Checks of a data folder before a platform starts in it: writable, disk space, databases, stored format, unlocked."""

import fcntl
import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from k2.cli.embedded.layout import Layout
from k2.schemas import topics
from k2.schemas.codecs.avro import format_of
from k2.schemas.formats import FORMAT, OtherFormat

_MIN_FREE: Final = 256 << 20
LOW_DISK: Final = 64 << 20  # bytes; below this a full disk explains why processes die


class Unusable(ValueError):
    """The folder cannot be used; the message says what to change."""


def check(layout: Layout) -> None:
    """Raise `Unusable` for a folder that is not writable, a full disk, a damaged database, or another stored format."""
    try:
        layout.root.mkdir(parents=True, exist_ok=True)
        (layout.root / ".probe").write_bytes(b"")
        (layout.root / ".probe").unlink()
    except OSError as error:
        raise Unusable(f"{layout.root} is not writable: {error.strerror}; choose another --data") from error
    if (available := free(layout)) < _MIN_FREE:
        raise Unusable(f"only {available >> 20} MB free in {layout.root}; free at least {_MIN_FREE >> 20} MB")
    for database in (layout.catalog, layout.registry):
        if database.exists() and (damage := _damage(database)):
            raise Unusable(
                f"{database} is damaged ({damage}); restore it from a backup, or move {layout.root} away to start empty"
            )
    if (written := _stored_format(layout.registry)) != FORMAT:
        raise Unusable(str(OtherFormat(f"the data in {layout.root}", written)))


def free(layout: Layout) -> int:
    """Return the free bytes on the folder's disk."""
    return shutil.disk_usage(layout.root).free


def _damage(database: Path) -> str:
    try:
        with closing(sqlite3.connect(f"file:{database}?mode=rw", uri=True, timeout=10)) as connection:
            result: str = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.DatabaseError as error:
        return str(error)
    return "" if result == "ok" else " ".join(result.split())


def _stored_format(registry: Path) -> int:
    """Return the format of the records in the folder's topics, by their schemas; this version's if there are none."""
    if not registry.exists():
        return FORMAT
    subjects = topics.subject(topics.records("%", "%"))
    statement = "SELECT s.text FROM versions v JOIN schemas s ON s.id = v.schema_id WHERE v.subject LIKE ?"
    with closing(sqlite3.connect(f"file:{registry}?mode=ro", uri=True, timeout=10)) as connection:
        try:
            texts = connection.execute(statement, (subjects,)).fetchall()
        except sqlite3.OperationalError:  # the registry has not started in this folder yet
            return FORMAT
    return next((number for (text,) in texts if (number := format_of(text)) != FORMAT), FORMAT)


def lock(layout: Layout) -> Any:
    """Lock the folder until the returned file is closed. Raises `Unusable` if another process holds the lock."""
    file = os.fdopen(os.open(layout.lock, os.O_RDWR | os.O_CREAT, 0o644), "r+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = file.read().strip() or "another process"
        file.close()
        raise Unusable(
            f"{layout.root} is in use by k2 up ({holder}); stop it with k2 down, or choose another --data"
        ) from None
    file.truncate(0)
    file.write(f"pid {os.getpid()}\n")
    file.flush()
    return file
