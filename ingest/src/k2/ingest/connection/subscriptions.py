"""The subscriptions of one connection: one state machine per symbol. Pure: the caller passes a clock, in seconds.

`next_request` gives the next message to send, the answers and records are reported back, and `expire` ends what was not
answered in time. A request that was refused or not answered as a whole is sent again in halves, until it is known which
symbol is to blame: no symbol stays unsubscribed because of another one.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from k2.ingest.exchanges.base import Limits, Refusal
from k2.schemas.states import SymbolState

ANSWER_WITHIN: Final = 10.0  # seconds
_ALONE_ATTEMPTS: Final = 2  # of a symbol in a request of its own, before the connection is to be replaced
_UNANSWERED_PAUSE: Final = 60.0  # before a symbol that was never answered is sent again, doubled each time
_BUSY_PAUSE: Final = 1.0  # after an exchange said that it is busy, doubled each time
_BUSY_LIMIT: Final = 60.0
_SLOWEST_INTERVAL: Final = 5.0  # between two requests
_LONGEST_PAUSE: Final = 3600.0
_HOUR: Final = 3600.0
_REMEMBERED: Final = 256  # requests, for answers that come late

_SENDABLE: Final = frozenset({SymbolState.PENDING, SymbolState.UNANSWERED})
_JUDGED: Final = frozenset({SymbolState.FLOWING, SymbolState.REFUSED})
_LIVE: Final = frozenset({SymbolState.ACKNOWLEDGED, SymbolState.FLOWING})


class Operation(Enum):
    """What a request asks for."""

    SUBSCRIBE = "subscribe"
    UNSUBSCRIBE = "unsubscribe"


# Encodes a request for symbols; the number identifies it in the answer.
Encode = Callable[[Operation, Sequence[str], int], bytes]


@dataclass(slots=True)
class _Symbol:
    state: SymbolState = SymbolState.PENDING
    reason: str = ""  # of a refusal, in the exchange's words
    request: int = 0  # the number of the open request that holds it
    alone: int = 0  # requests of its own that were not answered
    not_before: float = 0.0
    halved: bool = False  # it is in a half that waits to be sent
    leaving: bool = False  # to be unsubscribed first
    removed: bool = False  # and forgotten then


@dataclass(slots=True)
class _Request:
    number: int
    operation: Operation
    symbols: tuple[str, ...]
    deadline: float
    open: bool = True


@dataclass(slots=True)
class Subscriptions:
    """The state of each symbol of a connection, in the exchange's spelling."""

    limits: Limits
    encode: Encode
    answer_within: float = ANSWER_WITHIN
    crowded: bool = field(default=False, init=False)  # the connection takes no more symbols
    stubborn: set[str] = field(default_factory=set, init=False)  # never answered, in requests of their own
    strays: int = field(default=0, init=False)  # refusals that name neither a symbol nor a request
    _symbols: dict[str, _Symbol] = field(default_factory=dict, init=False)
    _requests: dict[int, _Request] = field(default_factory=dict, init=False)
    _halves: deque[tuple[str, ...]] = field(default_factory=deque, init=False)
    _number: int = field(default=0, init=False)
    _most: int = field(init=False)
    _interval: float = field(init=False)
    _next_send: float = field(default=0.0, init=False)
    _busy_pause: float = field(default=0.0, init=False)
    _sent_at: deque[float] = field(default_factory=deque, init=False)
    _answers: int = field(default=0, init=False)
    _expired: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._most, self._interval = self.limits.symbols_per_message, self.limits.subscribe_interval

    def want(self, raw_symbols: Iterable[str]) -> None:
        """Subscribe to symbols. One that was refused, or is being removed, is subscribed again."""
        for raw_symbol in raw_symbols:
            symbol = self._symbols.setdefault(raw_symbol, _Symbol())
            symbol.removed = False
            if symbol.state is SymbolState.REFUSED:
                symbol.state, symbol.reason, symbol.not_before = SymbolState.PENDING, "", 0.0

    def drop(self, raw_symbols: Iterable[str]) -> None:
        """End the subscription of symbols that are no longer wanted."""
        for raw_symbol in raw_symbols:
            symbol = self._symbols.get(raw_symbol)
            if symbol is None:
                continue
            self.stubborn.discard(raw_symbol)
            if symbol.state is SymbolState.REFUSED or (symbol.state in _SENDABLE and not symbol.leaving):
                del self._symbols[raw_symbol]
            elif symbol.leaving:
                symbol.removed = True
            else:
                self._set(raw_symbol, SymbolState.PENDING)
                symbol.removed = symbol.leaving = True
        self._close_answered()

    def renew(self, raw_symbols: Iterable[str]) -> None:
        """Unsubscribe symbols and subscribe them again: some exchanges refuse to subscribe what is subscribed."""
        for raw_symbol in raw_symbols:
            symbol = self._symbols.get(raw_symbol)
            if symbol is not None and symbol.state in _LIVE:
                symbol.state, symbol.leaving, symbol.request = SymbolState.PENDING, True, 0

    def refuse(self, raw_symbols: Iterable[str], reason: str) -> tuple[str, ...]:
        """Take symbols as refused that another source does not have. Return those; what flows exists all the same."""
        refused = tuple(
            raw_symbol
            for raw_symbol in raw_symbols
            if (symbol := self._symbols.get(raw_symbol)) and symbol.state not in _JUDGED
        )
        for raw_symbol in refused:
            self._set(raw_symbol, SymbolState.REFUSED, reason)
        self._close_answered()
        return refused

    def acknowledged(self, raw_symbols: Sequence[str], number: int) -> None:
        """Take an acknowledgement of symbols, or of a whole request if it names none."""
        self._answers += 1
        self._busy_pause = 0.0
        request = self._find(number)
        if request is not None and request.operation is Operation.UNSUBSCRIBE:
            self._left(request, request.symbols)
            return
        for raw_symbol in raw_symbols or (request.symbols if request else ()):
            symbol = self._symbols.get(raw_symbol)
            if symbol is None or symbol.leaving or symbol.state is SymbolState.FLOWING:
                continue
            if raw_symbols or symbol.state is not SymbolState.REFUSED:
                self._set(raw_symbol, SymbolState.ACKNOWLEDGED)
        self._close_answered()

    def unsubscribed(self, raw_symbols: Sequence[str], number: int) -> None:
        """Take the end of subscriptions, of symbols or of a whole request if it names none.

        A symbol whose subscription the exchange ended by itself is wanted again.
        """
        self._answers += 1
        recognized = tuple(raw_symbol for raw_symbol in raw_symbols if raw_symbol in self._symbols)
        request = self._find(number) or self._holding(recognized)
        if request is not None and request.operation is Operation.UNSUBSCRIBE:
            self._left(request, raw_symbols or request.symbols)
            return
        for raw_symbol in raw_symbols:
            symbol = self._symbols.get(raw_symbol)
            if symbol is not None and not symbol.leaving and symbol.state in _LIVE:
                self._set(raw_symbol, SymbolState.PENDING)

    def refused(
        self, reason: str, raw_symbols: Sequence[str], number: int, kind: Refusal, now: float, *, whole: bool
    ) -> tuple[str, ...]:
        """Take a refusal. Return the symbols that the exchange refuses for good."""
        self._answers += 1
        recognized = tuple(raw_symbol for raw_symbol in raw_symbols if raw_symbol in self._symbols)
        request = self._find(number) or self._holding(recognized)
        if request is not None and request.operation is Operation.UNSUBSCRIBE:
            if kind is Refusal.BUSY:
                self._slow_down(now)
                for raw_symbol in self._waiting(request):
                    self._symbols[raw_symbol].request = 0
                self._close_answered()
            else:
                self._left(request, recognized or request.symbols)  # it was not subscribed
            return ()
        waiting = self._waiting(request) or self._unheld(request)
        refused: tuple[str, ...] = ()
        if kind is Refusal.BUSY:
            self._slow_down(now)
            self._again(recognized or waiting)
        elif request is None and not recognized:
            self.strays += 1
        elif kind is Refusal.CAPACITY:
            self._over_capacity(reason, recognized, waiting, now)
        else:
            named = tuple(raw_symbol for raw_symbol in recognized if raw_symbol in waiting or not (whole and waiting))
            if not named and request is not None and any(name in request.symbols for name in recognized):
                self._again(waiting)  # another answer settled the symbol to blame before
            elif not named and len(waiting) > 1:
                self._halve(waiting)
            else:
                refused = self._settle(reason, named or waiting, kind)
                if whole:
                    self._again(self._waiting(request))
        self._close_answered()
        return refused

    def flowing(self, raw_symbol: str) -> None:
        """Take note that a record of a symbol arrived: the only proof of a subscription."""
        self._answers += 1
        symbol = self._symbols.get(raw_symbol)
        if symbol is not None and not symbol.leaving and symbol.state is not SymbolState.FLOWING:
            self._set(raw_symbol, SymbolState.FLOWING)
            self._close_answered()

    def expire(self, now: float) -> bool:
        """End the requests that were not answered in time: their symbols are sent again, in halves.

        Return whether there were any.
        """
        overdue = [each for each in self._requests.values() if each.open and now >= each.deadline]
        for request in overdue:
            request.open = False
            if request.operation is Operation.UNSUBSCRIBE:
                self._left(request, request.symbols)
                continue
            waiting = self._waiting(request)
            self._expired += bool(waiting)
            for raw_symbol in waiting:
                symbol = self._symbols[raw_symbol]
                symbol.state, symbol.request = SymbolState.UNANSWERED, 0
            if len(waiting) > 1:
                self._halve(waiting)
            elif waiting:
                self._not_answered(waiting[0], now)
        return bool(overdue)

    def next_request(self, now: float) -> bytes | None:
        """Return the next request, which the caller then sends; None if there is none now."""
        if now < self.send_at(now):
            return None
        leaving = [name for name, symbol in self._symbols.items() if symbol.leaving and not symbol.request]
        if leaving:
            return self._send(Operation.UNSUBSCRIBE, leaving[: self._most], now)
        batch = self._next_batch(now)
        return self._send(Operation.SUBSCRIBE, batch, now) if batch else None

    def send_at(self, now: float) -> float:
        """Return when the exchange's limits permit the next request; infinity if `expire` comes first."""
        opened = [request.deadline for request in self._requests.values() if request.open]
        if len(opened) >= self.limits.unanswered_requests:
            return due if (due := min(opened)) > now else math.inf
        while self._sent_at and self._sent_at[0] <= now - _HOUR:
            self._sent_at.popleft()
        most = self.limits.requests_per_hour
        return max(self._next_send, self._sent_at[0] + _HOUR if most and len(self._sent_at) >= most else 0.0)

    @property
    def dead(self) -> bool:
        """Whether the exchange answered nothing at all on this connection, although it was asked twice."""
        return self._expired > 1 and not self._answers

    @property
    def answered(self) -> bool:
        """Whether the exchange ever answered on this connection, or sent a record."""
        return self._answers > 0

    @property
    def sent(self) -> bool:
        """Whether every symbol was sent at least once."""
        return all(symbol.state is not SymbolState.PENDING for symbol in self._symbols.values())

    @property
    def settled(self) -> bool:
        """Whether every symbol is acknowledged, flows, or was refused."""
        return all(symbol.state in _LIVE or symbol.state is SymbolState.REFUSED for symbol in self._symbols.values())

    def state(self, raw_symbol: str) -> SymbolState:
        """Return the state of a symbol; `PENDING` if it is not known here."""
        symbol = self._symbols.get(raw_symbol)
        return symbol.state if symbol else SymbolState.PENDING

    def reason(self, raw_symbol: str) -> str:
        """Return why a symbol was refused, in the exchange's words."""
        symbol = self._symbols.get(raw_symbol)
        return symbol.reason if symbol else ""

    def __iter__(self) -> Iterator[str]:
        return iter([raw_symbol for raw_symbol, symbol in self._symbols.items() if not symbol.removed])

    def _set(self, raw_symbol: str, state: SymbolState, reason: str = "") -> None:
        symbol = self._symbols[raw_symbol]
        symbol.state, symbol.reason, symbol.request, symbol.alone, symbol.not_before = state, reason, 0, 0, 0.0
        self.stubborn.discard(raw_symbol)

    def _find(self, number: int) -> _Request | None:
        """Return the request that an answer belongs to; without a number, the only open one."""
        if number:
            return self._requests.get(number)
        opened = [request for request in self._requests.values() if request.open]
        return opened[0] if len(opened) == 1 else None

    def _holding(self, raw_symbols: Sequence[str]) -> _Request | None:
        numbers = (self._symbols[raw_symbol].request for raw_symbol in raw_symbols)
        return next((self._requests[number] for number in numbers if number), None)

    def _waiting(self, request: _Request | None) -> tuple[str, ...]:
        """Return the symbols that a request holds, and that were not answered."""
        return tuple(
            raw_symbol
            for raw_symbol in (request.symbols if request else ())
            if (symbol := self._symbols.get(raw_symbol)) and request and symbol.request == request.number
        )

    def _unheld(self, request: _Request | None) -> tuple[str, ...]:
        """Return the symbols of a request that no request holds since it was not answered in time."""
        return tuple(
            raw_symbol
            for raw_symbol in (request.symbols if request else ())
            if (symbol := self._symbols.get(raw_symbol))
            and symbol.state is SymbolState.UNANSWERED
            and not symbol.request
            and not symbol.leaving
        )

    def _close_answered(self) -> None:
        for request in self._requests.values():
            if request.open and not self._waiting(request):
                request.open = False

    def _again(self, raw_symbols: Iterable[str]) -> None:
        for raw_symbol in raw_symbols:
            symbol = self._symbols[raw_symbol]
            if symbol.state is SymbolState.SENT:
                symbol.state, symbol.request = SymbolState.PENDING, 0

    def _halve(self, raw_symbols: Sequence[str]) -> None:
        """Send symbols again in two requests, to find out which of them the exchange does not take."""
        middle = (len(raw_symbols) + 1) // 2
        self._halves += [tuple(raw_symbols[:middle]), tuple(raw_symbols[middle:])]
        self._again(raw_symbols)
        for raw_symbol in raw_symbols:
            self._symbols[raw_symbol].halved = True

    def _settle(self, reason: str, raw_symbols: Sequence[str], kind: Refusal) -> tuple[str, ...]:
        """Take symbols as refused, or as acknowledged if they were subscribed before. Return the refused ones."""
        refused = []
        for raw_symbol in raw_symbols:
            symbol = self._symbols[raw_symbol]
            if symbol.leaving or (symbol.state is SymbolState.FLOWING):
                continue
            if kind is Refusal.SUBSCRIBED:
                self._set(raw_symbol, SymbolState.ACKNOWLEDGED)
                continue
            self._set(raw_symbol, SymbolState.REFUSED, reason)
            refused.append(raw_symbol)
        return tuple(refused)

    def _over_capacity(self, reason: str, recognized: Sequence[str], waiting: Sequence[str], now: float) -> None:
        """Send smaller requests; if one symbol is too many, the connection is full."""
        if not recognized and len(waiting) > 1:
            self._most = max(1, len(waiting) // 2)
            self._again(waiting)
            return
        self.crowded = self.crowded or not recognized
        for raw_symbol in recognized or waiting:
            symbol = self._symbols[raw_symbol]
            if symbol.state is SymbolState.FLOWING:
                continue
            self._set(raw_symbol, SymbolState.UNANSWERED, reason)
            symbol.not_before = now + _UNANSWERED_PAUSE
        self._again(waiting)

    def _not_answered(self, raw_symbol: str, now: float) -> None:
        symbol = self._symbols[raw_symbol]
        symbol.alone += 1
        if symbol.alone >= _ALONE_ATTEMPTS:
            self.stubborn.add(raw_symbol)
            pause = _UNANSWERED_PAUSE * 2.0 ** min(symbol.alone - _ALONE_ATTEMPTS, 16)
            symbol.not_before = now + min(pause, _LONGEST_PAUSE)

    def _slow_down(self, now: float) -> None:
        self._busy_pause = min(_BUSY_LIMIT, max(_BUSY_PAUSE, 2 * self._busy_pause))
        self._interval = min(_SLOWEST_INTERVAL, max(2 * self._interval, self.limits.subscribe_interval))
        self._next_send = max(self._next_send, now + self._busy_pause)

    def _left(self, request: _Request, raw_symbols: Iterable[str]) -> None:
        """Take symbols as unsubscribed: they are wanted again, or forgotten."""
        for raw_symbol in raw_symbols:
            symbol = self._symbols.get(raw_symbol)
            if symbol is None or symbol.request != request.number:
                continue
            symbol.leaving, symbol.request = False, 0
            if symbol.removed:
                del self._symbols[raw_symbol]
        self._close_answered()

    def _next_batch(self, now: float) -> list[str]:
        while self._halves:
            half = self._halves.popleft()
            batch = []
            for raw_symbol in half:
                symbol = self._symbols.get(raw_symbol)
                if symbol is not None and symbol.halved:
                    symbol.halved = False
                    if self._sendable(symbol, now):
                        batch.append(raw_symbol)
            if batch:
                return batch
        sendable = [name for name, symbol in self._symbols.items() if self._sendable(symbol, now)]
        batch = [name for name in sendable if not self._symbols[name].alone]
        return batch[: self._most] or sendable[:1]  # what was not answered alone is sent last, and alone again

    @staticmethod
    def _sendable(symbol: _Symbol, now: float) -> bool:
        return symbol.state in _SENDABLE and not symbol.leaving and not symbol.halved and now >= symbol.not_before

    def _send(self, operation: Operation, batch: Sequence[str], now: float) -> bytes:
        self._number += 1
        message = self.encode(operation, batch, self._number)
        while self.limits.message_bytes and len(message) > self.limits.message_bytes and len(batch) > 1:
            batch = batch[: len(batch) // 2]  # the others stay as they are, for the next requests
            message = self.encode(operation, batch, self._number)
        request = _Request(self._number, operation, tuple(batch), now + self.answer_within)
        self._requests[self._number] = request
        for raw_symbol in batch:
            symbol = self._symbols[raw_symbol]
            symbol.request = self._number
            if operation is Operation.SUBSCRIBE:
                symbol.state = SymbolState.SENT
        self._next_send = max(self._next_send, now + self._interval)
        self._sent_at.append(now)
        self._forget()
        return message

    def _forget(self) -> None:
        if len(self._requests) > _REMEMBERED:
            oldest = next(iter(self._requests))
            if not self._requests[oldest].open:
                del self._requests[oldest]
