"""The audit of one channel of an exchange after the other. One that fails is reported, and the others go on."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from pyspark.sql import SparkSession
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.common.kafka_connection import KafkaConnection
from k2.common.schema_registry import RegistryUnavailable
from k2.jobs.audit.altered import Altered
from k2.jobs.audit.completeness import check as completeness_check
from k2.jobs.audit.completeness import never_issued
from k2.jobs.audit.completeness.earlier import Earlier
from k2.jobs.audit.completeness.hours import Gap
from k2.jobs.audit.ledger import check as ledger_check
from k2.jobs.audit.offsets import check as offsets_check
from k2.jobs.audit.offsets import kafka
from k2.jobs.audit.pinned_snapshots import PinnedSnapshots
from k2.jobs.audit.rebuild import check as rebuild_check
from k2.jobs.audit.records import check as records_check
from k2.jobs.audit.report import ChannelReport, Finding
from k2.jobs.audit.scope import Scope, hour_of
from k2.jobs.audit.verdicts import check as verdicts_check
from k2.jobs.audit.verdicts.store import Verdicts
from k2.jobs.telemetry import error_summary
from k2.schemas.channels import Channel
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.tables import COMPLETENESS_TABLE, EVIDENCE_TABLE, GAPS_TABLE
from k2.schemas.values import from_micros

_Origin = tuple[str, str]  # the label of an exchange, and the name of a channel


@dataclass(slots=True)
class ChannelResult:
    """What the audit of a channel gave: `report.unfinished` says why not every check was made."""

    report: ChannelReport
    findings: list[Finding] = field(default_factory=list)
    verdicts: list[dict[str, Any]] = field(default_factory=list)
    judged_rebuilds: dict[str, int] = field(default_factory=dict)  # by property of audit_completeness
    pending_since: int | None = None  # UTC microseconds: the first row that a layer has not processed


class ChannelAudits:
    """Audits channels at pinned snapshots.

    `connection` is that of Kafka, which may be down. `schemas` are the writer schemas for a rebuild; None for no
    rebuild. `altered` are the rows that something is known to have changed.
    """

    def __init__(
        self,
        spark: SparkSession,
        pinned: PinnedSnapshots,
        now: datetime,
        since: datetime | None,
        connection: KafkaConnection,
        schemas: Callable[[str], Mapping[int, str]] | None,
        altered: Altered | None = None,
    ) -> None:
        self._spark = spark
        self._pinned = pinned
        self._now = now
        self._since = since
        self._connection = connection
        self._schemas = schemas
        self._altered = altered or Altered()

    def run(self, exchange: str, channel: Channel, floor: int | None = None) -> ChannelResult:
        """Audit one channel; return what was found until the end or until a check failed.

        With a `floor` (UTC microseconds; 0: none) what is before it has been judged by an audit without findings.

        Raises `RegistryUnavailable` for a rebuild.
        """
        result = ChannelResult(ChannelReport())
        try:
            since = from_micros(hour_of(floor)) if floor else self._since
            scope = Scope(self._spark, self._pinned, exchange, channel, self._now, since, incremental=bool(floor))
            result.report, result.findings = scope.report, scope.findings
            scope.report.judged_since = f"{since:%Y-%m-%dT%H:%M:%SZ}" if floor and since else ""
            result.verdicts = self._check(scope)
            result.pending_since = scope.pending_since
            result.judged_rebuilds = scope.judged_rebuilds
        except RegistryUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a damaged table gives, the report is whole
            result.report.unfinished = failure(error)
        return result

    def _check(self, scope: Scope) -> list[dict[str, Any]]:
        gaps, states = self._gaps
        origin = scope.label, scope.channel.name
        ledger_check.check(scope)
        offsets = offsets_check.check(scope, self._altered.dead_letters)
        self._count_unread(scope)
        records = records_check.check(scope, offsets.missing)
        evidence = self._evidence(scope.exchange)
        stored = Verdicts(self._pinned.rows(COMPLETENESS_TABLE), *origin)
        earlier = Earlier(stored.own)
        hours = completeness_check.check(scope, gaps.get(origin, []), states.get(origin, {}), evidence, earlier)
        verdicts_read = stored.chain(self._altered.verdicts, self._altered.forged_verdicts, scope.start)
        changed = self._altered.bronze.get(scope.bronze_table.name, {})
        verdicts = verdicts_check.check(scope, hours, stored, verdicts_read, records, changed)
        if self._schemas is not None:
            rebuild_check.check(scope, offsets, self._schemas)
        return verdicts

    def _count_unread(self, scope: Scope) -> None:
        extents = self._pinned.bronze_extents(scope.exchange, scope.channel)
        unread = kafka.unread(self._connection, {key: last for key, (_, last) in extents.items()})
        if unread is None:
            return
        scope.report.unread = {f"{topic}/{number}": count for (topic, number), count in unread.items()}
        if unread:
            scope.report.lag["bronze"] = sum(unread.values())

    def _evidence(self, exchange: str) -> dict[str, bool]:
        answers = self._pinned.rows(EVIDENCE_TABLE)
        return never_issued.stored(answers.where(F.col("exchange") == EXCHANGES[exchange].label))

    @cached_property
    def _gaps(self) -> tuple[dict[_Origin, list[Gap]], dict[_Origin, Counter[str]]]:
        """Gaps with numeric ids by exchange and channel, and the number of gaps by state."""
        gaps: dict[_Origin, list[Gap]] = {}
        states: dict[_Origin, Counter[str]] = {}
        columns = (
            "exchange", "channel", "symbol", "first_id", "last_id", "state", "resolution", "missing", "evidence",
        )  # fmt: skip
        rows = self._pinned.rows(GAPS_TABLE)
        # A snapshot has the columns that its table had then.
        present = [F.col(name) if name in rows.columns else F.lit(None).alias(name) for name in columns]
        present += [F.coalesce(F.unix_micros(name), F.lit(0)).alias(name) for name in ("detected_at", "resolved_at")]
        for row in rows.select(*present).collect():
            origin = row["exchange"], row["channel"]
            states.setdefault(origin, Counter())[row["state"]] += 1
            if (row["first_id"] or "").isdigit():
                gap = Gap(
                    row["symbol"], int(row["first_id"]), int(row["last_id"]), row["state"], row["resolution"] or "",
                    tuple((int(ids["first_id"]), int(ids["last_id"])) for ids in row["missing"] or ()),
                    tuple(filter(None, (row["evidence"] or "").split(","))),
                    row["detected_at"], row["resolved_at"],
                )  # fmt: skip
                gaps.setdefault(origin, []).append(gap)
        return gaps, states


def failure(error: Exception) -> str:
    """Return why a check failed, in one line."""
    return error_summary.summarize(error_summary.full_text(error)) or type(error).__name__
