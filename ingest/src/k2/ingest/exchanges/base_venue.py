"""The venue protocol, the simulated side of an exchange: trades to frames, requests to replies. Pure."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from k2.ingest.simulator.history import History
from k2.ingest.simulator.listings import Listings
from k2.ingest.simulator.market import SimTrade
from k2.schemas.exchanges.spec import ExchangeSpec, Pair
from k2.schemas.values import SCALE, fixed_decimal, from_micros

PROTOCOL_ERROR: Final = 1008


@dataclass(slots=True)
class Client:
    """The subscriptions of one connection and the data needed to enforce the exchange's rules."""

    subscribed: set[str] = field(default_factory=set)
    protocol: str = ""
    heartbeats: set[str] = field(default_factory=set)
    opened_at: float = 0.0
    last_message_at: float = 0.0
    message_times: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class RestReply:
    """A REST response."""

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


class Venue(ABC):
    """The server side of one exchange's protocol."""

    spec: ExchangeSpec
    default_symbols: Sequence[str]  # of `k2 simulate` without --symbols
    new_symbol: str  # that the fault `list` adds, if it names none
    paths: Sequence[str]  # of the websockets
    rest_rate: float  # REST weight per second; `rest_burst` is the burst
    rest_burst: float
    ping_every = 0.0  # seconds between pings of the exchange; 0: none

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self.listings = Listings(pairs)

    def on_connect(self, client: Client) -> list[str]:
        """Return the first messages of a new connection."""
        return []

    @abstractmethod
    def receive(self, text: str, client: Client, history: History) -> list[str]:
        """Handle a client's message. Return the replies."""

    @abstractmethod
    def frames(self, trades: Sequence[SimTrade], protocol: str = "") -> Iterator[str]:
        """Yield the frames of one batch of one pair."""

    def heartbeats(self, client: Client, history: History, now: int) -> list[str]:
        """Return the frames that are sent once a second; `now` is UTC microseconds."""
        return []

    def violation(self, client: Client, now: float) -> str:
        """Return the rule a client broke, or an empty string. A violation closes the connection."""
        return ""

    def weight(self, path: str) -> float:
        """Return the rate-limit weight of a REST request."""
        return 1.0

    @abstractmethod
    def limited(self) -> RestReply:
        """Return the response to a request beyond the rate limit."""

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


def iso(trade: SimTrade) -> str:
    """Return a trade's time in RFC 3339: 2023-10-06T17:35:55.440295Z."""
    return from_micros(trade.time).isoformat(timespec="microseconds").replace("+00:00", "Z")


def number(value: int, places: int = 1) -> str:
    """Format a price or quantity with at least `places` decimals, and with more where it has more: 61837.63."""
    text = fixed_decimal(value, SCALE)
    needed = len(text.rstrip("0")) - (len(text) - SCALE)
    return fixed_decimal(value, max(places, needed))


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
