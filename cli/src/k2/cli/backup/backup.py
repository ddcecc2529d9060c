"""Backup and restore of an embedded platform's folder.

A backup is a folder with the parts of the platform and a manifest, `backup.json`, which has the size and the hash of
every file. It is made while the platform is stopped: tables, catalog, checkpoints and Kafka are then of one moment
without being copied at one. A restore verifies every file, and that the parts belong together, before the folder gets
its name: it is there as a whole or not at all.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from k2.cli.backup import files, moments, relocation
from k2.cli.backup.files import Entries
from k2.cli.embedded import integrity, state
from k2.cli.embedded.layout import Layout
from k2.cli.embedded.state import State
from k2.schemas.formats import FORMAT, OtherFormat

MANIFEST: Final = "backup.json"

_VERSION: Final = 1
_MOST: Final = 3  # files that a message names


class Refused(ValueError):
    """The backup is not made, or not restored; the message has the reasons, one a line."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup holds: when it was made, of which folder, and the files of each part."""

    made_at: str
    root: str
    parts: Mapping[str, Entries]

    @property
    def size(self) -> int:
        """The bytes of all files."""
        return sum(size for entries in self.parts.values() for size, _ in entries.values())

    def text(self) -> str:
        """Return the manifest as JSON."""
        document = {"version": _VERSION, "format": FORMAT, "made_at": self.made_at, "root": self.root}
        return json.dumps(document | {"parts": self.parts}, indent=1)

    @classmethod
    def load(cls, folder: Path) -> "Manifest":
        """Read the manifest of a backup. Raises `Refused`."""
        file = folder / MANIFEST
        try:
            document: Any = json.loads(file.read_text("utf-8"))
            if document["version"] != _VERSION:
                raise Refused(f"{file} is of version {document['version']}; restore it with the K2 that made it")
            if document["format"] != FORMAT:
                raise Refused(str(OtherFormat(f"the backup in {folder}", document["format"])))
            parts = {
                part: {path: (int(size), str(digest)) for path, (size, digest) in entries.items()}
                for part, entries in document["parts"].items()
            }
            return cls(document["made_at"], document["root"], parts)
        except FileNotFoundError:
            raise Refused(f"{folder} is no backup: it has no {MANIFEST}") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, Refused):
                raise
            raise Refused(f"{file} cannot be read: {error}") from error


def create(layout: Layout, target: Path) -> Manifest:
    """Back up a stopped platform into a new folder. Raises `Refused`, `Unusable`, `UnreadableState`, OSError."""
    if target.exists():
        raise Refused(f"{target} exists; choose a folder that does not")
    with integrity.lock(layout):
        current = state.load(layout.state)
        if running := sorted(name for name, child in current.children.items() if child.find() is not None):
            raise Refused(f"{', '.join(running)} of a killed k2 up still run in {layout.root}; stop them with k2 down")
        _check_moments(layout.root, f"the parts of {layout.root} are of different moments; nothing was backed up")
        partial = target.with_name(f".{target.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            parts = {part: files.copy(layout.root, part, partial) for part in files.PARTS}
            if layout.state.exists():
                shutil.copy2(layout.state, partial / files.STATE)
            manifest = Manifest(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", str(layout.root), parts)
            (partial / MANIFEST).write_text(manifest.text(), "utf-8")
            partial.rename(target)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    return manifest


def restore(source: Path, layout: Layout) -> Manifest:
    """Restore a backup into a folder that is new or empty. Raises `Refused`, OSError."""
    if layout.root.exists() and any(layout.root.iterdir()):
        raise Refused(f"{layout.root} is not empty; choose another --data, or move it away")
    manifest = Manifest.load(source)
    _check_moments(source, f"the parts of {source} are of different moments; restore parts of one backup")
    partial = layout.root.with_name(f".{layout.root.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        _copy_verified(source, partial, manifest)
        relocation.relocate(partial, manifest.root, str(layout.root))
        _restore_state(source / files.STATE, partial / files.STATE)
        if layout.root.exists():
            layout.root.rmdir()
        partial.replace(layout.root)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return manifest


def _copy_verified(source: Path, target: Path, manifest: Manifest) -> None:
    if changed := list(_changed(source, target, manifest)):
        raise Refused("\n".join(changed))


def _changed(source: Path, target: Path, manifest: Manifest) -> Iterator[str]:
    """Copy every part; yield those that are not as the manifest says."""
    for part in files.PARTS:
        expected, actual = manifest.parts.get(part, {}), files.copy(source, part, target)
        if actual == expected:
            continue
        differing = sorted(path for path in {*expected, *actual} if expected.get(path) != actual.get(path))
        names = ", ".join(f"{part}/{path}" if path else part for path in differing[:_MOST])
        more = f" and {len(differing) - _MOST} more" if len(differing) > _MOST else ""
        yield (
            f"{part} is not what was backed up at {manifest.made_at}: {names}{more} differ; restore the part from the "
            f"same backup"
        )


def _check_moments(root: Path, summary: str) -> None:
    try:
        conflicts = moments.conflicts(moments.read(root))
    except moments.Unreadable as error:
        raise Refused(str(error)) from error
    if conflicts:
        raise Refused("\n".join([summary, *map(str, conflicts)]))


def _restore_state(source: Path, target: Path) -> None:
    """Keep what a later start goes on with; nothing of the processes."""
    if not source.exists():
        return
    before = state.load(source)
    state.save(target, State(ports=before.ports, feeds=before.feeds, simulated_since=before.simulated_since))
