"""A tag for each closed UTC day of Gold: it keeps the state at the end of the day after other snapshots have expired.

A tag is created once and never moved: a late record is in newer snapshots. It costs an entry in the table's metadata,
and the files that have been compacted since; compaction runs before tagging, so these are few.
"""

from datetime import UTC, date, datetime, timedelta
from typing import Final

from pyspark.sql import SparkSession

from k2.jobs.commit.snapshots import SnapshotHistory
from k2.schemas.tables import Table, day_tag

KEPT_DAYS: Final = 90
_CATCH_UP: Final = 7  # days without maintenance that are tagged later
_DAY: Final = timedelta(days=1)


def tag_closed_days(spark: SparkSession, gold: Table, closed: datetime) -> int:
    """Tag the days that ended before `closed` and have no tag yet; return their number."""
    history = SnapshotHistory(spark, gold)
    snapshots = list(history.snapshots())
    if not snapshots:
        return 0
    refs = history.refs()
    first = datetime.fromtimestamp(snapshots[-1].committed_at, UTC).date()
    untagged = [day_tag(day) for day in closed_days(closed, first) if day_tag(day) not in refs]
    for name in untagged:
        spark.sql(
            f"ALTER TABLE {gold.identifier} CREATE TAG IF NOT EXISTS `{name}` "
            f"AS OF VERSION {snapshots[0].id} RETAIN {KEPT_DAYS} DAYS"
        )
    return len(untagged)


def closed_days(closed: datetime, first: date) -> list[date]:
    """Return up to seven UTC days that ended before `closed`, none before `first`, oldest first."""
    today = closed.astimezone(UTC).date()
    return [day for day in (today - back * _DAY for back in range(_CATCH_UP, 0, -1)) if day >= first]
