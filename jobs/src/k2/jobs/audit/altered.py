"""What the checks of channels need to know of rows that are known to have been changed or deleted."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from k2.jobs.audit.storage.altered_rows import AlteredRow
from k2.jobs.audit.verdicts import store
from k2.jobs.audit.verdicts.verdict import Hour
from k2.schemas.tables import COMPLETENESS_TABLE, DEAD_LETTERS_TABLE
from k2.schemas.values import to_micros


@dataclass(frozen=True, slots=True)
class Altered:
    """Rows that are known to have been altered.

    Verdicts as they were, verdicts that no audit wrote, positions of dead letters, and by Bronze table and hour the
    positions of changed rows.
    """

    verdicts: Sequence[Mapping[str, Any]] = ()
    forged_verdicts: Sequence[Mapping[str, Any]] = ()
    dead_letters: frozenset[tuple[str, int, int]] = frozenset()
    bronze: Mapping[str, Mapping[Hour, Sequence[str]]] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: Mapping[str, Sequence[AlteredRow]]) -> "Altered":
        """Return what rows tell, by table."""
        dead = [json.loads(row.content) for row in rows.get(DEAD_LETTERS_TABLE.name, ())]
        bronze = {name: _positions(altered) for name, altered in rows.items() if name.startswith("bronze_")}
        verdicts = rows.get(COMPLETENESS_TABLE.name, ())
        return cls(
            [store.parse(row.content) for row in verdicts if not row.added],
            [store.parse(row.content) for row in verdicts if row.added],
            frozenset((row["topic"], row["partition"], row["offset"]) for row in dead),
            bronze,
        )


def _positions(rows: Sequence[AlteredRow]) -> dict[Hour, list[str]]:
    positions: dict[Hour, list[str]] = {}
    for row in rows:
        content, finding = json.loads(row.content), row.finding
        hour = finding.symbol, to_micros(datetime.fromisoformat(finding.hour))
        positions.setdefault(hour, []).append(f"{content['topic']}/{content['partition']} offset {content['offset']}")
    return positions
