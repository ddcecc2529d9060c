"""How much of a table's history is retained: which snapshots can be expired. Independent of Spark.

Each commit writes the table's metadata again, with every snapshot that it has: what a commit costs is bounded by the
size of the snapshots that are retained, whatever the number of feeds and their triggers.
"""

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from k2.jobs.commit.snapshots import Snapshot
from k2.schemas.snapshots import EXCHANGE, REDRIVE_QUERY

MIN_SNAPSHOTS: Final = 100

_MAX_SNAPSHOTS: Final = 5000
_FRAME: Final = 250  # bytes of a snapshot in the metadata beside its summary
_ENTRY: Final = 8  # bytes of a summary's entry beside its key and value


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of a table's history is retained at most, beyond the newest hundred, what readers need, and tags.

    `size` is in bytes of the uncompressed metadata; compressed they take a fourth to a seventh. What is younger than
    `settled` is retained whatever its size.
    """

    age: timedelta
    size: int
    settled: timedelta


GOLD: Final = Limits(age=timedelta(days=7), size=512 << 10, settled=timedelta(minutes=5))
OTHERS: Final = Limits(age=timedelta(hours=1), size=3 << 20, settled=timedelta(minutes=5))


def size(snapshot: Snapshot) -> int:
    """Return about how many bytes a snapshot takes in the uncompressed metadata of its table."""
    return _FRAME + sum(_ENTRY + len(key) + len(value) for key, value in snapshot.summary.items())


def too_old(newest_first: Sequence[Snapshot], needed: int, before: float) -> list[Snapshot]:
    """Return the snapshots that can be expired: old, not among the newest, read by all, not the newest of a query.

    The next run of a query learns from its newest commit which batches are written already.
    """
    return [
        snapshot
        for index, snapshot in _unguarded(newest_first, needed)
        if snapshot.committed_at < before or index >= _MAX_SNAPSHOTS
    ]


def too_large(
    newest_first: Sequence[Snapshot], needed: int, limit: int, before: float, retained: Container[int] = ()
) -> list[Snapshot]:
    """Return the snapshots to expire so that the others take at most `limit` bytes: those that `too_old` leaves.

    Each exchange has the same share, so that one that commits often does not displace the history of the others.
    Snapshots after `before` (seconds since 1970) and those `retained` anyway count for nothing.
    """
    own = [snapshot for snapshot in newest_first if snapshot.id not in retained]
    share = limit // max(1, len({_owner(snapshot) for snapshot in own}))
    used: dict[str, int] = {}
    over = set()
    for snapshot in own:
        used[_owner(snapshot)] = used.get(_owner(snapshot), 0) + size(snapshot)
        if used[_owner(snapshot)] > share and snapshot.committed_at < before:
            over.add(snapshot.id)
    return [snapshot for _, snapshot in _unguarded(newest_first, needed) if snapshot.id in over]


def _owner(snapshot: Snapshot) -> str:
    return snapshot.summary.get(EXCHANGE, "")


def _unguarded(newest_first: Sequence[Snapshot], needed: int) -> Iterator[tuple[int, Snapshot]]:
    """Yield the snapshots that nothing needs, with their places."""
    newest_of_queries: dict[str, int] = {}
    for snapshot in newest_first:
        if not snapshot.query_id.startswith(REDRIVE_QUERY):  # which has no next run
            newest_of_queries.setdefault(snapshot.query_id, snapshot.id)
    newest_of_queries.pop("", None)
    guarded = set(newest_of_queries.values())
    for index, snapshot in enumerate(newest_first):
        if index >= max(MIN_SNAPSHOTS, needed) and snapshot.id not in guarded:
            yield index, snapshot
