"""Findings about tables that are gone or cannot be read, and about their files."""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from pyspark.sql import DataFrame, SparkSession

from k2.jobs.audit.pinned_snapshots import PinnedSnapshots
from k2.jobs.audit.report import Finding
from k2.jobs.audit.storage import altered_rows, files, log, redriven
from k2.jobs.audit.storage.catalog import BrokenTable
from k2.jobs.audit.storage.files import DamagedFile
from k2.jobs.commit import retry
from k2.jobs.telemetry import error_summary
from k2.schemas.channels import Channel
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.tables import BATCHES_TABLE, DEAD_LETTERS_TABLE, Table

if TYPE_CHECKING:
    from k2.jobs.audit.incremental.file_sets import LiveFile

# The checks whose findings explain why a table cannot be read.
STORAGE: Final = ("table_missing", "table_unreadable", "file_missing", "file_changed", "file_unreadable")


class StorageCheck:
    """Checks tables of some exchanges' channels at their pinned snapshots."""

    def __init__(
        self,
        spark: SparkSession,
        recorded: Iterable[tuple[str, Channel]],
        tables: Iterable[Table],
        pinned: PinnedSnapshots,
    ) -> None:
        self._spark = spark
        self._tables = list(tables)
        self._pinned = pinned
        self.live: dict[str, list[LiveFile]] = {}  # the files of each table that `damaged_files` found whole
        self.altered: dict[str, list[altered_rows.AlteredRow]] = {}  # the rows that `altered_rows` found, by table
        origins, names = list(recorded), {table.name for table in self._tables}
        self._silver = [table for exchange, channel in origins if (table := channel.silver(exchange)).name in names]
        self._owners = {
            table.name: (EXCHANGES[exchange].label, channel.name)
            for exchange, channel in origins
            for table in (channel.bronze(exchange), channel.silver(exchange))
        }

    def broken_tables(self, broken: Mapping[str, BrokenTable]) -> Iterator[Finding]:
        """Yield a finding for each table that is gone or cannot be loaded."""
        for name, problem in sorted(broken.items()):
            yield Finding(*self._owner(name), problem.check, f"{name}: {problem.text}", name)

    def damaged_files(self) -> Iterator[Finding]:
        """Yield a finding for each file that is lost or has another size."""
        for table in self._tables:
            snapshot = self._pinned.snapshot_id(table)
            if snapshot is None:
                self.live[table.name] = []
                continue
            try:
                stored = files.stored(self._spark, table, snapshot)
            except retry.ERRORS as error:
                reason = error_summary.summarize(error_summary.full_text(error))
                text = f"{table.name}: the manifests of snapshot {snapshot} cannot be read: {reason}"
                yield Finding(*self._owner(table.name), "table_unreadable", text, table.name)
            else:
                if stored.live is not None:
                    self.live[table.name] = stored.live
                yield from (self._finding(table, file) for file in stored.damaged)

    def unreadable_files(self, tables: Iterable[Table]) -> Iterator[Finding]:
        """Yield a finding for each data file that Spark fails to read, although it has the right size."""
        for table in tables:
            if (snapshot := self._pinned.snapshot_id(table)) is not None:
                yield from (self._finding(table, file) for file in files.unreadable(self._spark, table, snapshot))

    def rolled_back(self) -> Iterator[Finding]:
        """Yield a finding for each rollback of a table to an earlier snapshot."""
        for table in self._tables:
            for rollback in log.rollbacks(self._pinned.log(table)):
                yield Finding(*self._owner(table.name), "rolled_back", f"{table.name}: {rollback.text}", table.name)

    def altered_rows(self) -> Iterator[Finding]:
        """Yield a finding for each row of an audit table that was deleted or changed."""
        for table in self._tables:
            if (kind := altered_rows.kind_of(table)) is not None:
                try:
                    moved = self._redriven if table is DEAD_LETTERS_TABLE else None
                    for altered in altered_rows.altered_rows(self._spark, self._pinned, table, kind, moved):
                        self.altered.setdefault(table.name, []).append(altered)
                        if not kind.position:  # a finding of the hour names the row
                            yield altered.finding
                except retry.ERRORS as error:  # a file of an earlier snapshot is lost
                    reason = error_summary.summarize(error_summary.full_text(error))
                    text = f"{table.name}: its earlier snapshots cannot be read: {reason}"
                    yield Finding(*self._owner(table.name), "table_unreadable", text, table.name)

    @property
    def _redriven(self) -> DataFrame | None:
        ledger = BATCHES_TABLE.name in {table.name for table in self._tables}
        return redriven.positions(self._spark, self._pinned, self._silver) if ledger else None

    def _owner(self, table: str) -> tuple[str, str]:
        return self._owners.get(table, ("", ""))

    def _finding(self, table: Table, file: DamagedFile) -> Finding:
        exchange, channel = self._owners.get(table.name, (file.only("exchange"), ""))
        text = f"{table.name}: {file.text}"
        return Finding(exchange, channel, file.check, text, table.name, file.only("symbol"), file.hour)
