"""One subscriber of the live stream: what waits for it, what it was sent, and from where it can resume."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from k2.query.errors import Unavailable
from k2.query.kafka import trade_buffer
from k2.query.kafka.kafka_reader import Judged, Place
from k2.query.kafka.validation import Row
from k2.query.live.resume import Cursor
from k2.query.sql.trade_sql import Wanted

if TYPE_CHECKING:
    from k2.query.live.broadcaster import Hub

_REMEMBERED: Final = 20_000  # message ids
_NEAR: Final = 1_000  # records: so few are read while new ones wait in the queue
_OVERLAP: Final = 500  # records of each place before a cursor that are read only to know what was sent,
_RECENT: Final = 10_000  # and whatever came in so many milliseconds


@dataclass(frozen=True, slots=True)
class Dropped:
    """The last event of a subscriber who cannot be sent more: why, and from where to resume."""

    reason: str
    id: str


@dataclass(frozen=True, slots=True)
class Silence:
    """Nothing came for a while. The id saves who resumes from reading what was not wanted again."""

    id: str


@dataclass(frozen=True, slots=True)
class Event:
    """One trade, and the id to resume after it."""

    row: Row
    id: str


class Subscription:
    """One subscriber. Iterate over `events` once; `close` when the client is gone."""

    def __init__(
        self,
        hub: "Hub",
        symbols: frozenset[str],
        exchange: str | None,
        most: int,
        starts: Mapping[Place, int] | None,
    ) -> None:
        self._hub = hub
        self._symbols = symbols
        self._wanted = Wanted(exchange=exchange)
        self._most = most
        self._starts = starts
        self._sent = dict(starts if starts is not None else hub.positions)
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._queue: deque[Judged] = deque()
        self._listening = starts is None
        self._reason = ""
        self._wake = asyncio.Event()

    @property
    def id(self) -> str:
        """From where to resume."""
        return Cursor(self._sent).text()

    def offer(self, trades: list[Judged]) -> None:
        """Takes what has come, if it is wanted. A queue that is full ends the subscription."""
        if not self._listening or self._reason:
            return
        self._queue += [record for record in trades if self._wants(record)]
        if len(self._queue) > self._most:
            self.drop(f"{self._most} trades waited and were not read; read faster, or ask for fewer symbols")
        elif self._queue:
            self._wake.set()

    def drop(self, reason: str) -> None:
        """Sends nothing more but the reason."""
        self._reason = self._reason or reason
        self._queue.clear()
        self._wake.set()

    def close(self) -> None:
        """The client is gone."""
        self.drop("closed")
        self._hub.leave(self)

    async def events(self, heartbeat: float) -> AsyncGenerator[Event | Silence | Dropped]:
        """Trades as they come, and after so many seconds of none a `Silence`. After `Dropped` nothing follows."""
        if self._starts is not None:
            try:
                async for event in self._history(self._starts):
                    yield event
            except Unavailable as error:
                self.drop(str(error))
        while True:
            while self._queue:
                record = self._queue.popleft()
                if not self._queue:  # whatever else the hub has read was not wanted
                    self._sent = dict(self._hub.positions)
                if (found := self._event(record)) is not None:
                    yield found
            if self._reason:  # before, or while the last event was sent
                break
            self._wake.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(heartbeat):
                    await self._wake.wait()
            if not self._wake.is_set():
                self._sent = dict(self._hub.positions)
                yield Silence(self.id)
        yield Dropped(self._reason, self.id)

    async def _history(self, starts: Mapping[Place, int]) -> AsyncIterator[Event]:
        """What came since, until so little is left that new trades may wait for it."""
        await self._recall(starts)
        while not self._reason:
            ends = dict(self._hub.positions)
            begins = {place: self._sent.get(place, 0) for place in ends}
            self._listening = sum(ends.values()) - sum(begins.values()) <= _NEAR
            async with aclosing(self._told(begins, ends)) as records:
                async for record in records:
                    if self._wants(record) and (event := self._event(record)) is not None:
                        yield event
            self._sent = ends
            if self._listening:
                return

    async def _recall(self, starts: Mapping[Place, int]) -> None:
        """Looks at what was sent before, so that none of it is sent again when it comes again."""
        first = await self._hub.beginnings(starts)
        ends = {place: start for place, start in starts.items() if start > first[place]}
        lasts = {place: start - 1 for place, start in ends.items()}
        async with aclosing(self._told(lasts, ends)) as records:
            times = [record.timestamp async for record in records]
        recent = await self._hub.since(ends, max(times) - _RECENT) if times else {}
        begins = {}
        for place, end in ends.items():
            begin = min(recent.get(place, end), end - _OVERLAP)
            begins[place] = max(begin, end - _REMEMBERED // len(ends), first[place])
        async with aclosing(self._told(begins, ends)) as records:
            async for record in records:
                if isinstance(record.verdict, Row):
                    self._note(record.verdict.message_id)

    async def _told(self, begins: Mapping[Place, int], ends: Mapping[Place, int]) -> AsyncGenerator[Judged]:
        async with aclosing(self._hub.history(begins, ends)) as batches:
            async for batch in batches:
                for record in batch:
                    yield record

    def _wants(self, record: Judged) -> bool:
        row = record.verdict
        if not isinstance(row, Row):
            return False
        return (not self._symbols or row.symbol in self._symbols) and trade_buffer.matching(self._wanted, row)

    def _event(self, record: Judged) -> Event | None:
        """What is sent of a trade; None for one that was sent before."""
        row = record.verdict
        assert isinstance(row, Row)
        self._sent[record.place] = max(self._sent.get(record.place, 0), record.offset + 1)
        return Event(row, self.id) if self._note(row.message_id) else None

    def _note(self, message_id: str) -> bool:
        """Whether a trade is new to this subscriber."""
        if message_id in self._seen:
            return False
        self._seen[message_id] = None
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        return True
