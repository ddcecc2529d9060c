"""Recognise the pages of a gap's symbol, which few histories name in their rows, by the contents of known ids.

Known is what arrived on the websocket around the gap, and the rows of earlier pages next to missing ids. A page that
differs from it is of another symbol. But what arrived may itself be wrong: an exchange sent an id with a content that
its history does not have. Then every true page differs, always in the same ids and contents, while others agree.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from k2.ingest.exchanges.base import Gap, InvalidItem, MalformedFrame, Page, SequencedRecord
from k2.ingest.sequencing.tracker import IdRange, Tracker
from k2.schemas.content import ID_CONFLICT

_MOST_PARTS: Final = 50  # missing ranges of a gap that are requested one by one
_FARTHEST: Final = 10_000  # ids that are requested once more for the sake of a known one
_ROUNDING: Final = 1000  # microseconds
_EARLIER: Final = 60_000_000  # microseconds; of a record whose id is known and whose time is not kept


class Recognition:
    """What is known around one gap, and what its pages showed. `newest_first` is the order of the history's rows."""

    def __init__(self, gap: Gap, tracker: Tracker, *, newest_first: bool) -> None:
        self._gap, self._tracker, self._newest_first = gap, tracker, newest_first
        self._edges: dict[int, SequencedRecord] = {}  # of the history, next to missing ones, by id
        self._disputed: dict[int, tuple[int, int]] = {}  # contents of the history that differ from what arrived, by id

    def parts(self, missing: Sequence[IdRange]) -> Iterator[Gap]:
        """Yield the missing ids as gaps, each with its neighbours, whose absence or presence shows what to believe."""
        gap = self._gap
        if gap.is_window:
            yield gap
            return
        if len(missing) > _MOST_PARTS:
            missing = ((missing[0][0], missing[-1][1]),)
        for first, last in missing:
            start, since = self._start(max(0, first - 1))
            # A history may round its times, and the neighbour must be in the answer.
            yield replace(gap, first_id=start, last_id=self._end(last + 1), since=max(0, since - _ROUNDING))

    def _start(self, number: int) -> tuple[int, int]:
        """Return the id at which a request begins, by whose content the page is recognised, and a time before it."""
        if edge := self._edges.get(number):
            return number, edge.record.timestamp
        neighbour = self._tracker.known_before(self._gap, number, self._disputed)
        if neighbour is None or number - neighbour[0] > _FARTHEST:
            return number, self._gap.since
        start, since = neighbour
        return start, since - _EARLIER if number in self._disputed else since

    def _end(self, number: int) -> int:
        if number not in self._disputed:
            return number
        neighbour = self._tracker.known_after(self._gap, number, self._disputed)
        return neighbour if neighbour is not None and neighbour - number <= _FARTHEST else number

    def rest(self, part: Gap, page: Page) -> Gap:
        """Return the rest of a part after a page, which repeats the page's last row: it shows whose the next one is."""
        edge = (min if self._newest_first else max)(page.records, key=lambda item: item.last_id)
        self._edges[edge.last_id] = edge
        if self._newest_first:
            return replace(part, last_id=edge.last_id)
        return replace(part, first_id=edge.last_id, since=max(part.since, edge.record.timestamp - _ROUNDING))

    def remember(self, page: Page, missing: Sequence[IdRange]) -> None:
        """Keep the records of a page that stand next to what is missing."""
        records = {item.last_id: item for item in page.records}
        sides = {number for first, last in missing for number in (first - 1, last + 1)}
        self._edges.update((number, records[number]) for number in sides & records.keys())

    def check_contents(self, page: Page) -> list[InvalidItem]:
        """Return the rows whose ids arrived with other content, if the page is of the gap's symbol all the same.

        It is if another row agrees with what is known, and the answer before differed in the same way. Raises
        `MalformedFrame` otherwise.
        """
        gap = self._gap
        differing: dict[int, tuple[int, int]] = {}
        agrees = False
        for item in page.records if not gap.is_window else ():
            edge = self._edges.get(item.last_id)
            if edge is not None and content(edge) != content(item):
                raise self._foreign(item.last_id)
            arrived = self._tracker.matches(gap, item)
            if arrived is False:
                differing[item.last_id] = content(item)
            elif arrived:
                self._disputed.pop(item.last_id, None)
            agrees = agrees or bool(arrived) or edge is not None
        if not differing:
            return []
        repeated = differing.items() <= self._disputed.items()
        self._disputed |= differing
        if not (repeated and agrees):
            raise self._foreign(min(differing))
        reason = "the history has other content than what was received before with this id"
        return [InvalidItem(ID_CONFLICT, f"id {number}: {reason}", gap.pair.symbol, number) for number in differing]

    def check_start(self, part: Gap, page: Page) -> None:
        """Raise `MalformedFrame` if a page lacks the record at which its request began, if that is known."""
        if part.is_window or not page.records:
            return
        gap, ids = self._gap, {item.last_id for item in page.records}
        start = part.last_id if self._newest_first else part.first_id
        recognisable = start in self._edges or self._tracker.knows(gap, start)
        if not recognisable and self._newest_first:
            # The exchange named this newest id, and no later trade came so far: the page must reach what did.
            start = gap.first_id - 1
            recognisable = self._tracker.knows(gap, start)
        # With a disputed id among the rows, others of them were recognised.
        if recognisable and start not in ids and not ids & self._disputed.keys():
            raise MalformedFrame(f"rows may not be those of {gap.pair.raw_symbol}: id {start} is not among them")

    def _foreign(self, number: int) -> MalformedFrame:
        return MalformedFrame(f"rows are not those of {self._gap.pair.raw_symbol}: id {number} has other content")


def content(item: SequencedRecord) -> tuple[int, int]:
    """Return the content of a record, as histories repeat it."""
    return item.record.fingerprint, item.record.timestamp
