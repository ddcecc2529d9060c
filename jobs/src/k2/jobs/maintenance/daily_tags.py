"""A tag for each closed UTC day of Gold: what was known of it when it had closed, long after other snapshots expired.

A tag is made once and never moved: a trade that comes later is in newer snapshots. It costs an entry in the table's
metadata, and the files that were compacted since; compaction comes before the tag, so these are few.
"""

from datetime import UTC, date, datetime, timedelta
from typing import Final

from pyspark.sql import SparkSession

from k2.jobs.commit.appender import TableLog
from k2.schemas.tables import GOLD_TABLE, day_tag

KEPT_DAYS: Final = 90
_CATCH_UP: Final = 7  # days without maintenance that are tagged afterwards
_DAY: Final = timedelta(days=1)


def tag(spark: SparkSession, closed: datetime) -> int:
    """Tags the days that ended before `closed` and are not tagged yet; how many these were."""
    log = TableLog(spark, GOLD_TABLE)
    snapshots = list(log.snapshots())
    if not snapshots:
        return 0
    known = log.refs()
    first = datetime.fromtimestamp(snapshots[-1].committed_at, UTC).date()
    left = [day_tag(day) for day in ended(closed, first) if day_tag(day) not in known]
    for name in left:
        spark.sql(
            f"ALTER TABLE {GOLD_TABLE.identifier} CREATE TAG IF NOT EXISTS `{name}` "
            f"AS OF VERSION {snapshots[0].id} RETAIN {KEPT_DAYS} DAYS"
        )
    return len(left)


def ended(closed: datetime, first: date) -> list[date]:
    """The last days that ended before a moment, from `first` on at the earliest; oldest first."""
    today = closed.astimezone(UTC).date()
    return [day for day in (today - back * _DAY for back in range(_CATCH_UP, 0, -1)) if day >= first]
