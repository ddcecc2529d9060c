"""Which part of each channel an audit must judge, and what it leaves for the next one. Independent of Spark."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Final

from k2.jobs.audit.incremental.anchor import Anchor
from k2.jobs.audit.incremental.file_sets import FileSet, LiveFile
from k2.schemas.channels import Channel
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.tables import COMPLETENESS_TABLE, DEAD_LETTERS_TABLE, EVIDENCE_TABLE, GAPS_TABLE
from k2.schemas.values import to_micros

# Findings that verdicts tell again, without the rows.
SETTLED: Final = frozenset({"missing_ids", "suspect_records"})
_OPEN: Final = timedelta(hours=1, minutes=5)  # of an hour that began longer ago, a verdict is final


@dataclass(frozen=True, slots=True)
class Compacted:
    """What a table consists of after it was compacted: the number of its last commit, and its files."""

    sequence: int
    files: Sequence[LiveFile]


class Judged:
    """The files of all tables now, compared with those that the audit before has judged, if there is one.

    `removed_before` are the times (UTC microseconds) before which retention has removed rows, by table.
    """

    def __init__(
        self, before: Anchor | None, files: Mapping[str, Sequence[LiveFile]], removed_before: Mapping[str, int]
    ) -> None:
        self._before = before
        self._files = files
        judged_tables = before.tables if before is not None else {}
        self._touched: dict[str, int | None] = {}
        for name, listed in files.items():
            if name not in judged_tables:
                self._touched[name] = 0
                continue
            # Audits add verdicts; only those that were there are of interest.
            newest = judged_tables[name].sequence if name == COMPLETENESS_TABLE.name else math.inf
            compared = (file for file in listed if file.sequence <= newest)
            self._touched[name] = judged_tables[name].touched(compared, removed_before.get(name, 0))

    def floor(self, exchange: str, channel: Channel) -> int:
        """Return from when on (UTC microseconds) a channel is to be judged; 0: all of it."""
        if self._before is None:
            return 0
        tables = (
            channel.bronze(exchange), channel.silver(exchange), channel.gold, DEAD_LETTERS_TABLE, GAPS_TABLE,
            EVIDENCE_TABLE, COMPLETENESS_TABLE,
        )  # fmt: skip
        return self._before.floor(origin(exchange, channel), self._touched, [table.name for table in tables])

    def floor_of(self, names: Iterable[str]) -> int:
        """Return from when on some tables have other files than then; 0 if that is not judged_tables, or everything."""
        if self._before is None:
            return 0
        times = [self._touched.get(name, 0) for name in names]
        return min((time for time in times if time is not None), default=max(self._before.floors.values(), default=0))

    def anchor(
        self,
        sequences: Mapping[str, int],
        now: datetime,
        pending: Mapping[str, int | None],
        compacted: Mapping[str, Compacted] = MappingProxyType({}),
    ) -> Anchor:
        """Return what the next audit need not judge.

        `sequences` are the numbers of the tables' last commits, `pending` the first times of rows that a layer has not
        processed, by what `origin` names; `compacted` are the tables that have the same rows in other files by now.
        """
        tables = {
            name: FileSet.of(files, sequences[name], now.date())
            for name, files in self._files.items()
            if name in sequences
        }
        tables |= {name: FileSet.of(one.files, one.sequence, now.date()) for name, one in compacted.items()}
        closed = to_micros((now - _OPEN).replace(minute=0, second=0, microsecond=0))
        floors = {name: closed if first is None else min(closed, first) for name, first in pending.items()}
        return Anchor(tables, floors)


def origin(exchange: str, channel: Channel) -> str:
    """Return the name of a channel of an exchange."""
    return f"{EXCHANGES[exchange].label}/{channel.name}"
