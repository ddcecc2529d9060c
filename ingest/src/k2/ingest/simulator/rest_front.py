"""What stands between a REST request and the history: limits, bans, failures and lies.

Pure: the caller passes the clocks.
"""

import random
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import cycle
from typing import Final

from k2.ingest.exchanges.base_venue import RestReply, Venue
from k2.ingest.simulator.distortion import with_extra_fields
from k2.ingest.simulator.fault_injector import FaultInjector
from k2.ingest.simulator.history import History
from k2.ingest.simulator.market import SimTrade

LIES: Final = ("empty", "omit", "disorder", "other-symbol")
_HTML: Final = (
    b"<!DOCTYPE html>\n<html><head><title>520: Web server is returning an unknown error</title></head></html>"
)
_DAY: Final = 86_400.0


class Meter:
    """The weight that an address used, in fixed windows or as a bucket that refills, and its bans."""

    def __init__(self, venue: Venue, now: float) -> None:
        self.capacity = venue.rest_burst
        self._venue = venue
        self._used, self._at = 0.0, now
        self._refused = self._bans = 0
        self.banned_until = 0.0

    @property
    def used(self) -> int:
        """The weight used so far."""
        return int(self._used)

    def add(self, weight: float) -> None:
        """Count the weight of another client of the address; the exchange does not count what it refuses."""
        self._used = min(self.capacity, self._used + weight)

    def wait(self, weight: float, now: float) -> float:
        """Count a request. Return the seconds after which it would be accepted; 0 if it is."""
        window, rate = self._venue.rest_window, self._venue.rest_rate
        if not window:
            self._used = max(0.0, self._used - (now - self._at) * rate)
            self._at = now
        elif now // window != self._at // window:
            self._used, self._at, self._refused = 0.0, now, 0
        if self._used + weight <= self.capacity:
            self._used += weight
            self._refused = 0
            return 0.0
        self._refused += 1
        if self._venue.ban_after and self._refused >= self._venue.ban_after:
            self.ban(min(_DAY, self._venue.ban_seconds * 2.0**self._bans), now)
            self._bans += 1
        return window - now % window if window else (self._used + weight - self.capacity) / rate

    def ban(self, seconds: float, now: float) -> None:
        """Ban the address."""
        self.banned_until = now + seconds


class RestFront:
    """Answers to REST requests. `lag` is in seconds."""

    def __init__(self, venue: Venue, history: History, faults: FaultInjector, now: float) -> None:
        self.meter = Meter(venue, now)
        self.lag = 0.0
        self.statuses: list[tuple[int, str]] = []  # that replace the next answers, and parts of their paths
        self.counts = {"rest": 0, "limited": 0, "banned": 0, "failed": 0, "lies": 0}
        self._venue, self._history, self._faults = venue, history, faults
        self._passing = cycle(venue.passing_errors())

    def answer(self, path: str, query: Mapping[str, str], exchange_time: int, now: float, elapsed: float) -> RestReply:
        """Return the answer to a request.

        `exchange_time` is in UTC microseconds, `now` a clock in seconds, `elapsed` the seconds since the opening.
        """
        self.counts["rest"] += 1
        wait = self.meter.banned_until - now
        if wait > 0:
            self.counts["banned"] += 1
            return self._venue.banned(wait, exchange_time)
        if (seconds := self.meter.wait(self._venue.weight(path), now)) > 0:
            self.counts["limited"] += 1
            reply = self._venue.limited(seconds)
        else:
            reply = self._failure(path, elapsed) or self._served(path, query, exchange_time, elapsed)
        return replace(reply, headers={**reply.headers, **self._venue.rest_headers(self.meter.used)})

    def _failure(self, path: str, elapsed: float) -> RestReply | None:
        """Return the failure that a fault asks for."""
        take, reply = self._faults.take, None
        status = next((entry for entry in self.statuses if entry[1] in path), None)
        if take("ratelimit", 1, path):
            return self._venue.limited(1.0)
        if take("unavailable", 1, path):
            reply = RestReply(b"{}", 503, {"Retry-After": "1"})
        elif status:
            self.statuses.remove(status)
            reply = RestReply(b"", status[0])
        elif take("html", 1, path):
            reply = RestReply(_HTML, 200, {"Content-Type": "text/html"})
        elif take("passing", 1, path) or self._faults.active("maintenance", elapsed):
            reply = next(self._passing)
        self.counts["failed"] += reply is not None
        return reply

    def _served(self, path: str, query: Mapping[str, str], exchange_time: int, elapsed: float) -> RestReply:
        until = exchange_time - int(self.lag * 1e6) if self.lag else None
        view = _View(self._history, until, lambda trades, raw_symbol: self._distorted(path, trades, raw_symbol))
        reply = self._venue.rest(path, query, view, exchange_time)
        if self._faults.active("extra", elapsed):
            reply = replace(reply, body=with_extra_fields(reply.body))
        return replace(reply, cut=self._faults.take("cut-body", 1, path))

    def _distorted(self, path: str, trades: Sequence[SimTrade], raw_symbol: str) -> Sequence[SimTrade]:
        """Return rows as a lie has them, if one is due."""
        if not trades:
            return trades
        kind = next((kind for kind in LIES if self._faults.take(kind, 1, path)), "")
        self.counts["lies"] += bool(kind)
        match kind:
            case "empty":
                return []
            case "omit":
                return [trade for place, trade in enumerate(trades) if place % 5 != len(trades) // 2 % 5]
            case "disorder":
                return random.Random(len(trades)).sample(trades, len(trades))
            case "other-symbol":
                others = [name for name in self._history.trades if name != raw_symbol]
                return self._history.newest(others[0], len(trades)) if others else trades
        return trades


class _View(History):
    """The history as one REST request sees it: up to a time in UTC microseconds, and distorted."""

    def __init__(
        self, history: History, until: int | None, distort: Callable[[Sequence[SimTrade], str], Sequence[SimTrade]]
    ) -> None:
        super().__init__()
        self._history, self._limit, self._distort = history, until, distort
        self.books = history.books

    def newest(self, raw_symbol: str, count: int) -> Sequence[SimTrade]:
        """Return the newest trades, oldest first."""
        trades = self._history.trades.get(raw_symbol, [])
        end = len(trades) if self._limit is None else bisect_right(trades, self._limit, key=lambda trade: trade.time)
        return self._distort(trades[max(0, end - count) : end], raw_symbol)

    def from_id(self, raw_symbol: str, first: int, count: int) -> Sequence[SimTrade]:
        """Return trades from id `first` on, oldest first."""
        return self._seen(self._history.from_id(raw_symbol, first, count), raw_symbol)

    def before_id(self, raw_symbol: str, number: int, count: int) -> Sequence[SimTrade]:
        """Return trades below id `number`, oldest first."""
        return self._seen(self._history.before_id(raw_symbol, number, count), raw_symbol)

    def after_time(self, raw_symbol: str, time: int, count: int) -> Sequence[SimTrade]:
        """Return trades after `time` (UTC microseconds), oldest first."""
        return self._seen(self._history.after_time(raw_symbol, time, count), raw_symbol)

    def _seen(self, trades: Sequence[SimTrade], raw_symbol: str) -> Sequence[SimTrade]:
        limit = self._limit
        return self._distort(trades if limit is None else [t for t in trades if t.time <= limit], raw_symbol)
