"""The log of a table's snapshots: whether the table was rolled back. Independent of Spark.

Iceberg numbers the commits of a table. A rollback makes an earlier snapshot the current one and leaves the number
alone, so the next commit's is not one more than that of its parent.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from k2.jobs.commit.snapshots import Log


@dataclass(frozen=True, slots=True)
class Rollback:
    """The snapshot that a table was rolled back to, how many commits it lost, and their ids if known."""

    to: int
    commits: int
    lost: tuple[int, ...] = ()

    @property
    def text(self) -> str:
        """What happened, for people."""
        number = "one commit was" if self.commits == 1 else f"{self.commits} commits were"
        ids = f": {', '.join(map(str, self.lost))}" if self.lost else ""
        return f"rolled back to snapshot {self.to}; {number} undone{ids}"


def rollbacks(log: Log) -> Iterator[Rollback]:
    """Yield the rollbacks of a table, as far as its log goes back."""
    if log.snapshots and log.last_sequence > log.snapshots[0].sequence:
        yield Rollback(log.snapshots[0].id, log.last_sequence - log.snapshots[0].sequence, log.lost)
    for child, parent in pairwise(log.snapshots):
        if child.parent == parent.id and child.sequence > parent.sequence + 1:
            yield Rollback(parent.id, child.sequence - parent.sequence - 1)
