"""What must hold in every history, judged by what the exchange knows and the log has."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from k2.ingest.sequencing.gaps import GapEvent, decode
from k2.ingest.simulator.market import SimTrade
from k2.schemas.codecs import avro, wire
from k2.schemas.states import GapReason, GapState, SymbolState
from k2.schemas.values import to_micros
from tests.simulation.exchange import Exchange, Market, Wire
from tests.simulation.log import Log, Message

_UNIT = Decimal(10**12)
_RECONNECT = 1.0  # seconds that the first reconnect may cost
_UNSAID = 150.0  # seconds for which a symbol may not flow until the status has to say so
_SETTLED = 5.0  # seconds; younger trades may be on their way
_STORED = 10.0  # seconds in which what was read is in the log
_ROWS = 60  # of a history that has only the newest trades
_SAYS_SO = frozenset({SymbolState.QUIET, SymbolState.SILENT, SymbolState.UNANSWERED, SymbolState.REFUSED})


class Judge:
    """Takes note of the truth and of the log, and collects what is wrong in `violations`."""

    def __init__(self, clock: Callable[[], float], trace: Callable[[str], None]) -> None:
        self.violations: list[str] = []
        self.exchange: Exchange
        self.log: Log
        self.may_be_silent = False  # whether a fault of this history keeps data back
        self.truth: dict[str, dict[str, SimTrade]] = {}  # by symbol and id on the wire
        self.missing: dict[str, dict[str, SimTrade]] = {}  # and not in the log
        self.begun: set[str] = set()  # symbols with a record in the log
        self.gaps: dict[str, GapEvent] = {}
        self.wanted: Callable[[], Sequence[str]] = tuple  # the raw symbols that the feed wants now
        self.handed_at: dict[tuple[Any, str], float] = {}  # by process and symbol
        self.refused_symbols: set[str] = set()
        self.delisted: set[str] = set()  # symbols that the exchange did not know for a while
        self.removed_at: dict[str, float] = {}  # when the feed last wanted a symbol no more
        self.disturbed_at = 0.0  # when something last kept the ingest from connecting or subscribing
        self._emitted_at: dict[tuple[str, str], float] = {}
        self._traded_at: dict[tuple[str, int], int] = {}  # by symbol and id; of a late trade, the newest time before it
        self._newest_time: dict[str, int] = {}
        self._left_history: dict[tuple[str, str], float] = {}
        self._orders: dict[str, list[str]] = {}
        self._spoiled: set[tuple[str, str]] = set()
        self._contents: dict[tuple[str, str], tuple[Any, ...]] = {}
        self._read: deque[tuple[float, Wire, str, Sequence[SimTrade]]] = deque()  # younger than `_STORED`
        self._held_up_at: dict[Any, float] = {}  # by process
        self._lost_at: dict[Any, float] = {}  # by process
        self._unsaid_since: dict[tuple[Any, str], float] = {}
        self._made_up: dict[tuple[Any, ...], set[str]] = {}  # ids that the ingest made, by what they are of
        self._clock, self._trace = clock, trace

    def violate(self, text: str) -> None:
        """Note a violation."""
        if text not in self.violations:
            self._trace(f"VIOLATION {text}")
            self.violations.append(text)

    # What the exchange knows

    def emitted(self, trade: SimTrade, record_id: str) -> None:
        """Take note of a trade."""
        symbol = trade.pair.symbol
        self.truth.setdefault(symbol, {})[record_id] = trade
        self.missing.setdefault(symbol, {})[record_id] = trade
        self._emitted_at[symbol, record_id] = self._clock()
        self._newest_time[symbol] = max(trade.time, self._newest_time.get(symbol, 0))
        self._traded_at[symbol, trade.id] = self._newest_time[symbol]
        order = self._orders.setdefault(symbol, [])
        order.append(record_id)
        if len(order) > _ROWS:
            self._left_history[symbol, order[-_ROWS - 1]] = self._clock()

    def spoiled(self, trade: SimTrade, record_id: str) -> None:
        """Take note that a trade was only sent as an item that cannot be read."""
        self._spoiled.add((trade.pair.symbol, record_id))

    def handed(self, wire: Wire, symbol: str, trades: Sequence[SimTrade]) -> None:
        """Take note that a frame with trades of a symbol went to a process."""
        now, place = self._clock(), (wire.process, symbol)
        self.handed_at[place] = now
        self._unsaid_since.pop(place, None)
        self._read.append((now, wire, symbol, trades))

    def refused(self, raw_symbol: str) -> None:
        """Take note that the exchange refused a symbol."""
        self.refused_symbols.add(raw_symbol)

    def broke(self, process: Any, rule: str) -> None:
        """Take note that a client broke a rule. One that Kafka holds up may not have read what it had to answer."""
        if not self.held_up(process):
            self.violate(f"the client broke a rule: {rule}")

    def attempted(self, process: Any) -> None:
        """Take note of a handshake."""
        self._lost_at.pop(process, None)

    def lost(self, connection: Wire, *, announced: bool) -> None:
        """Take note that the exchange ended a connection."""
        now, process = self._clock(), connection.process
        if not process.alive:
            return
        others = [wire for wire in self.exchange.wires_of(process) if wire is not connection]
        first = connection.first_trade_at
        connects = others or self.exchange.handshakes[process]  # the successor of this one
        if not connects and first and now - first > 2.0 and not self.held_up(process):
            self._lost_at[process] = now
        if announced and not self.held_up(process):
            carried = {name for wire in others for name in wire.client.subscribed}
            if alone := sorted(connection.client.subscribed - carried):
                self.violate(f"an announced cut ended the only subscriptions of {', '.join(alone)}")

    def disturb(self, disturbs: bool) -> None:
        """Take note of what may keep the ingest from connecting, subscribing or reading."""
        if disturbs:
            self.disturbed_at = self._clock()

    def held_up(self, process: Any) -> bool:
        """Return whether Kafka may keep the process from reading: it reads nothing that it could not store."""
        return bool(self.log.troubled or process.publisher.blocked or process.producers[-1].hangs)

    # What the log has

    def appended(self, message: Message) -> None:
        """Take note of a record that became durable."""
        topic = message.topic()
        self._trace(f"log {topic}[{message.partition()}] {message.key().decode()} {len(message.value())}")
        if ".gaps." in topic:
            self._on_gap(decode(message.value()))
        elif ".trades." in topic:
            _, body = wire.split(message.value())
            self._on_record(avro.decode(body))

    def _on_gap(self, event: GapEvent) -> None:
        self.gaps[event.gap_id] = event
        self._trace(f"gap {event.symbol} {event.first_id}-{event.last_id} {event.state.value} {event.resolution}")
        if event.state is GapState.NEVER_ISSUED:
            issued = [name for name in self.truth[event.symbol] if name.isdigit() and _covers(event.missing, int(name))]
            if issued:
                self.violate(f"{event.symbol}: never issued, but emitted: {', '.join(issued[:5])}")
        elif event.state is GapState.UNRECOVERABLE and not self._beyond(event):
            self.violate(
                f"{event.symbol}: unrecoverable ({event.reason}), but the history has "
                f"{event.first_id}-{event.last_id} of {event.since}"
            )
        if event.first_id and event.protocol is not None:
            ids = [int(name) for name in self.truth.get(event.symbol, {}) if name.isdigit()]
            if not ids or int(event.first_id) < min(ids) or int(event.last_id) > max(ids):
                self.violate(
                    f"{event.symbol}: a gap of ids that the exchange never reached: {event.first_id}-{event.last_id}"
                )

    def _beyond(self, event: GapEvent) -> bool:
        """Whether the exchange's history cannot prove a gap repaired."""
        if event.reason == GapReason.UNKNOWN_SYMBOL:
            return event.symbol not in self.truth or event.symbol in self.delisted
        return not event.first_id and (event.symbol, event.last_id) in self._left_history

    def _on_record(self, record: dict[str, Any]) -> None:
        symbol, record_id = record["symbol"], record["trade_id"]
        trade = self.truth.get(symbol, {}).get(record_id)
        if trade is None:
            if "-" in record_id:
                self._on_made_up_id(record)
            else:
                self.violate(f"{symbol}: {record_id} is in the log and was never emitted")
            return
        content = (int(record["price"] * _UNIT), int(record["quantity"] * _UNIT), str(record["side"]))
        if content != (trade.price, trade.quantity, "BUY" if trade.buy else "SELL"):
            self.violate(f"{symbol}: {record_id} is in the log with another content")
        identity = self._contents.setdefault((symbol, record_id), (record["message_id"],))
        if identity != (record["message_id"],):
            self.violate(f"{symbol}: {record_id} has two message ids")
        missing = self.missing[symbol]
        if symbol not in self.begun:
            self.begun.add(symbol)
            for earlier in list(missing):
                if earlier == record_id:
                    break
                del missing[earlier]
        missing.pop(record_id, None)

    def _on_made_up_id(self, record: dict[str, Any]) -> None:
        """Take a record of a protocol without ids: what was traded once has one id, whoever brought it."""
        symbol = record["symbol"]
        content = (int(record["price"] * _UNIT), int(record["quantity"] * _UNIT), str(record["side"]))
        ids = self._made_up.setdefault((symbol, *content, record["timestamp"]), set())
        ids.add(record["message_id"])
        if len(ids) > 1:
            traded = sum(
                (trade.price, trade.quantity, "BUY" if trade.buy else "SELL") == content
                for trade in self.truth[symbol].values()
            )
            if len(ids) > traded:
                self.violate(f"{symbol}: {record['trade_id']} has two message ids")

    # Judgements

    def unaccounted(self, *, pending: bool) -> Iterator[str]:
        """Yield the trades that are neither in the log nor in a gap.

        A trade above the newest record is not missed yet. `pending`: records may be on their way.
        """
        for symbol in sorted(self.begun):
            order = self._orders[symbol]
            last = next((name for name in reversed(order) if name not in self.missing[symbol]), None)
            newest = self.truth[symbol][last] if last is not None else None
            for record_id, trade in self.missing[symbol].items():
                if newest is None or trade.id >= newest.id:
                    break
                if (symbol, record_id) in self._spoiled or (
                    pending and self._clock() - self._emitted_at[symbol, record_id] < _SETTLED
                ):
                    continue
                if not any(self._names(event, symbol, trade) for event in self.gaps.values()):
                    yield f"{symbol} {record_id}"

    def retrievable(self) -> list[str]:
        """Return the trades that should be in the log by now: the history has them, or had them for long enough."""
        now, left = self._clock(), []
        for symbol in sorted(self.begun):
            for record_id, trade in self.missing[symbol].items():
                if now - self._emitted_at[symbol, record_id] < _SETTLED:
                    break
                if (symbol, record_id) in self._spoiled:
                    continue
                lost = any(
                    event.state is GapState.UNRECOVERABLE and self._names(event, symbol, trade)
                    for event in self.gaps.values()
                )
                if not lost:
                    left.append(f"{symbol} {record_id}")
        return left

    def _names(self, event: GapEvent, symbol: str, trade: SimTrade) -> bool:
        """Whether a gap that is open or lost names a trade."""
        if event.symbol != symbol or event.state not in {GapState.OPEN, GapState.UNRECOVERABLE}:
            return False
        if event.first_id:
            return int(event.first_id) <= trade.id <= int(event.last_id)
        since, until = (to_micros(datetime.fromisoformat(text)) for text in (event.since, event.until))
        return since <= self._traded_at[symbol, trade.id] <= until

    def sample(self, process: Any) -> None:
        """Judge the moment of a process: reconnects, and what the status says of symbols that do not flow."""
        now = self._clock()
        if not process.alive or self.held_up(process):
            self.disturb(True)
            self._held_up_at[process] = now
            self._lost_at.pop(process, None)
        if now - self._lost_at.get(process, now) > _RECONNECT:
            self.violate("the first reconnect came after more than a second")
            del self._lost_at[process]
        if not process.alive or not process.stats.symbol_states:
            for place in [place for place in self._unsaid_since if place[0] is process]:
                del self._unsaid_since[place]
            return
        if not self.may_be_silent and (silent := sorted(process.stats.silences)):
            self.violate(f"{silent[0]}: reported as silent, and the exchange sent everything")
        for market in self._flowing_markets():
            place = (process, symbol := market.pair.symbol)
            state, reason = process.stats.symbol_states.get(symbol, (SymbolState.PENDING, ""))
            if state is SymbolState.REFUSED and market.pair.raw_symbol not in self.refused_symbols:
                self.violate(f"{symbol}: reported as refused, and the exchange never refused it: {reason[:80]}")
            quiet = now - self.handed_at.get(place, process.started_at) < 60 / market.rate
            if quiet or state in _SAYS_SO or not process.stats.connected or self.held_up(process):
                self._unsaid_since.pop(place, None)
            elif now - self._unsaid_since.setdefault(place, now) > _UNSAID:
                self.violate(f"{symbol}: does not flow, and the status says {state.value}")

    def read_is_stored(self) -> None:
        """Judge what a process read some seconds ago: it is in the log, if the process lives and Kafka took records.

        So nothing is lost while one of two processes lives and has a connection.
        """
        now = self._clock()
        while self._read and now - self._read[0][0] > _STORED:
            at, wire, symbol, trades = self._read.popleft()
            process = wire.process
            if not process.alive or wire.unread_lost or self._held_up_at.get(process, 0.0) >= at - 1.0:
                continue
            for trade in trades:
                record_id = self.exchange.trade_id(trade)
                missing = symbol in self.begun and record_id in self.missing[symbol]
                missing = missing and self.removed_at.get(symbol, 0.0) < at - 10.0
                if missing and (symbol, record_id) not in self._spoiled:
                    self.violate(f"{symbol} {record_id} was read by a process that lives, and is not in the log")

    def flows(self, processes: Iterable[Any]) -> list[str]:
        """Return the symbols that trade and do not flow to each process."""
        now, markets = self._clock(), self._flowing_markets()
        return sorted(
            market.pair.symbol
            for process in processes
            for market in markets
            if now - self.handed_at.get((process, market.pair.symbol), 0.0) > 30 / market.rate
        )

    def _flowing_markets(self) -> list[Market]:
        """Return the markets that trade and that the feed wants."""
        raw_symbols, exchange = self.wanted(), self.exchange
        return [market for name, market in exchange.markets.items() if name in raw_symbols and exchange.trades(name)]


def _covers(ranges: Any, number: int) -> bool:
    return any(first <= number <= last for first, last in ranges)
