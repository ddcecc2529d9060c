"""The venue protocol, the simulated side of an exchange: trades to frames, requests to replies. Pure."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

import msgspec

from k2.ingest.simulator.history import History
from k2.ingest.simulator.listings import Listings
from k2.ingest.simulator.market import SimTrade
from k2.ingest.simulator.order_book import OrderBook, SimChange, SimQuote
from k2.schemas.exchanges.spec import ExchangeSpec, Pair
from k2.schemas.values import SCALE, fixed_decimal, from_micros

PROTOCOL_ERROR: Final = 1008


class Limit(Enum):
    """What a client did too much of."""

    MESSAGES = "messages"
    ARGUMENTS = "arguments"
    BYTES = "bytes"
    SYMBOLS = "symbols"
    CHARACTERS = "characters"
    BUSY = "busy"  # no limit of the client: the exchange refuses for a while


@dataclass(slots=True)
class Rules:
    """What the exchange lets clients do; 0 means that it sets no such limit."""

    messages: int = 0  # of a client in `messages_period` seconds
    messages_period: float = 1.0
    arguments: int = 0  # of a request
    bytes: int = 0  # of a request
    symbols: int = 0  # subscribed on a connection
    characters: int = 0  # of all arguments of a connection
    connects: int = 0  # of an address in `connects_period` seconds
    connects_period: float = 300.0


@dataclass(frozen=True, slots=True)
class Cut:
    """The end of a connection: the code of the close frame, 0 for none, and its reason."""

    code: int
    reason: str


Reply = str | Cut


@dataclass(slots=True)
class Client:
    """The subscriptions of one connection and the data needed to enforce the exchange's rules."""

    subscribed: set[str] = field(default_factory=set)  # to trades, by raw symbol
    quotes: set[str] = field(default_factory=set)  # subscribed to quotes
    books: set[str] = field(default_factory=set)  # subscribed to order books
    protocol: str = ""
    heartbeats: set[str] = field(default_factory=set)
    opened_at: float = 0.0
    last_message_at: float = 0.0
    message_times: list[float] = field(default_factory=list)
    stuck: set[str] = field(default_factory=set)  # subscribed, but not sent: until they are subscribed again
    frozen: set[str] = field(default_factory=set)  # subscribed, but not sent on this connection any more


@dataclass(frozen=True, slots=True)
class RestReply:
    """A REST response."""

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: bool = False  # the connection is lost in the middle of the body


