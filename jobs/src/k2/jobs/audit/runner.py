"""`python -m k2.jobs.audit`: check that no row is missing, duplicated or orphaned between Kafka and Gold.

Works while the layers are running or stopped. Exit code 1: there are findings, or the audit could not be finished.
"""

import argparse
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from pyspark.errors import AnalysisException
from pyspark.sql import SparkSession
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.common.platform import Platform
from k2.common.schema_registry import Registry, RegistryUnavailable, SchemaCache
from k2.jobs import bootstrap
from k2.jobs.audit import bars
from k2.jobs.audit.completeness import check as completeness_check
from k2.jobs.audit.completeness import never_issued
from k2.jobs.audit.completeness.hours import Gap
from k2.jobs.audit.offsets import check as offsets_check
from k2.jobs.audit.pinned_snapshots import PinnedSnapshots
from k2.jobs.audit.rebuild import check as rebuild_check
from k2.jobs.audit.records import check as records_check
from k2.jobs.audit.report import Report
from k2.jobs.audit.scope import Scope
from k2.jobs.audit.verdicts import check as verdicts_check
from k2.jobs.audit.verdicts import store
from k2.jobs.bootstrap import CatalogUnreachable
from k2.jobs.spark import tables
from k2.schemas import topics
from k2.schemas.channels import CHANNELS, TRADES, Channel, exchange_tables
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.tables import BATCHES_TABLE, CATALOG, COMPLETENESS_TABLE, EVIDENCE_TABLE, GAPS_TABLE, NAMESPACE
from k2.schemas.values import seconds, to_micros

_SQLITE: Final = "sqlite:///"

_Origin = tuple[str, str]  # the label of an exchange, and the name of a channel


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
) -> Report:
    """Audit every exchange's `channels` in the catalog and append verdicts on their hours to audit_completeness.

    Rows before `since` are left out. Raises `CatalogUnreachable`, `NothingToAudit`, `OtherFormat`, and for a rebuild
    `RegistryUnavailable`.
    """
    now = now or datetime.now(UTC)
    recorded = _recorded(spark, channels)
    for exchange, channel in recorded:
        tables.check_formats(spark, exchange_tables(exchange, [channel]))
    tables.ensure(spark, [GAPS_TABLE, EVIDENCE_TABLE, COMPLETENESS_TABLE, BATCHES_TABLE])
    pinned = PinnedSnapshots(spark, recorded)
    gaps, states = _gaps(pinned)
    answers = pinned.rows(EVIDENCE_TABLE)
    evidence = {
        exchange: never_issued.stored(answers.where(F.col("exchange") == EXCHANGES[exchange].label))
        for exchange in {exchange for exchange, _ in recorded}
    }
    registry, report = Registry(platform.registry_url), Report()
    judged: set[Channel] = set()
    verdicts: list[dict[str, Any]] = []
    for exchange, channel in recorded:
        label = EXCHANGES[exchange].label
        origin = label, channel.name
        scope = Scope(spark, pinned, exchange, channel, now, since)
        offsets = offsets_check.check(scope)
        records = records_check.check(scope, offsets.missing)
        hours = completeness_check.check(scope, gaps.get(origin, []), states.get(origin, {}), evidence[exchange])
        earlier = store.chain(pinned.rows(COMPLETENESS_TABLE), label, channel.name)
        verdicts += verdicts_check.check(scope, hours, earlier, records)
        judged.add(channel)
        if rebuild:
            rebuild_check.check(scope, offsets, lambda topic: SchemaCache(registry, topics.subject(topic)).schemas())
        report.exchanges.setdefault(label, {})[channel.name] = scope.report
        report.findings += scope.findings
    if TRADES in judged:
        report.findings += bars.check_bars(spark, since)
    store.append(spark, verdicts, to_micros(now))
    return report


