"""The chain of the verdicts of one channel of an exchange: read, judged and continued. Independent of Spark.

Each verdict names the hash of the one that was written before it for its symbol. A verdict that names one that is not
there says that the one before it was changed or deleted: that one is doubtful, and its hour is not judged by it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from k2.jobs.audit.verdicts.verdict import Hour, agrees, cause, is_sound, verdict_hash
from k2.schemas.states import Cause

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Break:
    """A verdict that names one that is not there.

    `unnamed` is the last one before it that none names, and `gaps` are the revisions of the symbol's hours that are
    not there although later ones are.
    """

    verdict: Row
    unnamed: Row | None
    gaps: tuple[tuple[Hour, int], ...]


class Chain:
    """The verdicts in force, the end of each symbol's chain, and where the chain is broken.

    `rows` are all verdicts, ordered by symbol and as they were written, or with `partial` those since some time: then
    the first of a symbol may name one that was not read. `altered` are rows that are known to have been deleted or
    changed, as they were: the chain goes on from them. `forged` are rows that no audit wrote. The hours of both are
    doubtful.
    """

    def __init__(
        self,
        rows: Iterable[Row] = (),
        altered: Iterable[Row] = (),
        forged: Iterable[Row] = (),
        *,
        partial: bool = False,
    ) -> None:
        self.newest: dict[Hour, Row] = {}
        self.breaks: list[Break] = []
        self.unsound: list[Row] = []  # rows with values that no verdict has
        self.altered: set[Hour] = {(row["symbol"], row["hour"]) for row in forged}
        self._partial = partial
        self._ends: dict[str, tuple[tuple[int, int, int], str]] = {}
        for _, of_symbol in groupby(rows, key=lambda row: row["symbol"]):
            self._read(list(of_symbol))
        for row in altered:
            self.altered.add((row["symbol"], row["hour"]))
            if is_sound(row):
                self._end_with(row, verdict_hash(row))

    def _read(self, rows: Sequence[Row]) -> None:
        sound = [row for row in rows if is_sound(row)]
        self.unsound += [row for row in rows if not is_sound(row)]
        hashes = [verdict_hash(row) for row in sound]
        present, named = set(hashes), {row["previous_digest"] for row in rows}
        unnamed: Row | None = None
        for index, (row, own) in enumerate(zip(sound, hashes, strict=True)):
            previous = row["previous_digest"]
            # Of two audits that ran at the same time, both name the same verdict.
            may_follow = not index and (previous is None or self._partial)
            if previous not in present and not may_follow:
                self.breaks.append(Break(row, unnamed, _gaps(sound)))
            unnamed = row if own not in named else unnamed
            self._end_with(row, own)
            self.newest[row["symbol"], row["hour"]] = row

    def symbols_without_end(self, symbols: Iterable[str]) -> list[str]:
        """Return those symbols of which no verdict was read, though there may be some."""
        return sorted(set(symbols) - set(self._ends)) if self._partial else []

    def go_on_from(self, rows: Iterable[Row]) -> None:
        """Take the last verdict of some symbols."""
        for row in rows:
            self._end_with(row, verdict_hash(row))

    def _end_with(self, row: Row, own: str) -> None:
        at = row["checked_at"], row["hour"], row["revision"]
        end = self._ends.get(row["symbol"])
        if end is None or at >= end[0]:
            self._ends[row["symbol"]] = at, own

    def doubtful(self, judged: Mapping[Hour, Row]) -> dict[Hour, str]:
        """Return the hours of which a verdict was changed or deleted, and what is wrong with it.

        `judged` are the rows that the verdicts on the hours of today would be.
        """
        problems: dict[Hour, str] = {}
        for row in self.unsound:
            problems[row["symbol"], row["hour"]] = f"verdict {row['revision']} has values that no audit writes"
        explained = {symbol for symbol, _ in (*problems, *self.altered)}
        for one in self.breaks:
            if one.verdict["symbol"] not in explained:
                problems |= self._explained(one, judged)
        return problems

    def _explained(self, one: Break, judged: Mapping[Hour, Row]) -> dict[Hour, str]:
        """Return what was changed or deleted before a verdict, by what the other verdicts and the layers tell."""
        symbol, before = one.verdict["symbol"], one.unnamed
        deleted = {hour: f"verdict {revision} was deleted" for hour, revision in one.gaps}
        if deleted:
            return deleted
        changed = {} if before is None else {(symbol, before["hour"]): f"verdict {before['revision']} was changed"}
        if before is not None:
            now = judged.get((symbol, before["hour"]))
            if now is not None and self.newest[symbol, before["hour"]] is before and not agrees(before, now):
                return changed
        absent = {
            hour: "its verdict was deleted"
            for hour in judged
            if hour[0] == symbol and hour not in self.newest and hour[1] < one.verdict["checked_at"]
        }
        at = symbol, one.verdict["hour"]
        return absent or changed or {at: f"the verdict before verdict {one.verdict['revision']} was deleted"}

    def append(self, row: Row, *, rebuilt: bool = False) -> dict[str, Any] | None:
        """Return a row of `new_row` with its place in the chain; None if its hour has this verdict already.

        `rebuilt` says that what the hour has otherwise comes from a rebuild.
        """
        earlier = self.newest.get((row["symbol"], row["hour"]))
        why = cause(earlier, row)
        why = Cause.REBUILT if rebuilt and why is not None else why
        if why is None:
            return None
        end = self._ends.get(row["symbol"])
        chained = {
            **row,
            "revision": 1 if earlier is None else earlier["revision"] + 1,
            "cause": why.value,
            "previous_digest": end and end[1],
        }
        self._ends[row["symbol"]] = (row["checked_at"], row["hour"], chained["revision"]), verdict_hash(chained)
        self.newest[row["symbol"], row["hour"]] = chained
        return chained


def _gaps(rows: Sequence[Row]) -> tuple[tuple[Hour, int], ...]:
    """Return the revisions that are not there although later ones of their hour are."""
    revisions: dict[Hour, set[int]] = {}
    for row in rows:
        revisions.setdefault((row["symbol"], row["hour"]), set()).add(row["revision"])
    return tuple(
        (hour, number)
        for hour, present in revisions.items()
        for number in sorted(set(range(1, max(present))) - present)
    )
