"""What a simulated exchange is made of: pure functions from deals to frames, and from requests to answers."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import msgspec

from k2.ingest.simulator.history import History
from k2.ingest.simulator.market import SimTrade
from k2.schemas.exchanges.spec import Pair
from k2.schemas.values import format_decimal, from_micros

PROTOCOL_ERROR: Final = 1008


@dataclass(slots=True)
class Client:
    """One connection's subscriptions, and what of the exchange's rules it must be held to."""

    subscribed: set[str] = field(default_factory=set)
    protocol: str = ""
    heartbeats: set[str] = field(default_factory=set)
    opened_at: float = 0.0
    last_message_at: float = 0.0
    message_times: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer."""

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


class Venue(Protocol):
    """One exchange's side of its protocol."""

    rest_rate: float  # weight a second that REST allows, and at once
    rest_burst: float
    ping_every: float  # seconds between the exchange's own websocket pings; 0: it sends none

    def __init__(self, pairs: Sequence[Pair]) -> None: ...

    @property
    def paths(self) -> Sequence[str]:
        """Of the websocket."""
        ...

    def on_connect(self, client: Client) -> list[str]:
        """What a new connection is sent first."""
        ...

    def receive(self, text: str, client: Client, history: History) -> list[str]:
        """The answers to a client's message."""
        ...

    def frames(self, trades: Sequence[SimTrade], protocol: str = "") -> Iterator[str]:
        """The frames that tell of one sweep of one pair."""
        ...

    def heartbeats(self, client: Client, history: History, now: int) -> list[str]:
        """What is sent once a second."""
        ...

    def violation(self, client: Client, now: float) -> str:
        """Which rule of the exchange a client broke; the connection is then closed."""
        ...

    def weight(self, path: str) -> float:
        """What a REST request costs."""
        ...

    def limited(self) -> Answer:
        """The answer to a request beyond the limit."""
        ...

    def rest(self, path: str, query: Mapping[str, str], history: History) -> Answer:
        """The answer to a REST request."""
        ...

    def trade_id(self, trade: SimTrade) -> str:
        """The id under which a deal is told."""
        ...


def json_text(value: object) -> str:
    """Compact JSON, keys in the order given."""
    return msgspec.json.encode(value).decode()


def answer(value: object, status: int = 200, **headers: str) -> Answer:
    """A JSON answer."""
    return Answer(msgspec.json.encode(value), status, headers)


def message(text: str) -> dict[str, Any]:
    """A client's JSON message; empty if it is none."""
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError:
        return {}


def iso(trade: SimTrade) -> str:
    """A deal's time as exchanges write it: 2023-10-06T17:35:55.440295Z."""
    return from_micros(trade.time).isoformat(timespec="microseconds").replace("+00:00", "Z")


def number(value: int) -> str:
    """A price or quantity without needless zeros: 61837.63."""
    text = format_decimal(value).rstrip("0")
    return text + "0" if text.endswith(".") else text


def count(query: Mapping[str, str], name: str, most: int) -> int:
    """A limit out of a query, within what the exchange allows."""
    text = query.get(name, "")
    return min(most, int(text)) if text.isdigit() and int(text) > 0 else most


def texts(values: Iterable[object]) -> list[str]:
    """The strings among some values."""
    return [value for value in values if isinstance(value, str)]
