"""Checkpoints: where each query keeps its place, and whether what is there can be trusted.

A checkpoint whose `metadata` file is lost would be given a new query id, and with it every guard against writing a
batch twice would be blind. Such a checkpoint is refused, and so is one whose newest offsets cannot be read.
"""

import json
from dataclasses import dataclass
from typing import Any, Final

from k2.jobs.spark.filesystem import Files

# Another number means another folder: raise it when a change makes old checkpoints unreadable, on purpose.
GENERATION: Final = "v1"


class BrokenCheckpoint(RuntimeError):
    """A checkpoint that must not be started from."""


def path(root: str, feed: str, query: str) -> str:
    """The checkpoint of one query of one feed."""
    return f"{root.rstrip('/')}/{feed}/{query}/{GENERATION}"


@dataclass(frozen=True, slots=True)
class Place:
    """How far a query came: the newest batch that it planned, where that one ends, and whether it was committed."""

    epoch: int
    end: Any
    committed: bool
    planned_at: float


class Checkpoint:
    """One query's checkpoint."""

    def __init__(self, files: Files, folder: str) -> None:
        self._files = files
        self.folder = folder

    def check(self) -> None:
        """Raises `BrokenCheckpoint`, with the file and the remedy, if the query must not start from here."""
        epochs = self._epochs("offsets")
        if not epochs:
            return
        if not self._files.exists(f"{self.folder}/metadata"):
            raise BrokenCheckpoint(
                f"{self.folder}/metadata is missing, so batches could be written twice; restore the file from a "
                f"backup, or rebuild: rename the folder and the layer's table, and start again"
            )
        try:
            self.query_id()
            self.place()
        except (ValueError, KeyError, IndexError) as error:
            raise BrokenCheckpoint(
                f"{self.folder}/offsets/{epochs[-1]} or metadata cannot be read ({error}); restore the file from a "
                f"backup; or, if no snapshot of the layer's table has this query's k2.epoch {epochs[-1]}, delete "
                f"offsets/{epochs[-1]}: the batch is then planned again; otherwise rebuild the layer"
            ) from error

    def query_id(self) -> str:
        """The id that outlives restarts. Raises ValueError or KeyError if it cannot be read."""
        return str(json.loads(self._files.read(f"{self.folder}/metadata"))["id"])

    def place(self) -> Place | None:
        """How far the query came; None if it never ran. Raises ValueError if the newest offsets cannot be read."""
        epochs = self._epochs("offsets")
        if not epochs:
            return None
        newest = epochs[-1]
        file = f"{self.folder}/offsets/{newest}"
        return Place(newest, self.end(newest), newest in self._epochs("commits"), self._files.modified(file))

    def initial(self) -> Any:
        """Where the first batch began, for a Kafka source."""
        return json.loads(self._files.read(f"{self.folder}/sources/0/0").partition("\n")[2])

    def end(self, epoch: int) -> Any:
        """Where a batch ends, as its source tells it. Raises ValueError if it cannot be read."""
        lines = self._files.read(f"{self.folder}/offsets/{epoch}").splitlines()
        if len(lines) < 3 or not lines[0].startswith("v"):
            raise ValueError("it is cut short")
        return json.loads(lines[2])

    def _epochs(self, kind: str) -> list[int]:
        return sorted(int(name) for name in self._files.names(f"{self.folder}/{kind}") if name.isdigit())
