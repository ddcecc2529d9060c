"""Rows of the ledger compared with the commits that they were copied from. Independent of Spark."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from k2.schemas.values import to_micros

Row = Mapping[str, Any]

_COMPARED: Final = (
    "offset_ranges", "rows_in", "rows_out", "duplicates_dropped", "snapshot_id", "started_at",
    "committed_at",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Problem:
    """A commit whose row in the ledger is wrong. `at` is when it was made, in UTC microseconds."""

    check: str
    at: int
    text: str


def differences(rows: Iterable[Row], commits: Iterable[Row]) -> Iterator[Problem]:
    """Yield the problems of the rows of one layer, given all its retained commits as the ledger copies them.

    The ledger copies the commits of a query in order, so none before its last row is missing. All times are UTC
    microseconds or timezone-aware.
    """
    by_batch: dict[tuple[str, int], list[Row]] = {}
    copied: dict[str, int] = {}
    for row in rows:
        by_batch.setdefault((row["query_id"], row["epoch"]), []).append(row)
        copied[row["query_id"]] = max(copied.get(row["query_id"], -1), row["epoch"])
    newest: dict[str, int] = {}
    for commit in commits:
        query, epoch = commit["query_id"], commit["epoch"]
        newest[query] = max(newest.get(query, -1), epoch)
        if epoch > copied.get(query, -1):
            continue
        name = _name(commit)
        if not (stored := by_batch.get((query, epoch))):
            yield Problem("ledger_missing", _at(commit), f"{name}, snapshot {commit['snapshot_id']}, is missing")
        elif texts := list(_changes(stored[0], commit)):
            yield Problem("ledger_changed", _at(commit), f"{name}: {', '.join(texts)}")
    for (query, epoch), stored in sorted(by_batch.items()):
        if len(stored) > 1:
            yield Problem("ledger_duplicate", _at(stored[0]), f"{_name(stored[0])} is there {len(stored)} times")
        if query in newest and epoch > newest[query]:
            text = f"{_name(stored[0])} names snapshot {stored[0]['snapshot_id']}, which its table does not have"
            yield Problem("commit_missing", _at(stored[0]), text)


def _changes(row: Row, commit: Row) -> Iterator[str]:
    """Yield how a row differs from its commit. An older release copied commits without the ids of their topics."""
    for column in _COMPARED if row["topic_id"] is None else (*_COMPARED, "topic_id"):
        stored, committed = _shown(row[column]), _shown(commit[column])
        if stored != committed:
            yield f"{column} is {stored} instead of {committed}"


def _name(row: Row) -> str:
    return f"the row of {row['layer']} epoch {row['epoch']}"


def _at(row: Row) -> int:
    at = row["committed_at"]
    return at if isinstance(at, int) else to_micros(at)


def _shown(value: Any) -> str:
    if isinstance(value, list):
        ranges = sorted((one["topic"], one["partition"], one["first"], one["last"]) for one in value)
        return ", ".join(f"{topic}/{partition} {first} to {last}" for topic, partition, first, last in ranges)
    return str(to_micros(value)) if hasattr(value, "tzinfo") else str(value)
