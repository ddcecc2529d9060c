"""`python -m k2.jobs.audit`: check that no row is missing, duplicated or orphaned between Kafka and Gold.

Works while the layers are running or stopped. Exit code 1: there are findings, or the audit could not be finished.
"""

import argparse
from collections.abc import Container, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from pyspark.errors import AnalysisException
from pyspark.sql import SparkSession

from k2.common.platform import Platform
from k2.common.schema_registry import Registry, RegistryUnavailable, SchemaCache
from k2.jobs import bootstrap
from k2.jobs.audit import bars, compaction
from k2.jobs.audit.altered import Altered
from k2.jobs.audit.books import check as books
from k2.jobs.audit.channel_audit import ChannelAudits, ChannelResult, failure
from k2.jobs.audit.incremental.judged import SETTLED, Judged, origin
from k2.jobs.audit.pinned_snapshots import PinnedSnapshots
from k2.jobs.audit.report import ChannelReport, Finding, Report, failure_json
from k2.jobs.audit.since import parse_since
from k2.jobs.audit.storage import catalog
from k2.jobs.audit.storage.check import STORAGE, StorageCheck
from k2.jobs.audit.verdicts import store
from k2.jobs.bootstrap import CatalogUnreachable
from k2.jobs.commit import retry
from k2.jobs.spark import tables
from k2.schemas import topics
from k2.schemas.channels import BOOK, CHANNELS, QUOTES, TRADES, Channel
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.tables import (
    BARS_TABLE,
    BATCHES_TABLE,
    COMPLETENESS_TABLE,
    DEAD_LETTERS_TABLE,
    EVIDENCE_TABLE,
    GAPS_TABLE,
    INSTRUMENTS_TABLE,
    Table,
)
from k2.schemas.values import from_micros, to_micros

_OF_AUDIT: Final = (GAPS_TABLE, COMPLETENESS_TABLE, BATCHES_TABLE)
_SQLITE: Final = "sqlite:///"


class NothingToAudit(ValueError):
    """The catalog has no Bronze table."""


def audit(
    spark: SparkSession,
    platform: Platform,
    *,
    channels: Iterable[Channel] = CHANNELS,
    now: datetime | None = None,
    since: datetime | None = None,
    rebuild: bool = False,
    incremental: bool = False,
) -> Report:
    """Audit every exchange's `channels` in the catalog and append verdicts on their hours to audit_completeness.

    If it is `incremental`, what an audit without findings has judged and nothing has touched since is left out, unless
    there is a `rebuild` or `since`. Rows before `since` are left out. What cannot be read is a finding, and everything
    else is audited. Raises `CatalogUnreachable`, `NothingToAudit`, `OtherFormat`, and for a rebuild
    `RegistryUnavailable`.
    """
    now = now or datetime.now(UTC)
    present = _present(spark)
    recorded = _recorded(spark, channels, present)
    watched = _watched(recorded, present)
    broken = catalog.broken(spark, watched, present)
    readable = [table for table in watched if table.name not in broken]
    tables.check_formats(spark, readable)
    tables.ensure(spark, [table for table in (*_OF_AUDIT, EVIDENCE_TABLE) if table.name not in broken])
    pinned = PinnedSnapshots(spark, recorded, broken, instruments=INSTRUMENTS_TABLE in watched)
    with pinned.held():
        storage = StorageCheck(spark, recorded, readable, pinned)
        report = Report(findings=[*storage.broken_tables(broken), *storage.damaged_files(), *storage.rolled_back()])
        report.findings += storage.altered_rows()
        is_whole = not incremental or rebuild or since is not None or COMPLETENESS_TABLE.name in broken
        before = None if is_whole else store.anchor(spark)
        removed_before = {table.name: pinned.pruned_micros(table) for table in readable}
        judged = Judged(before, storage.live, removed_before)
        registry = Registry(platform.registry)
        schemas = (lambda topic: SchemaCache(registry, topics.subject(topic)).schemas()) if rebuild else None
        altered = Altered.of(storage.altered)
        audits = ChannelAudits(spark, pinned, now, since, platform.kafka, schemas, altered)
        verdicts: list[dict[str, Any]] = []
        pending: dict[str, int | None] = {}
        rebuilds: dict[str, int] = {}
        for exchange, channel in recorded:
            used = _required(exchange, channel)
            if unreadable := [table.name for table in used if table.name in broken]:
                result = ChannelResult(ChannelReport(unfinished=f"{', '.join(unreadable)} cannot be read"))
            else:
                result = audits.run(exchange, channel, judged.floor(exchange, channel))
            pending[origin(exchange, channel)] = result.pending_since
            report.exchanges.setdefault(EXCHANGES[exchange].label, {})[channel.name] = result.report
            report.findings += result.findings
            verdicts += result.verdicts
            rebuilds |= result.judged_rebuilds
            if result.report.unfinished:
                report.findings += _explained(storage, report, exchange, channel, result.report.unfinished)
        if any(channel is TRADES for _, channel in recorded) and BARS_TABLE.name not in broken:
            floor = judged.floor_of([TRADES.gold.name, BARS_TABLE.name])
            report.findings += _bars(spark, from_micros(floor) if floor else since, report)
        for exchange in sorted({exchange for exchange, _ in recorded}):
            both = [(exchange, channel) for channel in (QUOTES, BOOK)]
            if EXCHANGES[exchange].quotes_number_books and set(both) <= set(recorded):
                floor = judged.floor_of([channel.gold.name for _, channel in both])
                report.findings += _agreement(pinned, exchange, from_micros(floor) if floor else since, report, broken)
        if COMPLETENESS_TABLE.name not in broken:
            report.findings += _append(spark, verdicts, rebuilds, now)
        if since is None and {finding.check for finding in report.findings} <= SETTLED:
            compacted = compaction.compact(spark, storage.live, pinned.snapshot_ids(), now)
            store.keep(spark, judged.anchor(pinned.sequences(), now, pending, compacted))
        return report


