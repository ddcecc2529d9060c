"""What the parts of a platform say of the moment that they are from, and which of them do not belong together.

Read from files alone: neither Kafka nor Spark runs. Positions grow, so of two parts that disagree it is plain which is
newer: the one that names what the other does not have yet.
"""

import gzip
import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from k2.schemas.snapshots import EPOCH, QUERY, SCHEMAS

Ends = dict[str, dict[str, int]]  # by topic and partition: the offset after the last

_CHECKPOINTS: Final = "recovery-point-offset-checkpoint"
_CLEAN: Final = ".kafka_cleanshutdown"
_PARTITION: Final = re.compile(r"(.+)-([0-9]+)")
_READS_TABLE: Final = "snapshot_id"


class Unreadable(ValueError):
    """A part cannot be read; the message names the file."""


@dataclass(frozen=True, slots=True)
class TableMoment:
    """A table of the catalog: the number of its last commit, its snapshots, and the newest batch of each query."""

    metadata: str  # the file that the catalog names, below the warehouse
    exists: bool
    sequence: int = 0
    snapshots: frozenset[int] = frozenset()
    epochs: dict[str, int] = field(default_factory=dict)
    schema_id: int = 0  # the highest that Silver decoded with


@dataclass(frozen=True, slots=True)
class QueryMoment:
    """A checkpoint: the query's id, its newest planned batch, and what that ends with."""

    query_id: str
    epoch: int
    snapshot: int | None = None  # of the table that it reads
    ends: Ends = field(default_factory=dict)  # of the topics that it reads
    topic_ids: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Moments:
    """What all parts of a root say. `ends` is None if the broker was killed: then it has not written where logs end."""

    tables: dict[str, TableMoment]
    queries: dict[str, QueryMoment]
    ends: Ends | None
    topic_ids: dict[str, str]
    schema_id: int


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two parts of different moments."""

    newer: str
    older: str
    text: str

    def __str__(self) -> str:
        return f"{self.newer} is newer than {self.older}: {self.text}"


def read(root: Path) -> Moments:
    """Return the moments of the parts below a root. Raises `Unreadable`."""
    ends, topic_ids = _kafka(root / "kafka" / "data")
    tables = _tables(root / "catalog.db", root / "warehouse")
    return Moments(tables, _queries(root / "checkpoints"), ends, topic_ids, _registry(root / "registry.db"))


def conflicts(moments: Moments) -> list[Conflict]:
    """Return the parts that do not belong together, each pair with its first reason."""
    by_parts: dict[tuple[str, str], Conflict] = {}
    for conflict in _all(moments):
        by_parts.setdefault((conflict.newer, conflict.older), conflict)
    return list(by_parts.values())


def _all(moments: Moments) -> Iterator[Conflict]:
    for name, table in sorted(moments.tables.items()):
        if not table.exists:
            yield Conflict("catalog.db", "warehouse", f"{name} needs {table.metadata}, which is not there")
        if table.schema_id > moments.schema_id:
            yield Conflict("warehouse", "registry.db", f"{name} has records of schema {table.schema_id}")
    whole = [table for table in moments.tables.values() if table.exists]
    snapshots = frozenset[int]().union(*(table.snapshots for table in whole))
    for name, query in sorted(moments.queries.items()):
        for epoch in (table.epochs[query.query_id] for table in whole if query.query_id in table.epochs):
            if epoch > query.epoch:
                text = f"a table has batch {epoch} of {name}, whose checkpoint ends with batch {query.epoch}"
                yield Conflict("catalog.db", "checkpoints", text)
        if query.snapshot is not None and query.snapshot not in snapshots:
            text = f"{name} has read up to snapshot {query.snapshot}, which no table has"
            yield Conflict("checkpoints", "catalog.db", text)
        yield from _against_kafka(name, query, moments)


def _against_kafka(name: str, query: QueryMoment, moments: Moments) -> Iterator[Conflict]:
    for topic, topic_id in sorted(query.topic_ids.items()):
        actual = moments.topic_ids.get(topic)
        if actual is None:
            yield Conflict("checkpoints", "kafka", f"{name} has read {topic}, which is not in Kafka")
        elif actual != topic_id:
            text = f"{topic} was made again: {name} has read {topic_id}, and Kafka has {actual}"
            yield Conflict("kafka", "checkpoints", text)
    if moments.ends is None:
        return
    for topic, partitions in sorted(query.ends.items()):
        for partition, end in sorted(partitions.items()):
            if end > (actual_end := moments.ends.get(topic, {}).get(partition, 0)):
                text = f"{name} has read up to offset {end} of {topic}/{partition}, which ends at {actual_end}"
                yield Conflict("checkpoints", "kafka", text)


def _tables(catalog: Path, warehouse: Path) -> dict[str, TableMoment]:
    if not catalog.exists():
        return {}
    statement = "SELECT table_name, metadata_location FROM iceberg_tables"
    try:
        with closing(sqlite3.connect(f"file:{catalog}?mode=ro", uri=True)) as connection:
            rows = connection.execute(statement).fetchall()
    except sqlite3.DatabaseError as error:
        raise Unreadable(f"{catalog} cannot be read: {error}") from error
    return {name: _table(warehouse, location) for name, location in rows if location}


def _table(warehouse: Path, location: str) -> TableMoment:
    relative = location.rpartition("/warehouse/")[2]
    path = warehouse / relative
    if not path.exists():
        return TableMoment(relative, exists=False)
    document = load_metadata(path)
    epochs: dict[str, int] = {}
    schema_id = 0
    for snapshot in document.get("snapshots", ()):
        summary = snapshot.get("summary", {})
        if query := summary.get(QUERY):
            epochs[query] = max(epochs.get(query, -1), int(summary.get(EPOCH, -1)))
        schema_id = max([schema_id, *json.loads(summary.get(SCHEMAS, "[]"))])
    snapshots = frozenset(int(snapshot["snapshot-id"]) for snapshot in document.get("snapshots", ()))
    return TableMoment(
        relative, exists=True, sequence=int(document.get("last-sequence-number", 0)), snapshots=snapshots,
        epochs=epochs, schema_id=schema_id,
    )  # fmt: skip


def load_metadata(path: Path) -> Any:
    """Return a metadata file of Iceberg, compressed or not. Raises `Unreadable`."""
    try:
        data = path.read_bytes()
        return json.loads(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data)
    except (OSError, ValueError, EOFError) as error:
        raise Unreadable(f"{path} cannot be read: {error}") from error


def _queries(root: Path) -> dict[str, QueryMoment]:
    queries = {}
    for metadata in sorted(root.rglob("metadata")):
        folder = metadata.parent
        epochs = [int(path.name) for path in (folder / "offsets").glob("*") if path.name.isdigit()]
        if not epochs or not re.fullmatch(r"v[0-9]+", folder.name):
            continue
        name = "-".join(folder.relative_to(root).parts[:-1])
        newest = folder / "offsets" / str(max(epochs))
        try:
            end = json.loads(newest.read_text().splitlines()[2])
            ids = folder / "topics"
            topic_ids = json.loads(ids.read_text()) if ids.exists() else {}
            query_id = str(json.loads(metadata.read_text())["id"])
        except (OSError, ValueError, KeyError, IndexError) as error:
            raise Unreadable(f"{newest} or a file beside it cannot be read: {error}") from error
        if _READS_TABLE in end:
            queries[name] = QueryMoment(query_id, max(epochs), int(end[_READS_TABLE]))
        else:
            queries[name] = QueryMoment(query_id, max(epochs), None, end, topic_ids)
    return queries


def _kafka(data: Path) -> tuple[Ends | None, dict[str, str]]:
    """Return where each partition ends, as the broker wrote it when it stopped, and the ids of the topics."""
    ends: Ends = {}
    ids: dict[str, str] = {}
    file = data / _CHECKPOINTS
    lines = file.read_text().splitlines()[2:] if file.exists() else []
    for line in lines:
        topic, partition, end = line.split()
        ends.setdefault(topic, {})[partition] = int(end)
    for metadata in sorted(data.glob("*/partition.metadata")):
        if match := _PARTITION.fullmatch(metadata.parent.name):
            fields = dict(line.split(": ", 1) for line in metadata.read_text().splitlines() if ": " in line)
            ids[match[1]] = fields.get("topic_id", "")
    return (ends if (data / _CLEAN).exists() else None), ids


def _registry(file: Path) -> int:
    """Return the newest schema's id; 0 if there is none."""
    if not file.exists():
        return 0
    try:
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
            (newest,) = connection.execute("SELECT coalesce(max(id), 0) FROM schemas").fetchone()
    except sqlite3.DatabaseError as error:
        raise Unreadable(f"{file} cannot be read: {error}") from error
    return int(newest)
