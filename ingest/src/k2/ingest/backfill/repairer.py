"""The gap repairer: fetches missing records over REST, publishes them with `source=backfill` and closes the gap.

Each gap is a task with a schedule of its own; the client's rate limit is what they share. A gap stays open until all of
it arrived or an answer is final: an error that the exchange's table lists as such, the end of its history, or two
answers that prove that an id was never issued.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Final
from urllib.parse import urlencode

from k2.common import logs, tracing
from k2.common.ranges import count, within, without
from k2.ingest.backfill.absence import Absence, Answer, between
from k2.ingest.backfill.policy import Policy
from k2.ingest.backfill.recognition import Recognition, content
from k2.ingest.backfill.rest import RestClient, RestUnreachable
from k2.ingest.backfill.schedule import Schedule
from k2.ingest.exchanges.base import (
    NO_ID,
    Adapter,
    Gap,
    InvalidItem,
    MalformedFrame,
    Page,
    Request,
    RestRefused,
    SequencedRecord,
)
from k2.ingest.kafka.publisher import Publisher
from k2.ingest.pipeline import Pipeline
from k2.ingest.sequencing.ledger import GapLedger, utc_micros
from k2.ingest.sequencing.tracker import IdRange, Tracker
from k2.ingest.telemetry.stats import Stats
from k2.schemas.states import GapReason, GapState

log = logs.get("repair")

_RULES: Final = "2"  # of this module; a verdict of other rules is judged again
_BAD_ROWS: Final = 4  # answers with the same bad row until its id counts as received
_SHORT_HISTORY: Final = 2  # answers until a history that begins after a window is believed
_CURSOR_STEP: Final = 100  # ids


def rules_version(client_version: str) -> str:
    """Return the version of the rules by which gaps are given up; `client_version` is of the exchange's table."""
    return f"{_RULES}.{client_version}"


@dataclass(slots=True)
class _Sweep:
    """What the pages of one attempt show of a gap."""

    overlaps: bool = True
    reaches: bool = False
    full: bool = False
    consistent: bool = True
    absent: list[tuple[IdRange, Answer]] = field(default_factory=list)
    before_history: list[tuple[IdRange, Answer]] = field(default_factory=list)
    bad: list[InvalidItem] = field(default_factory=list)


@dataclass(slots=True)
class _Case:
    """A gap in repair, and what earlier attempts showed."""

    gap: Gap
    schedule: Schedule
    recognition: Recognition
    missing: int = 0  # ids, after the last failed attempt
    never_issued: Absence = field(default_factory=Absence)
    before_history: Absence = field(default_factory=Absence)
    short_history: int = 0
    bad_rows: dict[int, int] = field(default_factory=dict)  # answers with a bad row, by its id
    dead_letters: set[tuple[int, str]] = field(default_factory=set)  # bad rows that were stored


