"""Storage of the embedded schema registry in one SQLite file: ids survive restarts. No network here."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType
from avro.errors import AvroException
from avro.schema import Schema
from avro.schema import parse as parse_avro

from k2.common.decimal_scales import scale_changes

LEVELS: Final = ("NONE", "BACKWARD", "BACKWARD_TRANSITIVE", "FORWARD", "FORWARD_TRANSITIVE", "FULL", "FULL_TRANSITIVE")
DEFAULT_LEVEL: Final = "NONE"

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS schemas (id INTEGER PRIMARY KEY AUTOINCREMENT, canonical TEXT UNIQUE, text TEXT);
CREATE TABLE IF NOT EXISTS versions (subject TEXT, version INTEGER, schema_id INTEGER, PRIMARY KEY (subject, version));
CREATE TABLE IF NOT EXISTS levels (subject TEXT PRIMARY KEY, level TEXT);
"""
_JOINED: Final = "FROM versions v JOIN schemas s ON s.id = v.schema_id WHERE subject = ?"


class InvalidSchema(ValueError):
    """The text is not an Avro schema."""


class Incompatible(ValueError):
    """The schema violates the compatibility level of the subject."""


class UnreadableStore(OSError):
    """The file is not a schema store, or cannot be opened."""


class SchemaStore:
    """Subjects, versions, schemas and compatibility levels. Safe to reopen after a crash.

    The constructor raises `UnreadableStore`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            with self._open() as database:
                database.executescript(_TABLES)
        except sqlite3.DatabaseError as error:
            raise UnreadableStore(
                f"{path} is not a schema registry's database: {error}; restore or remove it"
            ) from error

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._path, timeout=30)) as database, database:
            database.execute("PRAGMA synchronous = FULL")
            yield database

    def subjects(self) -> list[str]:
        """Return all subjects, sorted."""
        return [row[0] for row in self._rows("SELECT DISTINCT subject FROM versions ORDER BY subject")]

    def versions(self, subject: str) -> list[int]:
        """Return the versions of a subject; empty if it does not exist."""
        return [
            row[0] for row in self._rows("SELECT version FROM versions WHERE subject = ? ORDER BY version", subject)
        ]

    def version(self, subject: str, version: int) -> tuple[int, str] | None:
        """Return id and text of one version, or None."""
        query = (
            "SELECT s.id, s.text FROM versions v JOIN schemas s ON s.id = v.schema_id WHERE subject = ? AND version = ?"
        )
        rows = self._rows(query, subject, version)
        return rows[0] if rows else None

    def text(self, schema_id: int) -> str | None:
        """Return the schema with an id, or None."""
        rows = self._rows("SELECT text FROM schemas WHERE id = ?", schema_id)
        return rows[0][0] if rows else None

    def lookup(self, subject: str, text: str) -> tuple[int, int] | None:
        """Return id and version of a schema under a subject, or None if it is not registered there."""
        query = f"SELECT s.id, v.version {_JOINED} AND canonical = ? ORDER BY v.version DESC"
        rows = self._rows(query, subject, canonical(text))
        return rows[0] if rows else None

    def register(self, subject: str, text: str) -> int:
        """Return the id of a schema, registering it if needed. Raises `InvalidSchema`, `Incompatible`."""
        if entry := self.lookup(subject, text):
            return entry[0]
        if not self.compatible(subject, text):
            raise Incompatible(f"the schema violates {self.level(subject)} compatibility of {subject}")
        with self._open() as database:
            row = (canonical(text), text)
            database.execute("INSERT OR IGNORE INTO schemas (canonical, text) VALUES (?, ?)", row)
            query = "SELECT id FROM schemas WHERE canonical = ?"
            schema_id: int = database.execute(query, row[:1]).fetchone()[0]
            newest = "SELECT coalesce(max(version), 0) + 1 FROM versions WHERE subject = ?"
            version = database.execute(newest, (subject,)).fetchone()[0]
            database.execute("INSERT INTO versions VALUES (?, ?, ?)", (subject, version, schema_id))
        return schema_id

    def compatible(self, subject: str, text: str) -> bool:
        """Return whether a schema is compatible with those of a subject. Raises `InvalidSchema`."""
        newer, level = _parse(text), self.level(subject)
        rows = self._rows(f"SELECT s.text {_JOINED} ORDER BY version", subject)
        texts = [row[0] for row in rows]
        checked = texts if level.endswith("_TRANSITIVE") else texts[-1:]
        backward = level.startswith(("BACKWARD", "FULL"))
        forward = level.startswith(("FORWARD", "FULL"))
        if (backward or forward) and any(scale_changes(text, older) for older in checked):
            return False  # Avro's rules do not look at scales
        existing = [_parse(older) for older in checked]
        return all(
            (not backward or _reads(newer, older)) and (not forward or _reads(older, newer)) for older in existing
        )

    def level(self, subject: str) -> str:
        """Return the effective compatibility level of a subject."""
        return self.own_level(subject) or self.own_level("") or DEFAULT_LEVEL

    def own_level(self, subject: str) -> str | None:
        """Return the level set for the subject itself, or None; "" is the global one."""
        rows = self._rows("SELECT level FROM levels WHERE subject = ?", subject)
        return rows[0][0] if rows else None

    def set_level(self, subject: str, level: str) -> None:
        """Set the level of a subject; "" sets the global one."""
        with self._open() as database:
            database.execute("INSERT OR REPLACE INTO levels VALUES (?, ?)", (subject, level))

    def _rows(self, query: str, *values: object) -> list[Any]:
        with self._open() as database:
            return database.execute(query, values).fetchall()


def canonical(text: str) -> str:
    """Normalise a schema's text, so that white space makes no new version. Raises `InvalidSchema`."""
    _parse(text)
    return json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))


def _parse(text: str) -> Schema:
    try:
        return parse_avro(text)
    except (AvroException, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidSchema(str(error)) from error


def _reads(reader: Schema, writer: Schema) -> bool:
    checker = ReaderWriterCompatibilityChecker()  # type: ignore[no-untyped-call]
    result = checker.get_compatibility(reader, writer)
    return result.compatibility is SchemaCompatibilityType.compatible
