"""Streaming checkpoints: a query's position, and the check that a checkpoint is safe to start from.

The folder of a checkpoint names the stored format, so that a query never continues in tables of another one.

Without its `metadata` file a checkpoint would get a new query id, and no guard would recognise a batch that is already
written. Such a checkpoint is rejected, and so is one whose newest offsets cannot be read.
"""

import json
import re
from dataclasses import dataclass
from typing import Any, Final

from k2.jobs.spark.filesystem import FileSystem
from k2.schemas.formats import FORMAT, OtherFormat

GENERATION: Final = f"v{FORMAT}"
RECOVERED: Final = f"{GENERATION}.recovered"  # what a recovery puts in the place of a checkpoint
STARTS: Final = "starts"  # JSON in the checkpoint's folder: the offsets at which a recovered query begins
_OTHER_GENERATION: Final = re.compile(r"v([0-9]{1,6})")


class BrokenCheckpoint(RuntimeError):
    """A checkpoint that is not safe to start from."""


def path(root: str, feed: str, query: str) -> str:
    """Return the checkpoint folder of one query of one feed."""
    return f"{root.rstrip('/')}/{feed}/{query}/{GENERATION}"


def check_format(files: FileSystem, folder: str) -> None:
    """Raise `OtherFormat` if there is a checkpoint of another format beside `folder`, which `path` returned."""
    parent = folder.rpartition("/")[0]
    for name in sorted(files.names(parent)):
        if name != GENERATION and (match := _OTHER_GENERATION.fullmatch(name)):
            raise OtherFormat(f"the checkpoint {parent}/{name}", int(match[1]))


@dataclass(frozen=True, slots=True)
class Progress:
    """The newest batch that a query planned: its end offsets, whether it is committed, and when it was planned."""

    epoch: int
    end: Any
    committed: bool
    planned_at: float


class Checkpoint:
    """The checkpoint of one query."""

    def __init__(self, files: FileSystem, folder: str) -> None:
        self._files = files
        self.folder = folder

    def check(self) -> None:
        """Raise `BrokenCheckpoint`, with the file and the remedy, if the query must not start from this checkpoint."""
        recovered = f"{self.folder.rpartition('/')[0]}/{RECOVERED}"
        if self._files.exists(recovered):
            raise BrokenCheckpoint(f"{recovered}: a recovery was interrupted; finish it: k2 recover")
        epochs = self._epochs("offsets")
        if not epochs:
            return
        if not self._files.exists(f"{self.folder}/metadata"):
            raise BrokenCheckpoint(
                f"{self.folder}/metadata is missing, so batches could be written twice; restore a backup of the whole "
                f"folder: k2 restore; otherwise begin the layer again: move the checkpoint's folder away and, for "
                f"Bronze or Silver, the layer's table with it"
            )
        try:
            self.query_id()
            self.progress()
        except (ValueError, KeyError, IndexError) as error:
            raise BrokenCheckpoint(
                f"{self.folder}/offsets/{epochs[-1]} or metadata cannot be read ({error}); restore the file from a "
                f"backup; or, if no snapshot of the layer's table has this query's k2.epoch {epochs[-1]}, delete "
                f"offsets/{epochs[-1]}: the batch is then planned again; otherwise rebuild the layer"
            ) from error

    def query_id(self) -> str:
        """Return the query id, which is stable across restarts. Raises ValueError or KeyError if it cannot be read."""
        return str(json.loads(self._files.read(f"{self.folder}/metadata"))["id"])

    def progress(self) -> Progress | None:
        """Return the query's progress; None if it never ran. Raises ValueError if the newest offsets are unreadable."""
        epochs = self._epochs("offsets")
        if not epochs:
            return None
        newest = epochs[-1]
        file = f"{self.folder}/offsets/{newest}"
        return Progress(newest, self.end(newest), newest in self._epochs("commits"), self._files.modified(file))

    def initial(self) -> Any:
        """Return the start offsets of the first batch of a Kafka source."""
        return json.loads(self._files.read(f"{self.folder}/sources/0/0").partition("\n")[2])

    def end(self, epoch: int) -> Any:
        """Return a batch's end offsets in the source's own format. Raises ValueError if they cannot be read."""
        lines = self._files.read(f"{self.folder}/offsets/{epoch}").splitlines()
        if len(lines) < 3 or not lines[0].startswith("v"):
            raise ValueError("the file is truncated")
        return json.loads(lines[2])

    def read(self, name: str) -> str | None:
        """Return the text of a file of this checkpoint that is K2's own, not Spark's; None if it does not exist."""
        path = f"{self.folder}/{name}"
        return self._files.read(path) if self._files.exists(path) else None

    def write(self, name: str, text: str) -> None:
        """Write a file of K2's own into this checkpoint."""
        self._files.write(f"{self.folder}/{name}", text)

    def _epochs(self, kind: str) -> list[int]:
        return sorted(int(name) for name in self._files.names(f"{self.folder}/{kind}") if name.isdigit())
