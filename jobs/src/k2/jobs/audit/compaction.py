"""Compaction of the audit's own tables, by the audit itself.

An audit knows by files what it has judged: files that anything else compacts are judged again, with a month of rows in
the case of the verdicts of a month. Right after an audit without findings, the compacted files take the places of
those that were judged. Iceberg never changes rows by it, and the lineage shows that nothing else was committed.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from pyspark.sql import SparkSession

from k2.common import logs
from k2.jobs.audit.incremental.file_sets import LiveFile
from k2.jobs.audit.incremental.judged import Compacted
from k2.jobs.audit.storage import files as stored_files
from k2.jobs.commit import retry
from k2.jobs.commit.snapshots import Snapshot, SnapshotHistory
from k2.schemas.snapshots import CHECKED
from k2.schemas.tables import CATALOG, COMPLETENESS_TABLE, EVIDENCE_TABLE, GAPS_TABLE, Table

log = logs.get("audit")

_TABLES: Final = (COMPLETENESS_TABLE, EVIDENCE_TABLE, GAPS_TABLE)
_TARGET: Final = 64 << 20  # bytes of a compacted file
_SMALL: Final = _TARGET * 3 // 4
_MOST_BYTES: Final = 4 * _TARGET  # that one audit compacts of a table
_CLOSED_AFTER: Final = timedelta(hours=1)
_CLOSED: Final = 5  # small files for which a partition whose time is over is compacted
_OPEN: Final = 48  # small files for which one is that still grows: two days of verdicts
_PERIOD: Final = re.compile(r"_(month|day)=(\d{4}-\d\d(?:-\d\d)?)$")


@dataclass(frozen=True, slots=True)
class Period:
    """The time of a partition: its end is excluded."""

    start: datetime
    end: datetime

    @classmethod
    def of(cls, partition: str) -> "Period | None":
        """Return the time of a partition by the name that Iceberg gives it; None if it has none."""
        match = _PERIOD.search(partition)
        if match is None:
            return None
        if match[1] == "day":
            start = datetime.fromisoformat(match[2]).replace(tzinfo=UTC)
            return cls(start, start + timedelta(days=1))
        start = datetime.fromisoformat(f"{match[2]}-01").replace(tzinfo=UTC)
        return cls(start, (start + timedelta(days=32)).replace(day=1))


def periods(files: Iterable[LiveFile], now: datetime) -> list[Period]:
    """Return the partitions that are worth compacting, those with most small files first, up to a number of bytes."""
    small: dict[str, list[LiveFile]] = defaultdict(list)
    for file in files:
        if file.size < _SMALL:
            small[file.partition].append(file)
    chosen: list[Period] = []
    size = 0
    for partition, own in sorted(small.items(), key=lambda item: (-len(item[1]), item[0])):
        period = Period.of(partition)
        if period is None or len(own) < (_CLOSED if period.end <= now - _CLOSED_AFTER else _OPEN):
            continue
        size += sum(file.size for file in own)
        if chosen and size > _MOST_BYTES:
            break
        chosen.append(period)
    return chosen


def compact(
    spark: SparkSession, live: Mapping[str, Sequence[LiveFile]], pinned: Mapping[str, int | None], now: datetime
) -> dict[str, Compacted]:
    """Compact the audit's tables, of which `live` are the files and `pinned` the snapshots that were judged.

    Returns those tables that hold what was judged and what this audit appended, in other files.
    """
    compacted: dict[str, Compacted] = {}
    for table in _TABLES:
        snapshot_id = pinned.get(table.name)
        chosen = periods(live.get(table.name, ()), now)
        if not chosen or snapshot_id is None or not _only_own(_since(spark, table, snapshot_id)):
            continue
        try:
            _rewrite(spark, table, chosen)
        except retry.ERRORS as error:
            # Nothing was written. A merge of gaps came in between, or the next audit meets the same reason again.
            log.warning("audit table not compacted", table=table.name, error=str(error)[:500])
            continue
        newer = _since(spark, table, snapshot_id)
        if newer and _only_own(newer):
            files = stored_files.stored(spark, table, newer[0].id).live
            if files is not None:
                compacted[table.name] = Compacted(newer[0].sequence, files)
    return compacted


def _since(spark: SparkSession, table: Table, snapshot_id: int) -> list[Snapshot] | None:
    """Return the snapshots after another one, newest first; None if that is not among their ancestors."""
    newer: list[Snapshot] = []
    for snapshot in SnapshotHistory(spark, table).snapshots():
        if snapshot.id == snapshot_id:
            return newer
        newer.append(snapshot)
    return None


def _only_own(newer: Sequence[Snapshot] | None) -> bool:
    """Whether all commits since the pinned snapshot are compactions, and one audit's verdicts."""
    if newer is None:
        return False
    others = [snapshot for snapshot in newer if snapshot.operation != "replace"]
    return len(others) <= 1 and all(CHECKED in snapshot.summary for snapshot in others)


def _rewrite(spark: SparkSession, table: Table, chosen: Iterable[Period]) -> None:
    column = table.partitions[0].column
    where = " OR ".join(
        f"(`{column}` >= TIMESTAMP '{period.start:%Y-%m-%d} 00:00:00' "
        f"AND `{column}` < TIMESTAMP '{period.end:%Y-%m-%d} 00:00:00')"
        for period in chosen
    )
    options = f"map('min-input-files', '{_CLOSED}', 'target-file-size-bytes', '{_TARGET}')"
    spark.sql(
        f"CALL {CATALOG}.system.rewrite_data_files(table => '{table.identifier}', strategy => 'binpack', "
        f'where => "{where}", options => {options})'
    ).collect()
