"""Positions of the streams that read a table, so that no snapshot that they still need is expired."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pyspark.sql import SparkSession

from k2.jobs.commit.checkpoints import Checkpoint, path
from k2.jobs.commit.lineage import NO_SNAPSHOT
from k2.jobs.commit.replacement import REBUILD
from k2.jobs.commit.snapshots import Snapshot
from k2.jobs.spark.filesystem import FileSystem
from k2.jobs.stream import GOLD, SILVER

_READING: Final = (SILVER, GOLD)  # the layers that read tables


@dataclass(frozen=True, slots=True)
class Reader:
    """A query that reads a table: the snapshot after which it resumes, or `NO_SNAPSHOT`, and the newest planned."""

    name: str
    start: int
    planned: int

    def snapshots_needed(self, newest_first: Sequence[Snapshot]) -> int:
        """Return how many of a table's newest snapshots the reader needs; 0 if it reads another table."""
        ids = [snapshot.id for snapshot in newest_first]
        if self.start in ids:
            return ids.index(self.start) + 1
        return len(ids) if self.planned in ids else 0


def readers(spark: SparkSession, root: str) -> list[Reader]:
    """Return every query below the checkpoint folder `root` that reads a table, whether it is running or not.

    Raises ValueError, KeyError or IndexError if the position of one cannot be read.
    """
    files = FileSystem(spark)
    # The folders name feeds and channels: a reader counts even if this process does not know its channel.
    candidates = (
        _reader(f"{feed}-{channel}-{layer}", Checkpoint(files, path(root, feed, f"{channel}/{layer}")))
        for feed in files.names(root)
        for channel in files.names(f"{root.rstrip('/')}/{feed}")
        for layer in _READING
    )
    return [reader for reader in candidates if reader is not None]


def rebuilds(refs: Mapping[str, int]) -> list[Reader]:
    """Return the rebuilds that a table's tags name: each needs all that was committed since its base."""
    return [Reader(name, base, base) for name, base in refs.items() if name.startswith(f"{REBUILD}-")]


def snapshots_needed(readers: Iterable[Reader], newest_first: Sequence[Snapshot]) -> tuple[int, str]:
    """Return how many of a table's newest snapshots its readers need, and the reader that needs most."""
    needed = [(reader.snapshots_needed(newest_first), reader.name) for reader in readers]
    return max(needed, default=(0, ""))


def _reader(name: str, checkpoint: Checkpoint) -> Reader | None:
    progress = checkpoint.progress()
    if progress is None:
        return None
    planned: int = progress.end["snapshot_id"]
    if progress.committed:
        return Reader(name, planned, planned)
    return Reader(name, checkpoint.end(progress.epoch - 1)["snapshot_id"] if progress.epoch else NO_SNAPSHOT, planned)