class Venue(ABC):
    """The server side of one exchange's protocol."""

    spec: ExchangeSpec
    default_symbols: Sequence[str]  # of `k2 simulate` without --symbols
    new_symbol: str  # that the fault `list` adds, if it names none
    paths: Sequence[str]  # of the websockets
    rest_rate: float  # REST weight per second; `rest_burst` is the burst
    rest_burst: float
    rest_window = 0.0  # seconds in which `rest_burst` counts; 0: it refills at `rest_rate`
    ban_after = 0  # refused requests in a row, until the address is banned; 0: never
    ban_seconds = 0.0  # doubled for each further ban
    ping_every = 0.0  # seconds between pings of the exchange; 0: none
    connects_status = 429  # of the answer to a connection beyond the limit
    end = Cut(0, "server restart")  # how it ends connections for a restart

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self.listings = Listings(pairs)
        self.rules = self.limits()

    @staticmethod
    def limits() -> Rules:
        """Return the exchange's limits for websocket clients."""
        return Rules()

    def on_connect(self, client: Client) -> Sequence[str]:
        """Return the first messages of a new connection."""
        return ()

    def handle(self, text: str, client: Client, history: History, now: float) -> Sequence[Reply]:
        """Enforce the limits on a client's message, then handle it. Return the replies."""
        limit = self._exceeded(text, client, now)
        return self.refuse(limit, text) if limit else self.receive(text, client, history)

    def _exceeded(self, text: str, client: Client, now: float) -> Limit | None:
        rules, requested = self.rules, self.requested(text)
        client.message_times[:] = [at for at in client.message_times if now - at < rules.messages_period]
        if rules.messages and len(client.message_times) > rules.messages:
            return Limit.MESSAGES
        if rules.bytes and len(text.encode()) > rules.bytes:
            return Limit.BYTES
        if rules.arguments and len(requested) > rules.arguments:
            return Limit.ARGUMENTS
        symbols = [*client.subscribed.union(requested), *client.quotes, *client.books]
        if requested and rules.symbols and len(symbols) > rules.symbols:
            return Limit.SYMBOLS
        characters = sum(len(self.argument(symbol)) for symbol in symbols)
        return Limit.CHARACTERS if requested and rules.characters and characters > rules.characters else None

    @abstractmethod
    def requested(self, text: str) -> Sequence[str]:
        """Return the raw symbols that a request subscribes to; none if it is no such request."""

    def argument(self, raw_symbol: str) -> str:
        """Return the argument of a request that subscribes to a symbol."""
        return raw_symbol

    @abstractmethod
    def refuse(self, limit: Limit, text: str) -> Sequence[Reply]:
        """Return the exchange's reply to a request that breaks a limit; none if it does not reply."""

    def announcement(self, client: Client, now: int, begins: int) -> Sequence[str]:
        """Return what the exchange sends a client ahead of a restart, which `begins` in UTC microseconds."""
        return ()

    @abstractmethod
    def receive(self, text: str, client: Client, history: History) -> Sequence[Reply]:
        """Handle a client's message. Return the replies."""

    @abstractmethod
    def frames(self, trades: Sequence[SimTrade], protocol: str = "") -> Iterator[str]:
        """Yield the frames of one batch of one pair; `protocol` is the websocket's path, if it is not the first."""

    def quote_frames(self, quote: SimQuote) -> Iterator[str]:
        """Yield the frames of a change of the best bid or ask; none where the exchange has no such stream."""
        yield from ()

    def book_frames(self, change: SimChange) -> Iterator[str]:
        """Yield the frames of a change of a book; none where the exchange has no such stream."""
        yield from ()

    def reset_book(self, book: OrderBook) -> Iterator[str]:
        """Let the numbers of a book begin again, and yield what is sent of it; without numbers, its state."""
        yield from ()

    def heartbeats(self, client: Client, history: History, now: int) -> Sequence[str]:
        """Return the frames that are sent once a second; `now` is UTC microseconds."""
        return ()

    def violation(self, client: Client, now: float) -> str:
        """Return the rule a client broke, or an empty string. A violation closes the connection."""
        return ""

    def weight(self, path: str) -> float:
        """Return the rate-limit weight of a REST request."""
        return 1.0

    @abstractmethod
    def limited(self, wait: float) -> RestReply:
        """Return the response to a request beyond the rate limit; `wait` is in seconds."""

    def banned(self, wait: float, now: int) -> RestReply:
        """Return the response to a banned address; `wait` is in seconds, `now` in UTC microseconds."""
        return self.limited(wait)

    @abstractmethod
    def passing_errors(self) -> Sequence[RestReply]:
        """Return the exchange's own errors that pass by themselves."""

    def rest_headers(self, used: int) -> Mapping[str, str]:
        """Return the headers of every response; `used` is the weight that the address used."""
        return {}

    @abstractmethod
    def rest(self, path: str, query: Mapping[str, str], history: History, now: int) -> RestReply:
        """Return the response to a REST request; `now` is the exchange's time in UTC microseconds."""

    def trade_id(self, trade: SimTrade) -> str:
        """Return the id of a trade on the wire."""
        return str(trade.id)


def json_text(value: object) -> str:
    """Return compact JSON with the keys in the given order."""
    return msgspec.json.encode(value).decode()


def json_reply(value: object, status: int = 200, **headers: str) -> RestReply:
    """Return a JSON response."""
    return RestReply(msgspec.json.encode(value), status, headers)


def json_message(text: str) -> dict[str, Any]:
    """Decode a client's JSON object; empty if it is not one."""
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError:
        return {}


def iso(item: SimTrade | SimQuote) -> str:
    """Return the time of a trade or quote in RFC 3339: 2023-10-06T17:35:55.440295Z."""
    return from_micros(item.time).isoformat(timespec="microseconds").replace("+00:00", "Z")


def number(value: int, places: int = 1) -> str:
    """Format a price or quantity with at least `places` decimals, and with more where it has more: 61837.63."""
    whole, _, fraction = fixed_decimal(value, SCALE).partition(".")
    fraction = fraction.rstrip("0").ljust(places, "0")
    return f"{whole}.{fraction}" if fraction else whole


def step(value: int) -> str:
    """Format the smallest step of prices or quantities, without trailing zeros: 0.01."""
    return number(value, 0)


def decimals(value: int) -> int:
    """Return how many decimals a step has."""
    return len(step(value).partition(".")[2])


def count(query: Mapping[str, str], name: str, most: int) -> int:
    """Parse a limit from a query, capped at the exchange's maximum `most`."""
    text = query.get(name, "")
    return min(most, int(text)) if text.isdigit() and int(text) > 0 else most


def texts(values: Iterable[object]) -> list[str]:
    """Return the strings among `values`."""
    return [value for value in values if isinstance(value, str)]
