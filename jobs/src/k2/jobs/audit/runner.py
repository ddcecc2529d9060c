"""`python -m k2.jobs.audit`: check that no row is missing, duplicated or orphaned between Kafka and Gold.

Works while the layers are running or stopped. Exit codes: 0 balanced, 1 findings, 2 bad input, 3 a required
service is unavailable.
"""

import argparse
import re
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from py4j.protocol import Py4JError
from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import SparkSession

from k2.common import logs
from k2.common.platform import Platform
from k2.common.schema_registry import Registry, RegistryUnavailable, SchemaCache
from k2.jobs import bootstrap
from k2.jobs.audit import bars, completeness
from k2.jobs.audit.checks import ExchangeAudit
from k2.jobs.audit.completeness import Gap, HourCompleteness
from k2.jobs.audit.pinned_snapshots import PinnedSnapshots
from k2.jobs.audit.report import Report
from k2.jobs.spark import tables
from k2.jobs.spark.jvm import gateway, jars
from k2.jobs.spark.jvm.java import JavaNotFound
from k2.schemas import topics
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.tables import CATALOG, COMPLETENESS_TABLE, GAPS_TABLE, NAMESPACE
from k2.schemas.values import seconds

_BRONZE: Final = re.compile(r"bronze_([a-z0-9]+)_trades")
_SQLITE: Final = "sqlite:///"
_RECENT: Final = timedelta(days=1)  # bars that every audit compares; with --rebuild it compares all


class NothingToAudit(ValueError):
    """The catalog has no Bronze table."""


class CatalogUnreachable(ConnectionError):
    """The catalog cannot be read."""


def audit(
    spark: SparkSession,
    platform: Platform,
    *,
    now: datetime | None = None,
    since: datetime | None = None,
    rebuild: bool = False,
) -> Report:
    """Audit every exchange in the catalog and write the completeness of its hours to audit_completeness.

    Rows before `since` are left out. Raises `CatalogUnreachable`, `NothingToAudit`, and for a rebuild
    `RegistryUnavailable`.
    """
    now = now or datetime.now(UTC)
    exchanges = _exchanges(spark)
    pinned = PinnedSnapshots(spark, exchanges)
    gaps, states = _gaps(pinned)
    registry, report, hours = Registry(platform.registry_url), Report(), list[HourCompleteness]()
    for exchange in exchanges:
        label = EXCHANGES[exchange].label
        checks = ExchangeAudit(spark, pinned, exchange, now, since)
        checks.check_offsets()
        checks.check_uniqueness()
        hours += checks.check_completeness(gaps.get(label, []), states.get(label, {}))
        if rebuild:
            checks.check_rebuild(lambda topic: SchemaCache(registry, topics.subject(topic)).schemas())
        report.exchanges[label] = checks.report
        report.findings += checks.findings
    report.findings += bars.check_bars(spark, since or (None if rebuild else now - _RECENT))
    tables.ensure(spark, [COMPLETENESS_TABLE])
    completeness.write(spark, hours, next(iter(report.exchanges.values())).snapshots["gold"], now)
    return report


def _exchanges(spark: SparkSession) -> list[str]:
    try:
        rows = spark.sql(f"SHOW TABLES IN {CATALOG}.{NAMESPACE}").collect()
    except AnalysisException:
        rows = []
    except (Py4JError, PySparkException) as error:
        raise CatalogUnreachable(f"the catalog cannot be read: {error_reason(error)}") from error
    matches = (_BRONZE.fullmatch(row["tableName"]) for row in rows)
    exchanges = sorted(match[1] for match in matches if match and match[1] in EXCHANGES)
    if not exchanges:
        raise NothingToAudit("the catalog has no bronze_<exchange>_trades table; run a feed first")
    return exchanges


def _gaps(pinned: PinnedSnapshots) -> tuple[dict[str, list[Gap]], dict[str, Counter[str]]]:
    """Return gaps with numeric ids by exchange, and the number of gaps by exchange and state."""
    gaps: dict[str, list[Gap]] = {}
    states: dict[str, Counter[str]] = {}
    columns = ("exchange", "symbol", "first_id", "last_id", "state", "method")
    for row in pinned.rows(GAPS_TABLE).select(*columns).collect():
        states.setdefault(row["exchange"], Counter())[row["state"]] += 1
        if (row["first_id"] or "").isdigit():
            gap = Gap(row["symbol"], int(row["first_id"]), int(row["last_id"]), row["state"], row["method"] or "")
            gaps.setdefault(row["exchange"], []).append(gap)
    return gaps, states


def main(argv: Sequence[str]) -> int:
    """Audit the catalog that the environment names; return the exit code."""
    arguments = _arguments(argv)
    try:
        platform = Platform.read()
        logs.configure(platform.log_format, platform.log_level)
        since = parse_since(arguments.since, datetime.now(UTC)) if arguments.since else None
        report = _run(platform, arguments, since)
    except (ValueError, JavaNotFound, tables.TableDrifted) as error:
        code, message = 2, str(error)
    except (CatalogUnreachable, jars.JarsUnavailable) as error:
        code, message = 3, str(error)
    except RegistryUnavailable as error:
        code, message = 3, f"--rebuild needs the schemas: {error}; start the platform, or audit without --rebuild"
    except (Py4JError, PySparkException, gateway.JvmFailed) as error:
        code, message = 1, f"the audit could not be finished: {error_reason(error)}"
    else:
        print(report.json() if arguments.json else report.text())
        return 1 if report.findings else 0
    print(message, file=sys.stderr)
    return code


def _run(platform: Platform, arguments: argparse.Namespace, since: datetime | None) -> Report:
    _check_catalog(platform.catalog_uri)
    # Unlike micro-batches, the scans of an audit can be large.
    conf = {"spark.sql.adaptive.enabled": "true", "spark.sql.shuffle.partitions": "4"}
    spark = bootstrap.connect(platform, arguments.master, arguments.memory, conf)
    try:
        return audit(spark, platform, since=since, rebuild=arguments.rebuild)
    finally:
        spark.stop()


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


def error_reason(error: BaseException) -> str:
    """Return the first line of a Spark error's message, without the stack trace."""
    lines: Iterable[str] = (line.strip() for line in str(error).splitlines())
    message = [line for line in lines if line and not line.startswith(("at ", "An error occurred while calling"))]
    return (message[0].lstrip(": ") if message else type(error).__name__)[:300]


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="k2.jobs.audit", description="Check that the layers are complete and consistent."
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("--rebuild", action="store_true", help="rebuild Silver and Gold from Bronze and compare")
    parser.add_argument(
        "--since", metavar="TIME", help="leave out rows before this time; a duration such as 26h is before now"
    )
    bootstrap.add_jvm_arguments(parser)
    return parser.parse_args(argv)
