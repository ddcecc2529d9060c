"""The files of a table by the time of their rows, as digests that an audit keeps. Independent of Spark.

Files are named by path, size, number of rows and time of writing. Those of a group of partitions are one number: equal
numbers are equal sets. Groups are hours of the last days, days of the last weeks, and months before, so that what is
kept stays small.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Final

from k2.schemas.values import to_micros

ALL: Final = ""  # the group of files whose partition has no time

_HOURS_FOR: Final = timedelta(days=2)
_DAYS_FOR: Final = timedelta(days=40)
_MODULUS: Final = 1 << 128
_DAY: Final = re.compile(r"=(\d{4}-\d\d-\d\d)(?:$|/)")
_HOUR: Final = re.compile(r"hour=(\d{1,2})(?:$|/)")
_MONTH: Final = re.compile(r"_month=(\d{4}-\d\d)(?:$|/)")
_HOUR_MICROS: Final = 3_600_000_000


@dataclass(frozen=True, slots=True)
class LiveFile:
    """A file of a table's snapshot.

    `partition` is its folder as Iceberg names it, `sequence` the number of the commit that added it, `first` the lowest
    time of its rows and `written_at` when it was written, both in UTC microseconds if known.
    """

    path: str
    kind: str
    size: int
    rows: int
    partition: str
    sequence: int
    first: int | None = None
    written_at: int | None = None

    @property
    def number(self) -> int:
        """What stands for the file in the sum of a group."""
        name = f"{self.path}|{self.size}|{self.rows}|{self.written_at}"
        return int.from_bytes(hashlib.sha256(name.encode()).digest()[:16])


@dataclass(frozen=True, slots=True)
class FileSet:
    """The files of a table when it was judged: the number of its last commit, and the sums of groups as of `day`."""

    sequence: int
    day: date
    groups: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, files: Iterable[LiveFile], sequence: int, day: date) -> "FileSet":
        """Return the set of files that are no newer than a commit."""
        sums: dict[str, tuple[int, int]] = {}
        for file in files:
            if file.sequence <= sequence:
                name = group(file.partition, day)
                count, total = sums.get(name, (0, 0))
                sums[name] = count + 1, (total + file.number) % _MODULUS
        return cls(sequence, day, {name: f"{count}:{total:x}" for name, (count, total) in sorted(sums.items())})

    def touched(self, files: Iterable[LiveFile], removed_before: int = 0) -> int | None:
        """Return the first time (UTC microseconds) of what the files of today have otherwise; None if nothing.

        Retention has removed what is older than `removed_before`.
        """
        listed = list(files)
        now = FileSet.of(listed, self.sequence, self.day).groups
        differing = {name for name in (*self.groups, *now) if self.groups.get(name) != now.get(name)}
        times = [start(name) for name in differing if not 0 < end(name) <= removed_before]
        times += [
            start(group(file.partition, self.day)) if file.first is None else file.first
            for file in listed
            if file.sequence > self.sequence
        ]
        return min(times, default=None)


def group(partition: str, day: date) -> str:
    """Return the group of a partition, as it is on a day: 2026-03-02T10, 2026-03-02, 2026-03, or `ALL`."""
    if (months := _MONTH.search(partition)) is not None:
        return months[1]
    if (days := _DAY.search(partition)) is None:
        return ALL
    age = day - date.fromisoformat(days[1])
    if age > _DAYS_FOR:
        return days[1][:7]
    hours = _HOUR.search(partition)
    return f"{days[1]}T{int(hours[1]):02}" if hours is not None and age <= _HOURS_FOR else days[1]


def start(name: str) -> int:
    """Return when a group begins, in UTC microseconds; 0 for `ALL`."""
    return 0 if name == ALL else to_micros(_begin(name))


def end(name: str) -> int:
    """Return when a group ends, in UTC microseconds; 0 for `ALL`."""
    if name == ALL:
        return 0
    begin = _begin(name)
    if "T" in name:
        return to_micros(begin) + _HOUR_MICROS
    if name.count("-") == 1:
        return to_micros((begin + timedelta(days=32)).replace(day=1))
    return to_micros(begin + timedelta(days=1))


def _begin(name: str) -> datetime:
    text = f"{name}:00" if "T" in name else name if name.count("-") > 1 else f"{name}-01"
    return datetime.fromisoformat(text).replace(tzinfo=UTC)
