"""How far the streams that read a table have come, so that nothing they still need is removed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from pyspark.sql import SparkSession

from k2.jobs.commit.appender import Snapshot
from k2.jobs.commit.checkpoints import Checkpoint, path
from k2.jobs.commit.lineage import NOTHING
from k2.jobs.spark.filesystem import Files
from k2.jobs.stream import GOLD, SILVER

_READING: Final = (SILVER, GOLD)  # the layers that read tables


@dataclass(frozen=True, slots=True)
class Reader:
    """One query: the snapshot after which it goes on (`NOTHING`: with the first), and the newest that it planned."""

    name: str
    start: int
    planned: int

    def needs(self, log: Sequence[Snapshot]) -> int:
        """How many of a table's newest snapshots this reader needs; none if it reads another table."""
        ids = [snapshot.id for snapshot in log]
        if self.start in ids:
            return ids.index(self.start) + 1
        return len(ids) if self.planned in ids else 0


def readers(spark: SparkSession, root: str) -> list[Reader]:
    """Every query below `root` that reads a table, whether it runs or not, whoever runs it.

    Raises ValueError, KeyError or IndexError if the place of one cannot be read.
    """
    files = Files(spark)
    found = (
        _reader(f"{feed}-{layer}", Checkpoint(files, path(root, feed, layer)))
        for feed in files.names(root)
        for layer in _READING
    )
    return [reader for reader in found if reader is not None]


def held(found: Iterable[Reader], log: Sequence[Snapshot]) -> tuple[int, str]:
    """How many of a table's newest snapshots its readers need, and which reader needs most."""
    needs = [(reader.needs(log), reader.name) for reader in found]
    return max(needs, default=(0, ""))


def _reader(name: str, checkpoint: Checkpoint) -> Reader | None:
    place = checkpoint.place()
    if place is None:
        return None
    planned: int = place.end["snapshot_id"]
    if place.committed:
        return Reader(name, planned, planned)
    return Reader(name, checkpoint.end(place.epoch - 1)["snapshot_id"] if place.epoch else NOTHING, planned)