def _agreement(
    pinned: PinnedSnapshots, exchange: str, since: datetime | None, report: Report, broken: Container[str]
) -> list[Finding]:
    """Return the quotes that differ from the book, where both could be read."""
    reports = report.exchanges[EXCHANGES[exchange].label]
    both = reports[QUOTES.name], reports[BOOK.name]
    if any(channel.gold.name in broken for channel in (QUOTES, BOOK)) or any(one.unfinished for one in both):
        return []
    both[0].agreement, findings = books.check(pinned, exchange, since)
    return findings


def _present(spark: SparkSession) -> set[str]:
    """Return the names of the tables in the catalog. Raises `CatalogUnreachable`."""
    with bootstrap.reading_catalog():
        try:
            return catalog.names(spark)
        except AnalysisException:
            return set()


def _recorded(spark: SparkSession, channels: Iterable[Channel], present: Container[str]) -> list[tuple[str, Channel]]:
    """Return the exchanges and channels that have a table of their own, or rows in an audit table.

    Raises `NothingToAudit`.
    """
    order = tuple(channels)
    own = {
        (exchange, channel)
        for exchange in EXCHANGES
        for channel in order
        if any(table.name in present for table in (channel.bronze(exchange), channel.silver(exchange)))
    }
    audited = [table for table in (COMPLETENESS_TABLE, BATCHES_TABLE) if table.name in present]
    rows = catalog.origins(spark, audited)
    own |= {
        (exchange, channel)
        for exchange, spec in EXCHANGES.items()
        for channel in order
        if (spec.label, channel.name) in rows
    }
    if not own:
        raise NothingToAudit("the catalog has no bronze_<exchange>_<channel> table; run a feed first")
    return [(exchange, channel) for exchange in sorted(EXCHANGES) for channel in order if (exchange, channel) in own]


def _watched(recorded: Iterable[tuple[str, Channel]], present: Container[str]) -> list[Table]:
    """Return the tables that must be there, and those of evidence and of instruments if they are."""
    origins = list(recorded)
    watched = [table for origin in origins for table in (*_required(*origin), *origin[1].derived)]
    watched += [table for table in (EVIDENCE_TABLE, INSTRUMENTS_TABLE) if table.name in present]
    return list({table.name: table for table in watched}.values())


