"""The verdict on an ingest: what the venue emitted, against what was recorded, dead-lettered and listed as a gap."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import accumulate
from typing import Any

from k2.ingest.simulator.listings import Status
from k2.ingest.simulator.market import SimTrade
from k2.ingest.simulator.server import Simulator
from k2.schemas.content import ID_CONFLICT
from k2.schemas.states import GapState
from k2.schemas.values import to_micros

_ACCOUNTED = frozenset({GapState.REPAIRED, GapState.NEVER_ISSUED})


class Judge:
    """Compares a venue and a shard, symbol by symbol, from the first trade that was recorded."""

    def __init__(self, simulator: Simulator, ingest: Any) -> None:
        self.simulator, self.ingest = simulator, ingest
        self.until = 0
        self.reasons: Counter[str] = Counter()  # why trades are not recorded that are listed as missing, and how many

    async def stop(self, within: float, done: Callable[[], object]) -> None:
        """Wait until something holds and later trades came, at most for some seconds, then stop the ingest.

        The verdict is on the trades up to now: under load, younger ones may be on their way for long.
        """
        self.until = self.simulator._now
        deadline = asyncio.get_running_loop().time() + within
        while not (done() and self._later_trades()) and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110 - over sockets
            await asyncio.sleep(0.3)
        assert await self.ingest.stop() == 0, "records were not delivered"

    def _later_trades(self) -> bool:
        """Whether a later trade of each symbol that trades was recorded."""
        stored = self.ingest.stored()
        later = {record["symbol"] for record in stored if to_micros(record["timestamp"]) > self.until}
        listings = self.simulator.venue.listings
        return all(
            pair.symbol in later
            for pair in self.ingest.pairs
            if (item := listings.get(pair.raw_symbol)) and item.status is Status.TRADING
        )

    def findings(self) -> list[str]:
        """Everything that is wrong."""
        stored, dead_letters, conflicts = self.ingest.stored(), self._dead_letters(), self._dead_letters(ID_CONFLICT)
        findings: list[str] = []
        for pair in self.ingest.pairs:
            rows = [record for record in stored if record["symbol"] == pair.symbol]
            findings += self._symbol(pair, rows, dead_letters, conflicts)
        return findings

    def _dead_letters(self, kind: str = "") -> str:
        letters = self.ingest.dead_letters()
        return "\n".join(frame.decode(errors="replace") for frame, error in letters if kind in {"", error})

    def _symbol(self, pair: Any, rows: Sequence[dict[str, Any]], dead_letters: str, conflicts: str) -> list[str]:
        venue = self.simulator.venue
        emitted = {venue.trade_id(trade): trade for trade in self.simulator.history.trades.get(pair.raw_symbol, ())}
        recorded = {row["trade_id"] for row in rows}
        if not recorded:
            item = venue.listings.get(pair.raw_symbol)
            trades = item is not None and item.status is Status.TRADING
            unsaid = trades and pair.raw_symbol not in self.ingest.stats.refused
            return [f"{pair.symbol}: nothing was recorded, and nothing says why"] if unsaid else []
        findings = [f"{pair.symbol}: {number} was never emitted" for number in sorted(recorded - emitted.keys())[:3]]
        order = list(emitted)
        begin = min(order.index(number) for number in recorded & emitted.keys())
        settled = [number for number in order[begin:] if emitted[number].time <= self.until]
        listed = self._listed(pair.symbol, emitted, dead_letters)
        self.reasons.update(listed[number] for number in settled if number not in recorded and number in listed)
        missing = [number for number in settled if number not in recorded and number not in listed]
        if missing:
            findings.append(
                f"{pair.symbol}: {len(missing)} of {len(settled)} are missing and not listed: "
                f"places {sorted(settled.index(number) for number in missing)[:20]}"
            )
        for row in rows:
            trade = emitted.get(row["trade_id"])
            if trade and _content(trade) != (row["price"] * 10**12, row["quantity"] * 10**12, row["side"]):
                if row["trade_id"] in conflicts:  # the wrong one came first; nothing tells which is right
                    self.reasons[f"{pair.symbol}: recorded with other content, and a dead letter has the true one"] += 1
                else:
                    findings.append(f"{pair.symbol}: {row['trade_id']} was recorded with other content")
        ids = Counter(row["message_id"] for row in rows if row["vendor_data"]["source"] == "backfill")
        return findings + [
            f"{pair.symbol}: {key} was repaired {count} times" for key, count in ids.items() if count > 1
        ]

    def _listed(self, symbol: str, emitted: dict[str, SimTrade], dead_letters: str) -> dict[str, str]:
        """Return the ids in gaps that are open or given up, and those of dead letters, each with the reason."""
        newest = {event.gap_id: event for event in self.ingest.gap_events() if event.symbol == symbol}
        listed: dict[str, str] = {}
        for event in newest.values():
            if event.state not in _ACCOUNTED:
                reason = f"{symbol}: gap {event.state.value} {event.reason} {event.resolution}".rstrip()
                # A late trade has an earlier time than when it was reported.
                came = accumulate((trade.time for trade in emitted.values()), max)
                listed |= {
                    number: reason
                    for (number, trade), time in zip(emitted.items(), came, strict=True)
                    if _covers(event, trade, time)
                }
        for trade in self.simulator.spoiled:
            number = self.simulator.venue.trade_id(trade)
            if trade.pair.symbol == symbol and number in dead_letters:
                listed[number] = f"{symbol}: dead letter"
        return listed


def _covers(event: Any, trade: SimTrade, came: int) -> bool:
    if event.first_id:
        return int(event.first_id) <= trade.id <= int(event.last_id)
    since, until = (to_micros(datetime.fromisoformat(text)) for text in (event.since, event.until))
    return since <= came <= until


def _content(trade: SimTrade) -> tuple[int, int, str]:
    return trade.price, trade.quantity, "BUY" if trade.buy else "SELL"


def states(ingest: Any) -> dict[str, str]:
    """The state of each symbol, by its normalised name."""
    return {symbol: state.value for symbol, (state, _) in ingest.stats.symbol_states.items()}
