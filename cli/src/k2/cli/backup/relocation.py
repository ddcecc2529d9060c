"""Moves a copied lake to another folder: Iceberg's metadata names its files by absolute paths.

The catalog, the metadata files, the manifest lists and the manifests are rewritten; data files are as they were.
"""

import gzip
import json
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import fastavro

from k2.cli.backup import moments

_METADATA: Final = ".metadata.json"
_GZIP: Final = b"\x1f\x8b"

Move = Callable[[Any], Any]


class NotRelocatable(ValueError):
    """The lake cannot be moved to another folder."""


def relocate(root: Path, old: str, new: str) -> None:
    """Rewrite every path of the lake below `root` from the folder `old` to `new`. Raises `NotRelocatable`."""
    if old == new:
        return
    move = _moved(old, new)
    lengths: dict[str, int] = {}
    paths = sorted((root / "warehouse").rglob("*.avro"))
    lists = [path for path in paths if not _rewrite_manifest(path, move, lengths, root)]
    for path in lists:
        _rewrite_list(path, move, lengths)
    for path in sorted((root / "warehouse").rglob(f"*{_METADATA}")):
        _rewrite_metadata(path, move)
    for checksum in (root / "warehouse").rglob(".*.crc"):  # of what was rewritten, and of no use without
        checksum.unlink()
    _rewrite_catalog(root / "catalog.db", move)


def _moved(old: str, new: str) -> Move:
    """Return what replaces the folder in every text of a document that names a file in it."""
    prefixes = [f"{scheme}{old}/warehouse" for scheme in ("file://", "file:", "")]

    def move(value: Any) -> Any:
        match value:
            case str():
                for prefix in prefixes:
                    if value == prefix or value.startswith(f"{prefix}/"):
                        return value.replace(old, new, 1)
                return value
            case dict():
                return {key: move(inner) for key, inner in value.items()}
            case list():
                return [move(inner) for inner in value]
        return value

    return move


def _rewrite_manifest(path: Path, move: Move, lengths: dict[str, int], root: Path) -> bool:
    """Rewrite a manifest and note its length by its new location; return False for a manifest list."""
    with path.open("rb") as file:
        reader = fastavro.reader(file)
        schema, codec, metadata = reader.writer_schema, reader.codec, dict(reader.metadata)
        if schema is None or _record_name(schema) != "manifest_entry":
            return False
        if metadata.get("content", "data") != "data":
            raise NotRelocatable(f"{path} names delete files, which hold absolute paths; compact the table first")
        entries = [move(entry) for entry in reader]
    _write(path, schema, codec, metadata, entries)
    lengths[path.relative_to(root).as_posix()] = path.stat().st_size
    return True


def _rewrite_list(path: Path, move: Move, lengths: Mapping[str, int]) -> None:
    with path.open("rb") as file:
        reader = fastavro.reader(file)
        schema, codec, metadata = reader.writer_schema, reader.codec, dict(reader.metadata)
        entries = [move(entry) for entry in reader]
    for entry in entries:
        name = f"warehouse/{entry['manifest_path'].rpartition('/warehouse/')[2]}"
        # Expired snapshots may name manifests that are deleted already.
        entry["manifest_length"] = lengths.get(name, entry["manifest_length"])
    _write(path, schema, codec, metadata, entries)


def _record_name(schema: Any) -> str:
    return str(schema.get("name", "")).rpartition(".")[2] if isinstance(schema, dict) else ""


def _write(path: Path, schema: Any, codec: str, metadata: Mapping[str, str], entries: list[Any]) -> None:
    own = {key: value for key, value in metadata.items() if not key.startswith("avro.")}
    temporary = path.with_name(f"{path.name}.new")
    with temporary.open("wb") as file:
        fastavro.writer(file, schema, entries, codec=codec, metadata=own)
    temporary.replace(path)


def _rewrite_metadata(path: Path, move: Move) -> None:
    document = move(moments.load_metadata(path))
    data = json.dumps(document, separators=(",", ":")).encode()
    compressed = path.read_bytes()[:2] == _GZIP
    temporary = path.with_name(f"{path.name}.new")
    temporary.write_bytes(gzip.compress(data) if compressed else data)
    temporary.replace(path)


def _rewrite_catalog(catalog: Path, move: Move) -> None:
    if not catalog.exists():
        return
    columns = ("metadata_location", "previous_metadata_location")
    with closing(sqlite3.connect(catalog)) as connection, connection:
        for column in columns:
            rows = connection.execute(f"SELECT rowid, {column} FROM iceberg_tables").fetchall()  # noqa: S608 - our own
            changed = [(move(location), rowid) for rowid, location in rows if location is not None]
            connection.executemany(f"UPDATE iceberg_tables SET {column} = ? WHERE rowid = ?", changed)  # noqa: S608
