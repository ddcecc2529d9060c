"""What the audit says: one JSON document, or the same as text. No Spark here."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

BALANCED: Final = "balanced"
FINDINGS: Final = "findings"

_NONE: Final = "-"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that should not be: whose, which check found it, and what it is."""

    exchange: str
    check: str
    text: str


@dataclass(slots=True)
class ExchangeReport:
    """One exchange's numbers."""

    rows: dict[str, int] = field(default_factory=dict)  # bronze, silver, dead_letters, gold
    dead_letters: dict[str, int] = field(default_factory=dict)  # by category
    duplicates: int = 0  # Silver rows beyond the first of their message id
    lag: dict[str, int] = field(default_factory=dict)  # rows that silver and gold have yet to take
    gaps: dict[str, int] = field(default_factory=dict)  # audit_gaps by state
    completeness: dict[str, Any] = field(default_factory=dict)
    in_repair: list[str] = field(default_factory=list)
    snapshots: dict[str, int | None] = field(default_factory=dict)
    rebuilt: dict[str, int] = field(default_factory=dict)  # rows that were built anew and are the same


@dataclass(slots=True)
class Report:
    """The whole audit."""

    exchanges: dict[str, ExchangeReport] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """`balanced` or `findings`."""
        return FINDINGS if self.findings else BALANCED

    def document(self) -> dict[str, Any]:
        """The report as JSON holds it."""
        return {
            "verdict": self.verdict,
            "exchanges": {name: asdict(found) for name, found in self.exchanges.items()},
            "findings": [asdict(finding) for finding in self.findings],
        }

    def json(self) -> str:
        """The report as JSON."""
        return json.dumps(self.document(), indent=2)

    def text(self) -> str:
        """The report for a person."""
        head = ("EXCHANGE", "BRONZE", "SILVER", "DEAD", "GOLD", "DUPLICATES", "LAG", "GAPS", "HOURS", "IDS")
        lines = table([head, *(_line(name, found) for name, found in self.exchanges.items())])
        repairs = [text for found in self.exchanges.values() for text in found.in_repair]
        if repairs:
            lines += ["", "in repair:", *(f"  {text}" for text in repairs)]
        same = {name: _rows(found.rebuilt) for name, found in self.exchanges.items() if found.rebuilt}
        if same:
            lines += [
                "",
                "rebuilt from Bronze, with the same hashes:",
                *(f"  {name}: {told}" for name, told in same.items()),
            ]
        if not self.findings:
            return "\n".join([*lines, "", "balanced: every row and every id is accounted for"])
        told = [f"  {finding.check}: {finding.text}" for finding in self.findings]
        return "\n".join([*lines, "", f"{len(told)} finding{'s' * (len(told) > 1)}:", *told])


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as aligned lines."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _line(name: str, found: ExchangeReport) -> list[str]:
    rows, ids = found.rows, found.completeness
    proved = f"{ids['present']}/{ids['expected']}" if ids.get("expected") else _NONE
    return [
        name,
        *(str(rows.get(layer, 0)) for layer in ("bronze", "silver", "dead_letters", "gold")),
        str(found.duplicates),
        _counts((layer, count) for layer, count in found.lag.items() if count),
        _counts(found.gaps.items()),
        _counts(ids.get("hours", {}).items()),
        proved,
    ]


def _rows(rebuilt: Mapping[str, int]) -> str:
    return ", ".join(f"{count} rows of {layer}" for layer, count in rebuilt.items())


def _counts(pairs: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{count} {name}" for name, count in pairs) or _NONE