def _recorded(spark: SparkSession, channels: Iterable[Channel]) -> list[tuple[str, Channel]]:
    """Return the exchanges and channels that have a Bronze table. Raises `CatalogUnreachable`, `NothingToAudit`."""
    with bootstrap.reading_catalog():
        try:
            rows = spark.sql(f"SHOW TABLES IN {CATALOG}.{NAMESPACE}").collect()
        except AnalysisException:
            rows = []
    names, order = {row["tableName"] for row in rows}, tuple(channels)
    recorded = [
        (exchange, channel)
        for exchange in sorted(EXCHANGES)
        for channel in order
        if channel.bronze(exchange).name in names
    ]
    if not recorded:
        raise NothingToAudit("the catalog has no bronze_<exchange>_<channel> table; run a feed first")
    return recorded


def _gaps(pinned: PinnedSnapshots) -> tuple[dict[_Origin, list[Gap]], dict[_Origin, Counter[str]]]:
    """Return gaps with numeric ids by exchange and channel, and the number of gaps by state."""
    gaps: dict[_Origin, list[Gap]] = {}
    states: dict[_Origin, Counter[str]] = {}
    columns = ("exchange", "channel", "symbol", "first_id", "last_id", "state", "resolution", "missing", "evidence")
    rows = pinned.rows(GAPS_TABLE)
    # A snapshot has the columns that its table had then.
    present = [F.col(name) if name in rows.columns else F.lit(None).alias(name) for name in columns]
    for row in rows.select(*present).collect():
        origin = row["exchange"], row["channel"]
        states.setdefault(origin, Counter())[row["state"]] += 1
        if (row["first_id"] or "").isdigit():
            gap = Gap(
                row["symbol"], int(row["first_id"]), int(row["last_id"]), row["state"], row["resolution"] or "",
                tuple((int(ids["first_id"]), int(ids["last_id"])) for ids in row["missing"] or ()),
                tuple(filter(None, (row["evidence"] or "").split(","))),
            )  # fmt: skip
            gaps.setdefault(origin, []).append(gap)
    return gaps, states


def main(argv: Sequence[str] | None = None) -> int:
    """Audit the catalog that the environment names; return the exit code."""
    return bootstrap.Command(
        name="k2.jobs.audit",
        description="Check that the layers are complete and consistent.",
        add_arguments=_add_arguments,
        work=_audit,
        failure="the audit could not be finished",
        input_errors=(ValueError,),
    ).run(argv)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("--rebuild", action="store_true", help="rebuild Silver and Gold from Bronze and compare")
    parser.add_argument(
        "--since", metavar="TIME", help="leave out rows before this time; a duration such as 26h is before now"
    )


def _audit(arguments: argparse.Namespace, platform: Platform) -> int:
    since = parse_since(arguments.since, datetime.now(UTC)) if arguments.since else None
    _check_catalog(platform.catalog_uri)
    # Unlike micro-batches, the scans of an audit can be large.
    conf = {"spark.sql.adaptive.enabled": "true", "spark.sql.shuffle.partitions": "4"}
    with bootstrap.spark_session(platform, arguments, conf) as spark:
        try:
            report = audit(spark, platform, since=since, rebuild=arguments.rebuild)
        except RegistryUnavailable as error:
            remedy = "start the platform, or audit without --rebuild"
            raise RegistryUnavailable(f"--rebuild needs the schemas: {error}; {remedy}") from error
    print(report.json() if arguments.json else report.text())
    return 1 if report.findings else 0


def _check_catalog(uri: str) -> None:
    """Raise `CatalogUnreachable` if an SQLite catalog does not exist: JDBC would create an empty one."""
    if uri.startswith(_SQLITE) and not Path(uri.removeprefix(_SQLITE)).exists():
        raise CatalogUnreachable(f"there is no catalog at {uri.removeprefix(_SQLITE)}; set K2_CATALOG_URI")


def parse_since(text: str, now: datetime) -> datetime:
    """Parse a time (UTC unless it has a zone) or a duration before `now`. Raises ValueError."""
    try:
        if not text[-1:].isdigit() and text[-1:] not in {"Z", "z"}:
            return now - timedelta(seconds=seconds(text))
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(
            f"--since {text!r} is not a time or a duration; write 2026-03-01, 2026-03-01T10:00:00Z or 26h"
        ) from error
    return time if time.tzinfo else time.replace(tzinfo=UTC)
