"""Frames of recorded Binance trades, as the stream that each engine subscribes to."""

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
from k2.ingest.simulator.listings import pair_of
from k2.ingest.simulator.market import Market
from k2.schemas.exchanges.registry import EXCHANGES

SYMBOLS: Final = ("BTCUSDT", "ETHUSDT")
FILES: Final = ("binance_spot_btcusdt.gz", "binance_spot_ethusdt.gz")
_TRADE: Final = re.compile(
    rb'\{"stream":"\w+@trade","data":(\{"e":"trade","E":\d+,"s":"(\w+)","t":)(\d+)(,"p":"[\d.]+","q":"[\d.]+",.*\})\}'
)
_SIMULATED_SECONDS: Final = 346
_SIMULATED_RATE: Final = 46.0


@dataclass(frozen=True, slots=True)
class RecordedTrade:
    """One trade: the time of its receipt in seconds, and its JSON around the id."""

    at: float
    symbol: str
    head: bytes
    tail: bytes


@dataclass(frozen=True, slots=True)
class Recording:
    """Trades in the order of their receipt."""

    trades: Sequence[RecordedTrade]
    origin: str

    @property
    def seconds(self) -> float:
        """The length of the recording."""
        return self.trades[-1].at - self.trades[0].at

    def busiest(self, seconds: float, lead: float = 0.0) -> "Recording":
        """Return the busiest time range of so many seconds, with `lead` seconds before it."""
        times = [trade.at for trade in self.trades]
        ends = [bisect_left(times, at + seconds) for at in times]
        first = max(range(len(times)), key=lambda index: ends[index] - index)
        return Recording(self.trades[bisect_left(times, times[first] - lead) : ends[first]], self.origin)

    def densest(self, seconds: float) -> int:
        """Return the highest number of trades within so many seconds."""
        times = [trade.at for trade in self.trades]
        return max(bisect_left(times, at + seconds) - index for index, at in enumerate(times))


def load() -> Recording:
    """Load the recording from the folder K2_CAPTURES; without it, simulate a market of the same size."""
    folder = Path(os.environ.get("K2_CAPTURES", "/nonexistent"))
    files = [folder / name for name in FILES]
    if all(file.exists() for file in files):
        trades = [trade for file in files for trade in _trades(frames(file))]
        origin = "trades of Binance spot recorded in 2024 (BTCUSDT and ETHUSDT)"
    else:
        trades = list(_trades(_simulated()))
        origin = "a simulated market, because K2_CAPTURES is not set to the folder with the recordings"
    return Recording(sorted(trades, key=lambda trade: trade.at), origin)


def numbered(
    recording: Recording, count: int, *, aggregated: bool, first_id: int = 1_000_001
) -> Iterator[tuple[float, str, int, bytes]]:
    """Yield time, symbol, id and frame of `count` trades with unique ids; the recording repeats when it ends.

    With `aggregated` each trade is an aggTrade of one fill, the only stream that cryptofeed subscribes to.
    """
    ids: Counter[str] = Counter(dict.fromkeys(SYMBOLS, first_id - 1))
    start, length = recording.trades[0].at, recording.seconds
    for place in range(count):
        lap, index = divmod(place, len(recording.trades))
        trade = recording.trades[index]
        ids[trade.symbol] += 1
        yield (
            trade.at - start + lap * length,
            trade.symbol,
            ids[trade.symbol],
            _frame(trade, ids[trade.symbol], aggregated),
        )


def _frame(trade: RecordedTrade, number: int, aggregated: bool) -> bytes:
    stream = trade.symbol.lower().encode()
    if not aggregated:
        return b'{"stream":"%b@trade","data":%b%d%b}' % (stream, trade.head, number, trade.tail)
    head = trade.head.replace(b'"e":"trade"', b'"e":"aggTrade"').removesuffix(b'"t":') + b'"a":'
    tail = trade.tail.replace(b',"T":', b',"f":%d,"l":%d,"T":' % (number, number))
    return b'{"stream":"%b@aggTrade","data":%b%d%b}' % (stream, head, number, tail)


def _trades(recorded: Iterator[tuple[float, bytes]]) -> Iterator[RecordedTrade]:
    for at, frame in recorded:
        if match := _TRADE.fullmatch(frame):
            yield RecordedTrade(at, match[2].decode(), match[1], match[4])


def _simulated() -> Iterator[tuple[float, bytes]]:
    pairs = [pair_of(EXCHANGES["binance"], raw_symbol) for raw_symbol in SYMBOLS]
    venue = BinanceVenue(pairs)
    for pair in pairs:
        for trade in Market(pair, "bench", _SIMULATED_RATE / 2, 0).until(_SIMULATED_SECONDS * 1_000_000):
            for frame in venue.frames([trade]):
                yield trade.time / 1e6, frame.encode()
