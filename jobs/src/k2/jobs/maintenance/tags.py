"""Tags of Gold, by which time travel reaches further back than its other snapshots.

Hours are tagged for a week, closed days for ninety days, closed months for ever. A tag names the newest snapshot of its
time, is created once and never moved: a late record is in newer snapshots. It costs an entry in the table's metadata,
and the files that have been compacted since. So the number of snapshots that Gold retains depends neither on its age
nor on how many feeds commit how often.
"""

import re
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Final

from pyspark.sql import SparkSession

from k2.jobs.commit.retry import ERRORS, CommitConflict, retry_on_conflict
from k2.jobs.commit.snapshots import Snapshot, SnapshotHistory
from k2.schemas.snapshots import PURGED
from k2.schemas.tables import Table, day_tag, hour_tag, month_tag

HOURS_FOR: Final = timedelta(days=7)
DAYS_FOR: Final = timedelta(days=90)

_HOUR: Final = timedelta(hours=1)
_DAY: Final = timedelta(days=1)
_CATCH_UP: Final = 7  # days without maintenance that are tagged later
_CLOSED_AFTER: Final = _HOUR  # a day or month is tagged as of this long after its end, with the records of its end
_OWN: Final = re.compile(r"(hour|day|month)-[0-9T-]+")
_READER: Final = "-%Y-%m-%dT%H-%M-%S-%f"
# How long tags are kept, by the time in their names. Those of readers remain if a process was killed.
_FORMATS: Final = {
    "hour": ("hour-%Y-%m-%dT%H", HOURS_FOR + 2 * _HOUR),
    "day": ("day-%Y-%m-%d", DAYS_FOR + _DAY),
    "audit": (f"audit{_READER}", _DAY),
    "bars": (f"bars{_READER}", _DAY),
    "rebuild": (f"rebuild{_READER}", _DAY),
}


def update(spark: SparkSession, gold: Table, now: datetime) -> int:
    """Tag what has ended before `now`, and remove the tags whose time is over; return the number of new tags.

    Raises `CommitConflict` if another driver has done it meanwhile.
    """

    def commit() -> int:
        history = SnapshotHistory(spark, gold)
        refs, snapshots = history.refs(), list(history.snapshots())
        purged = max((float(at) for key, at in history.properties().items() if key.startswith(PURGED)), default=0.0)
        removed = [*outdated(refs, now), *with_purged_rows(refs, snapshots, purged)]
        created = missing([one for one in snapshots if one.committed_at > purged], refs.keys() - removed, now)
        if created or removed:
            try:
                change = history.java_table().manageSnapshots()
                for name in dict.fromkeys(removed):
                    change = change.removeTag(name)
                for name, snapshot in created.items():
                    change = change.createTag(name, snapshot)
                change.commit()
            except ERRORS as error:
                if refs != history.refs():  # another driver has done it
                    raise CommitConflict from error
                raise
        return len(created)

    return retry_on_conflict(commit)


def missing(newest_first: Sequence[Snapshot], refs: Iterable[str], now: datetime) -> dict[str, int]:
    """Return the tags that a table lacks, each with its snapshot."""
    if not newest_first:
        return {}
    present = set(refs)
    first = datetime.fromtimestamp(newest_first[-1].committed_at, UTC)
    tags: dict[str, int] = {}
    for name, until in due(now, first):
        if name not in present:
            tags[name] = next(one.id for one in newest_first if one.committed_at < until.timestamp())
    return tags


def has_last_hour(refs: Container[str], now: datetime) -> bool:
    """Whether the hour that ended last has its tag."""
    return hour_tag(_hour(now) - _HOUR) in refs


def due(now: datetime, first: datetime) -> Iterator[tuple[str, datetime]]:
    """Yield each tag that a table must have, and the time before which its snapshot was committed.

    `first` is when its oldest snapshot was committed; of days, only the last seven are yielded, of months the last one.
    """
    end = _hour(now)
    while end >= now - HOURS_FOR - _HOUR and end > first:
        yield hour_tag(end - _HOUR), end
        end -= _HOUR
    closed = now - _CLOSED_AFTER
    for day in closed_days(closed, first.date()):
        yield day_tag(day), _midnight(day + _DAY) + _CLOSED_AFTER
    month = closed.date().replace(day=1)
    if _midnight(month) > first:
        yield month_tag(month - _DAY), _midnight(month) + _CLOSED_AFTER


def closed_days(closed: datetime, first: date) -> list[date]:
    """Return up to seven UTC days that ended before `closed`, none before `first`, oldest first."""
    today = closed.astimezone(UTC).date()
    return [day for day in (today - back * _DAY for back in range(_CATCH_UP, 0, -1)) if day >= first]


def outdated(refs: Iterable[str], now: datetime) -> list[str]:
    """Return the tags of hours and days that are older than they are kept for. Tags of others are left alone."""
    return [name for name in refs if _is_outdated(name, now)]


def with_purged_rows(refs: Mapping[str, int], snapshots: Iterable[Snapshot], purged: float) -> list[str]:
    """Return the tags of K2 whose snapshots are from before a purge (seconds since 1970), which must reach them too."""
    before = {snapshot.id for snapshot in snapshots if snapshot.committed_at <= purged}
    return [name for name, snapshot in refs.items() if snapshot in before and _OWN.fullmatch(name)]


def _is_outdated(name: str, now: datetime) -> bool:
    layout, age = _FORMATS.get(name.partition("-")[0], ("", timedelta()))
    try:
        return bool(layout) and datetime.strptime(name, layout).replace(tzinfo=UTC) < now - age
    except ValueError:  # a tag of the user's own
        return False


def _hour(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