class Repairer:
    """Repair the gaps of the ledger's queue, each on its own schedule.

    `now` returns UTC microseconds; `random` spreads the attempts.
    """

    def __init__(
        self,
        adapter: Adapter,
        client: RestClient,
        policy: Policy,
        tracker: Tracker,
        ledger: GapLedger,
        pipeline: Pipeline,
        publisher: Publisher,
        stats: Stats,
        *,
        now: Callable[[], int] = utc_micros,
        random: Random | None = None,
    ) -> None:
        self._adapter = adapter
        self._client = client
        self._policy = policy
        self._tracker = tracker
        self._ledger = ledger
        self._pipeline = pipeline
        self._publisher = publisher
        self._stats = stats
        self._now = now
        self._random = random or Random()

    async def run(self) -> None:
        """Repair gaps until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                gap = await self._ledger.repairs.get()
                group.create_task(self._traced(self._case(gap)))

    def _case(self, gap: Gap) -> _Case:
        newest_first = self._client.answers.history.newest_first
        return _Case(gap, Schedule(self._random), Recognition(gap, self._tracker, newest_first=newest_first))

    async def _traced(self, case: _Case) -> None:
        gap = case.gap
        ids = {} if gap.is_window else {"k2.first_id": str(gap.first_id), "k2.last_id": str(gap.last_id)}
        with tracing.span("repair", {"k2.symbol": gap.pair.symbol} | ids):
            await self._repair(case)

    async def _repair(self, case: _Case) -> None:
        gap = case.gap
        while self._tracker.missing(gap):
            if exclusion := self._policy.exclusion(gap, self._now()):
                await self._give_up(gap, *exclusion)
                return
            try:
                delay = await self._attempt(case)
            except RestRefused as error:
                if error.reason is not None:
                    self._stats.errors["rest_refused"] += 1
                    await self._give_up(gap, error.reason, f"rest: {error}"[:200])
                    return
                delay = self._transient(case, "rest_transient", error, error.retry_after)
            except MalformedFrame as error:
                delay = self._transient(case, "rest_transient", error)
            except RestUnreachable as error:
                delay = self._transient(case, "rest_unreachable", error)
            if delay is None:
                return
            await asyncio.sleep(delay)
        # Either late records completed it, and the pipeline closed it, or an attempt that failed after its last id.
        await self._close(gap, GapState.REPAIRED, "rest")

    def _transient(self, case: _Case, kind: str, error: Exception, retry_after: float | None = None) -> float:
        self._stats.errors[kind] += 1
        if (missing := count(self._tracker.missing(case.gap))) < case.missing:
            case.schedule.attempts = 0  # the exchange answers, with interruptions
        case.missing = missing
        delay = case.schedule.delay(retry_after)
        log.warning(
            "gap stays open", symbol=case.gap.pair.symbol, error=str(error), attempt=case.schedule.attempts,
            seconds=round(delay, 1),
        )  # fmt: skip
        return delay

    async def _attempt(self, case: _Case) -> float | None:
        """Ask for what is missing of a gap. Return the seconds until the next attempt; None once it is closed."""
        sweep = _Sweep()
        for part in case.recognition.parts(self._tracker.missing(case.gap)):
            await self._sweep(case, part, sweep)
        if case.gap.is_window:
            return await self._judge_window(case, sweep)
        return await self._judge(case, sweep)

    async def _sweep(self, case: _Case, part: Gap, sweep: _Sweep) -> None:
        """Publish the records of a part of the gap that the history has, page by page, and note what it lacks."""
        gap, rest = case.gap, part
        request: Request | None = self._adapter.history_request(part)
        while request is not None:
            page, answer = await self._page(request, rest)
            self._dead_letter(case, case.recognition.check_contents(page), answer)
            if rest is part and await self._begins_after(part, page):
                cut = within([(part.first_id, page.oldest - 1)], self._tracker.missing(gap))
                sweep.before_history += [(ids, answer) for ids in cut]
            else:
                case.recognition.check_start(rest, page)
            self._note(case, page, answer, sweep)
            await self._publish(gap, page.records)
            case.recognition.remember(page, self._tracker.missing(gap))
            rest, request = self._following(case, rest, page)

    def _following(self, case: _Case, part: Gap, page: Page) -> tuple[Gap, Request | None]:
        """Return the rest of a part and its request, which repeats the last row: by it the next page is recognised."""
        if page.next_request is None or part.is_window or not page.records:
            return part, page.next_request
        rest = case.recognition.rest(part, page)
        # A page of the row that was asked for and no other: the history ends there.
        return (rest, self._adapter.history_request(rest)) if rest != part else (part, None)

    async def _begins_after(self, part: Gap, page: Page) -> bool:
        """Return whether the history begins after the first id of a part, as its first page suggests.

        A page that ignored the request, or of another symbol, would look the same, so its second id is requested: it
        must come, with the same content. If the part has but one record of the page, that is requested again as well.
        """
        if not self._client.answers.history.has_floor or not page.consistent or page.oldest <= part.first_id + 1:
            return False
        contents = {item.last_id: content(item) for item in page.records}
        number = min((other for other in contents if other > page.oldest), default=page.oldest + 1)
        second = await self._repeated(part, number)
        if not second.consistent or not page.oldest < second.oldest <= page.oldest + _CURSOR_STEP:
            return False
        repeated = list(second.records)
        if len(contents) == 1:
            repeated += (await self._repeated(part, page.oldest)).records
        equal = [contents[item.last_id] == content(item) for item in repeated if item.last_id in contents]
        return all(equal) and bool(equal or not contents)

    async def _repeated(self, part: Gap, number: int) -> Page:
        """Return the page that begins at an id."""
        probe = replace(part, first_id=number, last_id=number)
        page, _ = await self._page(self._adapter.history_request(probe), probe)
        return page

    async def _page(self, request: Request, gap: Gap) -> tuple[Page, Answer]:
        def read(body: bytes) -> tuple[Page, Answer]:
            received = self._now()
            page = self._adapter.parse_page(request, body, gap, received)
            return page, Answer(f"GET {request.path}?{urlencode(request.params)}", received, body)

        return await self._client.fetch_once(request, read)

    def _note(self, case: _Case, page: Page, answer: Answer, sweep: _Sweep) -> None:
        coverage = self._tracker.coverage(case.gap, page.row_ids)
        sweep.overlaps = sweep.overlaps and (page.overlaps or coverage.overlaps)
        sweep.reaches = sweep.reaches or page.reaches or coverage.reaches
        sweep.full = sweep.full or page.full
        sweep.consistent = sweep.consistent and page.consistent and coverage.complete
        self._dead_letter(case, page.invalid, answer)
        sweep.bad += [item for item in page.invalid if item.last_id != NO_ID]
        if not page.consistent or case.gap.is_window or not self._publisher.keeps_evidence:
            return
        ids = [(item.first_id, item.last_id) for item in page.records]
        ids += [(item.last_id, item.last_id) for item in page.invalid]
        lacking = within(between(ids), self._tracker.missing(case.gap))
        sweep.absent += [(entry, answer) for entry in lacking]

    def _dead_letter(self, case: _Case, items: Iterable[InvalidItem], answer: Answer) -> None:
        """Store the body of a page with its rows that are bad in some way; each of them once."""
        new = [item for item in items if (item.last_id, item.reason) not in case.dead_letters]
        if new:  # one dead letter names all bad rows of a page
            self._pipeline.dead_letter_items(answer.body, new)
            case.dead_letters.update((item.last_id, item.reason) for item in new)

    async def _publish(self, gap: Gap, items: Iterable[SequencedRecord]) -> None:
        # Rows around the gap are there to recognise the page; other gaps have requests of their own.
        own = items if gap.is_window else [item for item in items if gap.first_id <= item.last_id <= gap.last_id]
        records = [item.record for item in own if self._tracker.fill(gap, item)]
        if gap.listing > 1:
            records = [record.in_listing(gap.listing) for record in records]
        await self._publisher.wait_unblocked()
        await asyncio.gather(*[self._publisher.send_acked(record) for record in records])
        self._stats.sources["backfill"] += len(records)

    async def _judge_window(self, case: _Case, sweep: _Sweep) -> float | None:
        """Close a window if the history covers all of it, or begins inside it."""
        if sweep.reaches and sweep.overlaps and sweep.consistent:
            await self._close(case.gap, GapState.REPAIRED, "overlap")
            return None
        short = sweep.reaches and sweep.consistent and sweep.full and bool(self._client.answers.history.rows)
        case.short_history = case.short_history + 1 if short else 0
        if case.short_history >= _SHORT_HISTORY:
            await self._give_up(case.gap, GapReason.OUT_OF_HISTORY, "overlap: the history began after the gap")
            return None
        return case.schedule.delay()

    async def _judge(self, case: _Case, sweep: _Sweep) -> float | None:
        """Close a gap whose ids all came or are known never to come."""
        gap, now = case.gap, asyncio.get_running_loop().time()
        dead_letters = self._account_bad_rows(case, sweep)
        missing = self._tracker.missing(gap)
        if not missing:
            text = f"rest; {dead_letters} ids are dead letters" if dead_letters else "rest"
            await self._close(gap, GapState.REPAIRED, text)
            return None
        skipped = case.never_issued.observe(_still(sweep.absent, missing), now)
        older = case.before_history.observe(_still(sweep.before_history, missing), now)
        out = list(older)
        age = self._client.answers.history.age
        if age and sweep.consistent and self._now() - gap.until > age * 1e6:
            out = without(missing, skipped)
        if not without(missing, [*skipped, *out]):
            await self._close_missing(gap, missing, {**skipped, **older}, out)
            return None
        due = [entry for entry in (case.never_issued.due(now), case.before_history.due(now)) if entry is not None]
        return min(case.schedule.delay(), *due) if due else case.schedule.delay()

    def _account_bad_rows(self, case: _Case, sweep: _Sweep) -> int:
        """Count the ids of rows that stay bad as received: they are dead letters. Return their number."""
        for number in {item.last_id for item in sweep.bad}:
            case.bad_rows[number] = case.bad_rows.get(number, 0) + 1
            if case.bad_rows[number] >= _BAD_ROWS:
                self._tracker.account(case.gap, number, number)
        return sum(times >= _BAD_ROWS for times in case.bad_rows.values())

    async def _close_missing(
        self,
        gap: Gap,
        missing: Sequence[IdRange],
        proofs: dict[IdRange, tuple[Answer, Answer]],
        out: Sequence[IdRange],
    ) -> None:
        # Two answers may be equal, byte for byte; when each came is part of the proof.
        answers = {(answer.body, answer.received): answer for pair in proofs.values() for answer in pair}
        evidence = dict[str, None]()
        for answer in answers.values() if self._publisher.keeps_evidence else ():
            key, stored = self._publisher.send_evidence(answer.request, 200, answer.received, answer.body)
            await stored
            evidence[key] = None
        older = count(within(out, missing))
        if older:
            text = f"rest: {older} ids are not in the exchange's history"
            await self._give_up(gap, GapReason.OUT_OF_HISTORY, text, missing, tuple(evidence))
            return
        text = f"rest: {count(missing)} ids were never issued"
        await self._close(gap, GapState.NEVER_ISSUED, text, None, missing, tuple(evidence))
        self._tracker.keep_revocable(gap, missing)

    async def _give_up(
        self,
        gap: Gap,
        reason: GapReason,
        resolution: str,
        missing: Sequence[IdRange] = (),
        evidence: Sequence[str] = (),
    ) -> None:
        missing = missing or (() if gap.is_window else self._tracker.missing(gap))
        await self._close(gap, GapState.UNRECOVERABLE, resolution, reason, missing, evidence)

    async def _close(
        self,
        gap: Gap,
        state: GapState,
        resolution: str,
        reason: GapReason | None = None,
        missing: Sequence[IdRange] = (),
        evidence: Sequence[str] = (),
    ) -> None:
        self._tracker.close(gap)
        event = self._ledger.close(gap, state, resolution, reason, missing=missing, evidence=evidence)
        if event is not None:
            await event


def _still(observed: Iterable[tuple[IdRange, Answer]], missing: Sequence[IdRange]) -> list[tuple[IdRange, Answer]]:
    """Return the observations of ids that are missing at the end of an attempt."""
    return [(part, answer) for ids, answer in observed for part in within([ids], missing)]
