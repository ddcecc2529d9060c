"""A REST history that misbehaves by a seed, and a repairer that meets it under a virtual clock."""

import asyncio
import hashlib
import selectors
import time
from bisect import bisect_left, bisect_right
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from random import Random
from types import SimpleNamespace
from typing import Any

import msgspec

from k2.ingest import dead_letters
from k2.ingest.backfill.policy import Policy
from k2.ingest.backfill.repairer import Repairer
from k2.ingest.backfill.rest import RestUnreachable
from k2.ingest.exchanges import adapter, rest_answers
from k2.ingest.exchanges.base import InvalidItem, Request, SequencedRecord
from k2.ingest.sequencing.gaps import GapEvent
from k2.ingest.sequencing.ids import SequenceTracker
from k2.ingest.sequencing.ledger import GapLedger
from k2.ingest.simulator.listings import pair_of
from k2.ingest.telemetry.stats import Stats
from k2.schemas.channels import TRADES, Record
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.exchanges.spec import Pair
from k2.schemas.records.trade import Side, Trade

SYMBOLS = {"binance": "BTCUSDT", "kraken": "BTC/USD", "coinbase": "BTC-USD", "okx": "BTC-USDT"}
START = 1_700_000_000_000_000  # microseconds
STEP = 1_000_000  # between two ids
UNIT = 10**12


