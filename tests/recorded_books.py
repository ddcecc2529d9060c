"""Recorded order books of Binance, rebuilt from the raw frames as the exchange documents it; nothing of K2 in here."""

import gzip
import json
from bisect import bisect_right
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

Side = dict[Decimal, Decimal]  # quantity by price
Frame = tuple[int, bytes]  # time of arrival in UTC microseconds, and what arrived
COUNTS = {"BTCUSDT": 564, "ETHUSDT": 577}  # of `Recording.quotes`


@dataclass
class Recording:
    """One symbol's frames of the order book and of the best bid and ask, in the order of arrival."""

    symbol: str
    changes: list[Frame] = field(default_factory=list)
    states: list[Frame] = field(default_factory=list)  # answers of the REST API
    quotes: list[Frame] = field(default_factory=list)  # those whose number is that of a change's last update

    def instants(self, count: int, seed: int) -> list[datetime]:
        """Return random instants, ascending, at which the state is known."""
        times = [_time(_data(frame)["E"]) for arrived, frame in self.changes if arrived > self.states[0][0]]
        first, last = times[0], times[-1] + timedelta(seconds=1)
        rng = Random(seed)
        return sorted(first + timedelta(microseconds=rng.randrange((last - first) // _MICRO)) for _ in range(count))

    def books(self, instants: list[datetime]) -> list[tuple[Side, Side]]:
        """Return bids and asks at ascending instants: the REST API's state, and the later changes up to then."""
        ((_, answer),) = self.states
        state = json.loads(answer)
        bids, asks = _changed({}, state["bids"]), _changed({}, state["asks"])
        later = [data for _, frame in self.changes if (data := _data(frame))["u"] > state["lastUpdateId"]]
        times, done, books = [_time(data["E"]) for data in later], 0, []
        for instant in instants:
            reached = bisect_right(times, instant)
            for data in later[done:reached]:
                _changed(bids, data["b"])
                _changed(asks, data["a"])
            done = reached
            books.append((dict(bids), dict(asks)))
        return books

    def quotes_of_changes(self) -> dict[int, tuple[datetime, tuple[Decimal, ...]]]:
        """Return the quotes by number: the time of their change, bid, its quantity, ask, its quantity."""
        times = {data["u"]: _time(data["E"]) for _, frame in self.changes if (data := _data(frame))}
        quotes = [_data(frame) for _, frame in self.quotes]
        return {quote["u"]: (times[quote["u"]], tuple(Decimal(quote[name]) for name in "bBaA")) for quote in quotes}


_MICRO = timedelta(microseconds=1)


def recording(captures: Path, symbol: str) -> Recording:
    """Read the recording of a symbol."""
    symbol_frames = Recording(symbol)
    with gzip.open(captures / f"binance_spot_{symbol.lower()}.gz", "rb") as lines:
        for line in lines:
            nanoseconds, frame = line.rstrip().split(b" ", 1)
            entry = int(nanoseconds) // 1000, frame
            if frame.startswith(b'{"lastUpdateId"'):
                symbol_frames.states.append(entry)
            elif b"@depth" in frame[:60]:
                symbol_frames.changes.append(entry)
            elif b"@bookTicker" in frame[:60]:
                symbol_frames.quotes.append(entry)
    numbers = {_data(frame)["u"] for _, frame in symbol_frames.changes}
    symbol_frames.quotes = [entry for entry in symbol_frames.quotes if _data(entry[1])["u"] in numbers]
    return symbol_frames


def _data(frame: bytes) -> Any:
    return json.loads(frame)["data"]


def _time(millis: int) -> datetime:
    return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=millis)


def _changed(side: Side, levels: list[list[str]]) -> Side:
    for price, quantity in levels:
        side[Decimal(price)] = Decimal(quantity)
        if not side[Decimal(price)]:
            del side[Decimal(price)]
    return side
