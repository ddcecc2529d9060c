"""Binance's recorded trades as frames, in the spelling that each contestant subscribes to."""

import os
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from k2.ingest.exchanges.binance.venue import BinanceVenue
from k2.ingest.simulator.capture import frames
from k2.ingest.simulator.market import Market
from k2.schemas.exchanges.spec import EXCHANGES

SYMBOLS: Final = ("BTCUSDT", "ETHUSDT")
_FILES: Final = ("binance_spot_btcusdt.gz", "binance_spot_ethusdt.gz")
_TRADE: Final = re.compile(
    rb'\{"stream":"\w+@trade","data":(\{"e":"trade","E":\d+,"s":"(\w+)","t":)(\d+)(,"p":"[\d.]+","q":"[\d.]+",.*\})\}'
)
_SIMULATED_SECONDS: Final = 346
_SIMULATED_RATE: Final = 46.0


@dataclass(frozen=True, slots=True)
class Taped:
    """One trade: when it was received, in seconds, and its JSON around the id."""

    at: float
    symbol: str
    head: bytes
    tail: bytes


@dataclass(frozen=True, slots=True)
class Tape:
    """Trades in the order in which they were received."""

    trades: Sequence[Taped]
    origin: str

    @property
    def seconds(self) -> float:
        """How long the recording lasts."""
        return self.trades[-1].at - self.trades[0].at

    def busiest(self, seconds: float, lead: float = 0.0) -> "Tape":
        """The stretch of so many seconds that holds the most trades, and `lead` seconds before it."""
        times = [trade.at for trade in self.trades]
        ends = [bisect_left(times, at + seconds) for at in times]
        first = max(range(len(times)), key=lambda index: ends[index] - index)
        return Tape(self.trades[bisect_left(times, times[first] - lead) : ends[first]], self.origin)

    def densest(self, seconds: float) -> int:
        """The most trades within so short a time."""
        times = [trade.at for trade in self.trades]
        return max(bisect_left(times, at + seconds) - index for index, at in enumerate(times))


def load() -> Tape:
    """The recording in the folder that K2_CAPTURES names; without one, a simulated market of the same size."""
    folder = Path(os.environ.get("K2_CAPTURES", "/nonexistent"))
    files = [folder / name for name in _FILES]
    if all(file.exists() for file in files):
        found = [trade for file in files for trade in _taped(frames(file))]
        origin = "trades of Binance spot recorded in 2024 (BTCUSDT and ETHUSDT)"
    else:
        found = list(_taped(_simulated()))
        origin = "a simulated market, because K2_CAPTURES names no folder with the recordings"
    return Tape(sorted(found, key=lambda trade: trade.at), origin)


def numbered(tape: Tape, count: int, *, aggregated: bool) -> Iterator[tuple[float, str, int, bytes]]:
    """`count` frames with ids that never repeat, the tape beginning anew when it ends: time, symbol, id, frame.

    `aggregated` spells each trade as an aggTrade of one fill, the only kind that cryptofeed subscribes to.
    """
    ids: Counter[str] = Counter(dict.fromkeys(SYMBOLS, 1_000_000))
    start, length = tape.trades[0].at, tape.seconds
    for place in range(count):
        lap, index = divmod(place, len(tape.trades))
        trade = tape.trades[index]
        ids[trade.symbol] += 1
        yield (
            trade.at - start + lap * length,
            trade.symbol,
            ids[trade.symbol],
            _frame(trade, ids[trade.symbol], aggregated),
        )


def _frame(trade: Taped, number: int, aggregated: bool) -> bytes:
    stream = trade.symbol.lower().encode()
    if not aggregated:
        return b'{"stream":"%b@trade","data":%b%d%b}' % (stream, trade.head, number, trade.tail)
    head = trade.head.replace(b'"e":"trade"', b'"e":"aggTrade"').removesuffix(b'"t":') + b'"a":'
    tail = trade.tail.replace(b',"T":', b',"f":%d,"l":%d,"T":' % (number, number))
    return b'{"stream":"%b@aggTrade","data":%b%d%b}' % (stream, head, number, tail)


def _taped(found: Iterator[tuple[float, bytes]]) -> Iterator[Taped]:
    for at, frame in found:
        if match := _TRADE.fullmatch(frame):
            yield Taped(at, match[2].decode(), match[1], match[4])


def _simulated() -> Iterator[tuple[float, bytes]]:
    pairs = [EXCHANGES["binance"].pair(native) for native in SYMBOLS]
    venue = BinanceVenue(pairs)
    for pair in pairs:
        for deal in Market(pair, "bench", _SIMULATED_RATE / 2, 0).until(_SIMULATED_SECONDS * 1_000_000):
            for frame in venue.frames([deal]):
                yield deal.time / 1e6, frame.encode()