class _NoFiles(selectors.SelectSelector):
    """A selector that asks the system nothing: no history has sockets."""

    def select(self, timeout: float | None = None) -> list[Any]:
        """Return nothing at once."""
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer when nothing is ready.

    `limit` is in seconds of the processor.
    """

    def __init__(self, limit: float) -> None:
        super().__init__(_NoFiles())
        self.now = 1000.0
        self._deadline = time.process_time() + limit
        self._rounds = 0

    def time(self) -> float:
        """The virtual clock."""
        return self.now

    def _run_once(self) -> None:
        self._rounds += 1
        if self._rounds % 1000 == 0:
            assert time.process_time() < self._deadline, "the virtual time goes on for ever"
        if not self._ready:
            assert self._scheduled, "nothing will ever happen any more"
            self.now = max(self.now, self._scheduled[0]._when)
        super()._run_once()


def run(main: Callable[[VirtualLoop], Coroutine[Any, Any, Any]], limit: float = 20.0) -> Any:
    """Runs a coroutine on a virtual clock; `limit` is in seconds of the processor."""
    loop = VirtualLoop(limit)
    try:
        return loop.run_until_complete(main(loop))
    finally:
        loop.close()


class Log:
    """What was sent, in place of a broker."""

    keeps_evidence = True

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.gaps: list[GapEvent] = []
        self.changed = asyncio.Event()  # set with each gap event
        self.evidence: dict[str, tuple[str, bytes]] = {}
        self.answers: list[tuple[str, int]] = []  # the keys of evidence, and when each answer came
        self.dead_letters: list[tuple[bytes, str, str]] = []

    async def wait_unblocked(self) -> None:
        """Never blocked."""

    def send_acked(self, record: Record) -> Awaitable[None]:
        """Stores a record."""
        self.records.append(record)
        return asyncio.sleep(0)

    def send_gap(self, event: GapEvent) -> Awaitable[None]:
        """Stores a gap event."""
        self.gaps.append(event)
        self.changed.set()
        return asyncio.ensure_future(asyncio.sleep(0))

    def send_evidence(self, request: str, status: int, received: int, body: bytes) -> tuple[str, Awaitable[None]]:
        """Stores an answer."""
        key = hashlib.sha256(body).hexdigest()
        self.evidence[key] = (request, body)
        self.answers.append((key, received))
        return key, asyncio.sleep(0)

    def dead_letter_items(self, body: bytes, items: Sequence[InvalidItem]) -> None:
        """Keep the dead letter of a page."""
        self.dead_letters.append((body, items[0].error, dead_letters.reason_of(items)))


def trade(pair: Pair, number: int, label: str) -> SequencedRecord:
    """The trade with an id: everything about it follows from the id."""
    when = START + number * STEP
    record = Trade(
        str(number), pair.symbol, label, pair.base, pair.quote, when, (1000 + number) * UNIT, UNIT, Side.BUY, when,
        (("source", "live"),),
    )  # fmt: skip
    return SequencedRecord(record, number, number)


@cache
def row(exchange: str, pair: Pair, number: int, price: int = 1000) -> Any:
    """The same trade as a row of the exchange's history."""
    text, micros = str(price + number), START + number * STEP
    if exchange == "binance":
        return {"id": number, "price": text, "qty": "1", "time": micros // 1000, "isBuyerMaker": False}
    if exchange == "kraken":
        return [text, "1", micros // 10**6, "b", "m", "", number]
    if exchange == "coinbase":
        when = datetime.fromtimestamp(micros / 1e6, UTC).isoformat()
        return {"trade_id": number, "side": "sell", "size": "1", "price": text, "time": when}
    return {
        "instId": pair.raw_symbol, "tradeId": str(number), "px": text, "sz": "1", "side": "buy",
        "ts": str(micros // 1000),
    }  # fmt: skip


def body(exchange: str, rows: list[Any], last: int) -> bytes:
    """A page as the exchange sends it."""
    if exchange == "kraken":
        return msgspec.json.encode({"error": [], "result": {"XXBTZUSD": rows, "last": str(last)}})
    return msgspec.json.encode(rows if exchange != "okx" else {"code": "0", "msg": "", "data": rows})


FAULTS = ("lag", "empty", "cut", "html", "down", "disorder", "wrong_symbol", "hole", "ignores_cursor", "error", "extra")


@dataclass
class History:
    """The history of one symbol. `issued` says from when on (virtual seconds) an id is in it; others never are."""

    exchange: str
    pair: Pair
    issued: dict[int, float]
    random: Random
    faults: tuple[str, ...] = ()
    rate: float = 0.0  # of answers with a fault
    faults_until: float = 0.0
    floor: int = 0
    limit: int = 20
    requests: int = 0
    answers: Any = field(init=False)

    def __post_init__(self) -> None:
        self.answers = rest_answers(self.exchange)
        self._ordered = sorted((number, since) for number, since in self.issued.items() if number >= self.floor)

    async def fetch_once(self, request: Request, read: Callable[[bytes], Any]) -> Any:
        """Answers a request, after a while."""
        self.requests += 1
        await asyncio.sleep(0.05)
        now = asyncio.get_running_loop().time()
        fault = ""
        if self.faults and now < self.faults_until and self.random.random() < self.rate:
            fault = self.random.choice(self.faults)
        if fault == "down":
            raise RestUnreachable("connection reset")
        if fault == "html":
            return read(b"<!DOCTYPE html><title>502: Bad gateway</title>")
        if fault == "error":
            self.answers.check(b'{"code":-1001,"msg":"Internal error"}', 400)
        raw = self._page(request, fault, now)
        return read(raw[: len(raw) // 2] if fault == "cut" else raw)

    def _page(self, request: Request, fault: str, now: float) -> bytes:
        numbers = [number for number, since in self._ordered if since <= now]
        if fault == "lag":
            numbers = numbers[: -self.random.randrange(1, 30)]
        params = {} if fault == "ignores_cursor" else request.params
        page = self._selected(numbers, params)
        if fault == "hole" and len(page) > 3:
            gone = self.random.randrange(1, len(page) - 1)
            page = page[:gone] + page[gone + self.random.randrange(1, 4) :]
        rows = [row(self.exchange, self.pair, number) for number in page]
        if fault == "wrong_symbol":
            rows = [row(self.exchange, self.pair, number, price=7000) for number in page]
            if self.exchange == "okx":
                rows = [entry | {"instId": "ETH-USDT"} for entry in rows]
        if fault == "empty":
            rows = []
        if fault == "disorder":
            self.random.shuffle(rows)
        if fault == "extra":
            rows = [[*entry, "x", 1] if isinstance(entry, list) else entry | {"zz": [1]} for entry in rows]
        last = (START + page[-1] * STEP) * 1000 if page else int(request.params.get("since", "1"))
        return body(self.exchange, rows, last)

    def _selected(self, numbers: list[int], params: Any) -> list[int]:
        if "fromId" in params:
            first = bisect_left(numbers, int(params["fromId"]))
            return numbers[first : first + min(self.limit, int(params["limit"]))]
        if "since" in params:
            first = bisect_right(numbers, (int(params["since"]) // 1000 - START) // STEP)
            return numbers[first : first + self.limit]
        if "after" in params:
            older = numbers[: bisect_left(numbers, int(params["after"]))]
            return older[-min(self.limit, int(params["limit"])) :][::-1]
        return numbers[-self.limit :][:: 1 if self.exchange in {"binance", "kraken"} else -1]


class Ingest:
    """A repairer with all that it needs, in front of a history."""

    def __init__(self, loop: VirtualLoop, history: History, policy: Policy | None = None, age: float = 3600.0) -> None:
        exchange = history.exchange
        self.loop, self.history, self.log, self.stats = loop, history, Log(), Stats(0.0)
        self.pair = history.pair
        self.label = EXCHANGES[exchange].label
        self.tracker = SequenceTracker()
        began, newest = loop.time(), START + max(history.issued) * STEP + int(age * 1e6)

        def now() -> int:
            return newest + int((loop.time() - began) * 1e6)

        self.now = now
        self.ledger = GapLedger("f", "trades", self.label, self.log, self.stats, rules="r", now=now)
        self.repairer = Repairer(
            adapter(exchange, TRADES, [self.pair]), history, policy or Policy(enabled=True, max_age=7 * 86_400.0),
            self.tracker, self.ledger, SimpleNamespace(dead_letter_items=self.log.dead_letter_items), self.log,
            self.stats, now=now,
            random=history.random,
        )  # fmt: skip

    def receive(self, number: int) -> Any:
        """Takes a trade of the websocket; opens the gap before it."""
        return self.take(trade(self.pair, number, self.label))

    def take(self, item: SequencedRecord) -> Any:
        """Takes a record of the websocket; opens the gap before it."""
        finding = self.tracker.observe(self.pair, item)
        self.log.records.append(item.record)
        if gap := getattr(finding, "gap", None):
            self.ledger.open(gap)
        return finding

    async def until(self, condition: Callable[[], Any], seconds: float) -> bool:
        """Runs the repairer until a condition on gaps holds, or for some virtual seconds. Returns whether it held."""
        running = self.loop.create_task(self.repairer.run())
        end = self.loop.time() + seconds
        while not (done := bool(condition())) and self.loop.time() < end and not running.done():
            self.log.changed.clear()
            changed = self.loop.create_task(self.log.changed.wait())
            timeout = end - self.loop.time()
            await asyncio.wait({running, changed}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            changed.cancel()
        if running.done():
            running.result()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return done

    @property
    def closed(self) -> bool:
        """Whether no gap is open."""
        return not self.stats.gaps_open

    @property
    def stored(self) -> list[int]:
        """The ids that were sent."""
        return sorted(int(record.record_id) for record in self.log.records)

    @property
    def missing(self) -> set[int]:
        """The ids that the last events of all gaps leave missing."""
        newest = {event.gap_id: event for event in self.log.gaps}
        ranges = [ids for event in newest.values() for ids in event.missing]
        return {number for first, last in ranges for number in range(first, last + 1)}


def made(exchange: str, issued: dict[int, float], seed: int = 0, **options: Any) -> History:
    """A history of the exchange's usual symbol."""
    return History(exchange, pair_of(EXCHANGES[exchange], SYMBOLS[exchange]), issued, Random(seed), **options)