def _required(exchange: str, channel: Channel) -> tuple[Table, ...]:
    """Return the tables that the audit of a channel reads."""
    return channel.bronze(exchange), channel.silver(exchange), DEAD_LETTERS_TABLE, channel.gold, *_OF_AUDIT


def _explained(
    storage: StorageCheck, report: Report, exchange: str, channel: Channel, reason: str
) -> Iterable[Finding]:
    """Return the findings that explain why a channel's audit failed; none if there are some already."""
    used = _required(exchange, channel)
    if any(finding.table in {table.name for table in used} and finding.check in STORAGE for finding in report.findings):
        return []
    label = EXCHANGES[exchange].label
    text = f"{label} {channel.name}: not every check could be made: {reason}"
    return list(storage.unreadable_files(used)) or [Finding(label, channel.name, "audit_failed", text)]


def _bars(spark: SparkSession, since: datetime | None, report: Report) -> list[Finding]:
    """Return what is wrong with the bars, unless Gold cannot be read."""
    try:
        return bars.check_bars(spark, since)
    except Exception as error:  # noqa: BLE001 - the report is whole, whatever the table gives
        if any(finding.check in STORAGE and finding.table == TRADES.gold.name for finding in report.findings):
            return []
        text = f"{BARS_TABLE.name}: the bars could not be checked: {failure(error)}"
        return [Finding("", TRADES.name, "audit_failed", text, BARS_TABLE.name)]


def _append(
    spark: SparkSession, verdicts: Iterable[dict[str, Any]], rebuilds: Mapping[str, int], now: datetime
) -> list[Finding]:
    try:
        store.append(spark, verdicts, to_micros(now))
        store.note_rebuilds(spark, rebuilds)
    except retry.ERRORS as error:
        text = f"{COMPLETENESS_TABLE.name}: the verdicts could not be stored: {failure(error)}"
        return [Finding("", "", "audit_failed", text, COMPLETENESS_TABLE.name)]
    return []


def main(argv: Sequence[str] | None = None) -> int:
    """Audit the catalog that the environment names; return the exit code."""
    return bootstrap.Command(
        name="k2.jobs.audit",
        description="Check that the layers are complete and consistent.",
        add_arguments=_add_arguments,
        work=_audit,
        failure="the audit could not be finished",
        input_errors=(ValueError,),
        report_failure=_report_failure,
    ).run(argv)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument(
        "--incremental", action="store_true", help="judge only what is new or touched since an audit without findings"
    )
    parser.add_argument("--rebuild", action="store_true", help="rebuild Silver and Gold from Bronze and compare")
    parser.add_argument(
        "--since", metavar="TIME", help="leave out rows before this time; a duration such as 26h is before now"
    )


def _audit(arguments: argparse.Namespace, platform: Platform) -> int:
    since = parse_since(arguments.since, datetime.now(UTC)) if arguments.since else None
    _check_catalog(platform)
    # Unlike micro-batches, the scans of an audit can be large.
    conf = {"spark.sql.adaptive.enabled": "true", "spark.sql.shuffle.partitions": "4"}
    with bootstrap.spark_session(platform, arguments, conf) as spark:
        try:
            report = audit(spark, platform, since=since, rebuild=arguments.rebuild, incremental=arguments.incremental)
        except RegistryUnavailable as error:
            remedy = "start the platform, or audit without --rebuild"
            raise RegistryUnavailable(f"--rebuild needs the schemas: {error}; {remedy}") from error
    print(report.json() if arguments.json else report.text())
    return 1 if report.findings else 0


def _report_failure(arguments: argparse.Namespace, code: int, message: str) -> None:
    """Print the document of an audit that was not made: whoever asked for JSON gets JSON."""
    if arguments.json:
        print(failure_json(code, message))


def _check_catalog(platform: Platform) -> None:
    """Raise `CatalogUnreachable` if an SQLite catalog does not exist: JDBC would create an empty one."""
    uri = platform.catalog_uri
    if uri.startswith(_SQLITE) and not Path(uri.removeprefix(_SQLITE)).exists():
        raise CatalogUnreachable(f"there is no catalog at {uri.removeprefix(_SQLITE)}; set K2_CATALOG_URI")
