"""The audit report, as JSON and as text. Independent of Spark."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

BALANCED: Final = "balanced"
FINDINGS: Final = "findings"
UNFINISHED: Final = "unfinished"

_NONE: Final = "-"


@dataclass(frozen=True, slots=True)
class Finding:
    """An inconsistency: its exchange and channel, the check that detected it, and a description.

    `table`, `symbol` and `hour` (UTC, 2026-03-02T10:00Z) say where it is, as far as the check can tell.
    """

    exchange: str
    channel: str
    check: str
    text: str
    table: str = ""
    symbol: str = ""
    hour: str = ""


@dataclass(slots=True)
class ChannelReport:
    """The numbers of one channel of an exchange."""

    rows: dict[str, int] = field(default_factory=dict)  # bronze, silver, dead_letters, gold
    dead_letters: dict[str, int] = field(default_factory=dict)  # by error category
    duplicates: int = 0  # Silver rows beyond the first of their identity
    lag: dict[str, int] = field(default_factory=dict)  # rows that bronze, silver and gold have yet to process
    unread: dict[str, int] | None = None  # by topic/partition: Kafka's offsets that Bronze has not; None: Kafka is down
    lost: dict[str, str] = field(default_factory=dict)  # by topic/partition: offsets that Kafka deleted unread
    gaps: dict[str, int] = field(default_factory=dict)  # audit_gaps by state
    completeness: dict[str, Any] = field(default_factory=dict)
    in_repair: list[str] = field(default_factory=list)
    missing_time: list[str] = field(default_factory=list)  # by hour: time that audit_completeness lists as missing
    revoked: list[str] = field(default_factory=list)  # verdicts on ids that came after all
    snapshots: dict[str, int | None] = field(default_factory=dict)
    rebuilt: dict[str, int] = field(
        default_factory=dict
    )  # by layer: rows that were rebuilt from Bronze with equal hashes
    rebuilds: dict[str, str] = field(default_factory=dict)  # by layer: the newest rebuild, and what it left as it was
    agreement: dict[str, int] = field(default_factory=dict)  # of quotes with the book: compared, disagreeing
    judged_since: str = ""  # earlier rows were judged by audits before; empty if all were judged now
    unfinished: str = ""  # why not every check was made; empty if all were


@dataclass(slots=True)
class Report:
    """The report on all audited channels, by the label of the exchange and the name of the channel."""

    exchanges: dict[str, dict[str, ChannelReport]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """`balanced` or `findings`."""
        return FINDINGS if self.findings else BALANCED

    def rows(self) -> list[tuple[str, str, ChannelReport]]:
        """Return exchange, channel and report of every audited channel."""
        return [
            (exchange, channel, report)
            for exchange, reports in self.exchanges.items()
            for channel, report in reports.items()
        ]

    def document(self) -> dict[str, Any]:
        """Return the report as JSON-serialisable values."""
        return {
            "verdict": self.verdict,
            "exchanges": {
                exchange: {channel: asdict(report) for channel, report in reports.items()}
                for exchange, reports in self.exchanges.items()
            },
            "findings": [asdict(finding) for finding in self.findings],
            "error": None,
        }

    def json(self) -> str:
        """Return the report as indented JSON."""
        return json.dumps(self.document(), indent=2)

    def text(self) -> str:
        """Return the report as text for a terminal."""
        head = ("EXCHANGE", "CHANNEL", "BRONZE", "SILVER", "DEAD", "GOLD", "DUPLICATES", "LAG", "GAPS", "HOURS", "IDS")
        lines = table([head, *(_line(*row) for row in self.rows())])
        unread = [
            f"  {partition}: {count} offsets"
            for *_, report in self.rows()
            for partition, count in (report.unread or {}).items()
        ]
        if any(report.unread is None for *_, report in self.rows()):
            lines += ["", "Kafka does not answer: what Bronze has not read of it is not counted"]
        if unread:
            lines += ["", "in Kafka, and not read yet:", *unread]
        since = [f"  {exchange} {name}: {one.judged_since}" for exchange, name, one in self.rows() if one.judged_since]
        if since:
            lines += ["", "judged since then, and before by earlier audits:", *since]
        lines += [*self._notes(), *self._agreements()]
        rebuilt = [
            f"  {exchange} {channel}: {_counted_rows(report.rebuilt)}"
            for exchange, channel, report in self.rows()
            if report.rebuilt
        ]
        if rebuilt:
            lines += ["", "rebuilt from Bronze, with the same hashes:", *rebuilt]
        rebuilds = [
            f"  {exchange} {name} {layer}: {text}"
            for exchange, name, one in self.rows()
            for layer, text in one.rebuilds.items()
        ]
        if rebuilds:
            lines += ["", "built again:", *rebuilds]
        unfinished = [f"  {exchange} {name}: {one.unfinished}" for exchange, name, one in self.rows() if one.unfinished]
        if unfinished:
            lines += ["", "not every check was made:", *unfinished]
        if not self.findings:
            return "\n".join([*lines, "", "balanced: every row and every id is accounted for"])
        findings = [f"  {finding.check}: {finding.text}" for finding in self.findings]
        return "\n".join([*lines, "", f"{len(findings)} finding{'s' * (len(findings) > 1)}:", *findings])

    def _notes(self) -> list[str]:
        """Return lines about ids and time that are no findings; none if there are none."""
        reports = [report for *_, report in self.rows()]
        notes = (
            ("in repair:", [text for one in reports for text in one.in_repair]),
            ("listed as missing time:", [text for one in reports for text in one.missing_time]),
            ("never issued, and came after all:", [text for one in reports for text in one.revoked]),
        )
        return [line for title, texts in notes if texts for line in ("", title, *(f"  {text}" for text in texts))]

    def _agreements(self) -> list[str]:
        """Return lines about the quotes that were compared with books; none if none were."""
        lines = [
            f"  {exchange}: {one.agreement['compared'] - one.agreement['disagreeing']} of {one.agreement['compared']}"
            for exchange, _, one in self.rows()
            if one.agreement
        ]
        return ["", "quotes that equal the best prices of the book in their state:", *lines] if lines else []


def failure_json(code: int, message: str) -> str:
    """Return the document of an audit that could not be made, with its exit code and the reason."""
    error = {"exit_code": code, "text": message}
    return json.dumps({"verdict": UNFINISHED, "exchanges": {}, "findings": [], "error": error}, indent=2)


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as lines with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _line(exchange: str, channel: str, report: ChannelReport) -> list[str]:
    rows, ids = report.rows, report.completeness
    verified = f"{ids['actual']}/{ids['expected']}" if ids.get("expected") else _NONE
    return [
        exchange,
        channel,
        *(str(rows.get(layer, 0)) for layer in ("bronze", "silver", "dead_letters", "gold")),
        str(report.duplicates),
        _counts((layer, count) for layer, count in report.lag.items() if count),
        _counts(report.gaps.items()),
        _counts(ids.get("hours", {}).items()),
        verified,
    ]


def _counted_rows(rebuilt: Mapping[str, int]) -> str:
    return ", ".join(f"{count} rows of {layer}" for layer, count in rebuilt.items())


def _counts(pairs: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{count} {name}" for name, count in pairs) or _NONE
