"""Recorded quotes and order book messages of Binance spot, as records of the channels."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from bench.harness.processes import BenchFailed
from bench.workloads.frames import FILES, SYMBOLS
from k2.ingest.books.records import BookRecords, Ids
from k2.ingest.exchanges.base import SequencedRecord
from k2.ingest.exchanges.binance.quotes import BinanceQuotes
from k2.ingest.simulator.capture import frames
from k2.ingest.simulator.listings import pair_of
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.exchanges.spec import Pair
from k2.schemas.records.book import BookUpdate
from k2.schemas.records.quote import Quote
from k2.schemas.states import Verdict

_SPEC: Final = EXCHANGES["binance"]


def quotes() -> list[Quote]:
    """Return the recorded quotes, in the order of their receipt, as the ingest parses them. Raises `BenchFailed`."""
    pairs = [pair_of(_SPEC, symbol) for symbol in SYMBOLS]
    adapter = BinanceQuotes(pairs)
    return [
        event.record
        for received, _, frame in _frames(pairs)
        if b"@bookTicker" in frame[:60]
        for event in adapter.parse(frame, received)
        if isinstance(event, SequencedRecord) and isinstance(event.record, Quote)
    ]


def updates() -> list[BookUpdate]:
    """Return the recorded changes and snapshots of books, in the order of their receipt. Raises `BenchFailed`."""
    pairs, records = [pair_of(_SPEC, symbol) for symbol in SYMBOLS], BookRecords(_SPEC.label)
    return [
        update
        for received, pair, frame in _frames(pairs)
        if b"@bookTicker" not in frame[:60]
        for update in _updates(records, pair, json.loads(frame), received)
    ]


def _updates(records: BookRecords, pair: Pair, message: Any, received: int) -> list[BookUpdate]:
    if "lastUpdateId" in message:
        levels = records.message(pair.symbol, message["bids"], message["asks"])
        return records.snapshot(pair, levels, Ids(last=message["lastUpdateId"]), Verdict.VERIFIED, received, None)
    data = message.get("data", {})
    if data.get("e") != "depthUpdate":
        return []
    levels = records.message(pair.symbol, data["b"], data["a"])
    ids, time = Ids(data["U"], data["u"]), data["E"] * 1000
    return [records.delta(pair, levels, ids, Verdict.VERIFIED, received, time)]


def _frames(pairs: list[Pair]) -> Iterator[tuple[int, Pair, bytes]]:
    """Yield time of receipt in microseconds, pair and frame of both recordings, in the order of receipt."""
    folder = Path(os.environ.get("K2_CAPTURES", "/nonexistent"))
    files = [folder / name for name in FILES]
    if not all(file.exists() for file in files):
        raise BenchFailed("K2_CAPTURES names no folder with the recorded frames of Binance")
    recorded = [(at, pair, frame) for file, pair in zip(files, pairs, strict=True) for at, frame in frames(file)]
    for at, pair, frame in sorted(recorded, key=lambda one: one[0]):
        yield int(at * 1e6), pair, frame
