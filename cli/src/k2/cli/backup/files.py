"""Files of a backup: the parts of a platform's folder, copied with their hashes. Nothing is interpreted here."""

import hashlib
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Final

DATABASES: Final = ("catalog.db", "registry.db")
FOLDERS: Final = ("warehouse", "checkpoints", "kafka", "feeds")
PARTS: Final = (*DATABASES, *FOLDERS)
STATE: Final = "state.json"  # the ports, and since when a simulated exchange has traded

_LOCKS: Final = frozenset({".lock", ".redrive.lock"})
_CHUNK: Final = 1 << 20

Entry = tuple[int, str]  # size in bytes, SHA-256
Entries = Mapping[str, Entry]  # by path within a part; of a database the path is empty


def copy(root: Path, part: str, target: Path) -> dict[str, Entry]:
    """Copy a part from one root to another; return its files as they were written. Nothing if there is no such part."""
    source = root / part
    if part in DATABASES:
        if not source.exists():
            return {}
        _copy_database(source, target / part)
        return {"": _entry(target / part)}
    entries: dict[str, Entry] = {}
    for path in listed(source):
        destination = target / part / path
        destination.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source / path, destination)
        entries[path] = _entry(destination)
    return entries


def entries(root: Path, part: str) -> dict[str, Entry]:
    """Return the files of a part as they are."""
    source = root / part
    if part in DATABASES:
        return {"": _entry(source)} if source.exists() else {}
    return {path: _entry(source / path) for path in listed(source)}


def listed(folder: Path) -> Iterator[str]:
    """Yield the paths of the files in a folder that a backup has, sorted."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name not in _LOCKS:
            yield path.relative_to(folder).as_posix()


def _copy_database(source: Path, target: Path) -> None:
    with (
        closing(sqlite3.connect(f"file:{source}?mode=rw", uri=True)) as connection,
        closing(sqlite3.connect(target)) as copied,
    ):
        connection.backup(copied)


def _entry(path: Path) -> Entry:
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return size, digest.hexdigest()
