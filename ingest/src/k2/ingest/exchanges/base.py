"""What every adapter is made of: declared data, and pure functions from bytes to events and back.

No sockets and no clock here; the session owns both. Adapters raise `MalformedFrame` and nothing else.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Protocol

import msgspec

from k2.schemas.exchanges.spec import ExchangeSpec, Pair
from k2.schemas.records.trade import Side, Trade, VendorData
from k2.schemas.values import InexactValue, scaled, scaled_decimal

# What msgspec raises for bytes it cannot read: not JSON or not of the type, not UTF-8, nested too deeply.
DECODE_ERRORS: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class MalformedFrame(ValueError):
    """A frame that cannot be trusted as a whole; it is kept in the dead letters."""


class SequencedTrade(msgspec.Struct, gc=False, frozen=True):
    """A trade, and the ids it stands for: OKX's aggregates cover several. 0 where the exchange numbers nothing."""

    trade: Trade
    first_id: int
    last_id: int


class InvalidItem(msgspec.Struct, frozen=True):
    """One item of a frame that cannot be a trade; the frame goes to the dead letters, its other items count."""

    error: str
    reason: str
    symbol: str = ""
    last_id: int = 0  # where it could be read: the id is then accounted for, not a gap


class Subscribed(msgspec.Struct, frozen=True):
    """The exchange accepted these symbols (native spelling)."""

    raw_symbols: tuple[str, ...]


class Refused(msgspec.Struct, frozen=True):
    """The exchange refused something we asked for; `natives` where it said which."""

    reason: str
    raw_symbols: tuple[str, ...] = ()


class Heartbeat(msgspec.Struct, frozen=True):
    """The exchange's word that `last_id` is the newest trade of `symbol`."""

    symbol: str
    last_id: int


class Closing(msgspec.Struct, frozen=True):
    """The exchange will close this connection soon."""

    reason: str


class Unknown(msgspec.Struct, frozen=True):
    """A kind of message that K2 does not know; counted and let go, as new kinds may come at any time."""

    kind: str


Event = SequencedTrade | InvalidItem | Subscribed | Refused | Heartbeat | Closing | Unknown


@dataclass(frozen=True, slots=True)
class Limits:
    """How an exchange wants to be treated on its websocket. Times in seconds."""

    stale_after: float = 30.0  # without any frame, pings and heartbeats included
    max_age: float = 23.5 * 3600  # below the exchange's own cut, so that we choose the moment
    subscribe_interval: float = 0.25  # between two messages of ours
    ping_text: str = ""  # what to send where the exchange wants application-level pings
    ping_interval: float = 20.0


@dataclass(frozen=True, slots=True)
class RestBudget:
    """How much an exchange lets one address ask: `rate` weight a second, `burst` at once."""

    rate: float
    burst: float


@dataclass(frozen=True, slots=True)
class Request:
    """One GET of the exchange's REST history, below its base URL."""

    path: str
    params: Mapping[str, str]
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Gap:
    """Ids that should have come and did not, or a window in which an exchange without ids may have traded.

    `since` and `until` are the exchange times, in microseconds, of the trades around it. Both ids are 0 for a
    window; `anchor` is then the id of the last trade before it.
    """

    pair: Pair
    first_id: int
    last_id: int
    since: int
    until: int
    anchor: str = ""

    @property
    def is_window(self) -> bool:
        """Whether the exchange's ids say nothing about what is missing."""
        return self.first_id == 0


@dataclass(frozen=True, slots=True)
class Page:
    """What one request brought: trades of the gap, and where to go on. `reached` says that nothing before is left."""

    trades: Sequence[SequencedTrade]
    invalid: Sequence[InvalidItem] = ()
    next_request: Request | None = None
    overlaps: bool = True  # False: the history began after the gap did, so the gap cannot be proved closed


class RestRefused(Exception):
    """The exchange answered a REST request with an error of its own."""

    def __init__(self, reason: str, *, retry_after: float | None = None, unknown_symbol: bool = False) -> None:
        super().__init__(reason)
        self.retry_after = retry_after  # None: asking again is of no use
        self.unknown_symbol = unknown_symbol


class Exchange(Protocol):
    """One exchange's protocol. `pairs` are the symbols that this connection is for."""

    spec: ExchangeSpec
    has_sequence: bool  # whether this protocol's trades carry consecutive ids
    url: str
    path: str
    rest: str
    limits: Limits
    budget: RestBudget

    def __init__(self, pairs: Sequence[Pair]) -> None: ...

    def subscribe_messages(self) -> list[bytes]:
        """The messages that subscribe to every pair's trades."""
        ...

    def parse(self, frame: bytes, received: int) -> Sequence[Event]:
        """What one text frame says; `received` is our clock, UTC microseconds. Raises `MalformedFrame`."""
        ...

    def newest_request(self, pair: Pair) -> Request:
        """Asks for the newest trade of a pair."""
        ...

    def history_request(self, gap: Gap) -> Request:
        """Asks for the first page of a gap."""
        ...

    def parse_page(self, request: Request, body: bytes, gap: Gap, received: int) -> Page:
        """Reads a page. Raises `RestRefused`, or `MalformedFrame` for a body that cannot be trusted."""
        ...

    def parse_newest_id(self, body: bytes) -> int:
        """The id in the answer to `newest`; 0 if there is none. Raises as `page` does."""
        ...


UNSUBSCRIBED: Final = "UNSUBSCRIBED_SYMBOL"
INEXACT: Final = "INEXACT_VALUE"
MALFORMED: Final = "MALFORMED_FRAME"

_LAST_MICROS: Final = 253_402_300_799_999_999  # the end of the year 9999, the last that tables can hold
_LAST_ID: Final = 2**63 - 1


def millis(value: int) -> int:
    """Exchange time in milliseconds as microseconds; raises `MalformedFrame` beyond the year 9999."""
    if not 0 <= value <= _LAST_MICROS // 1000:
        raise MalformedFrame(f"time {str(value)[:40]} ms is not between 1970 and 9999")
    return value * 1000


def millis_text(text: str) -> int:
    """Exchange time as text in milliseconds, as microseconds; raises `MalformedFrame`."""
    if not (text.isascii() and text.isdigit() and len(text) <= 15):
        raise MalformedFrame(f"time {text[:40]!r} is not milliseconds since 1970")
    return millis(int(text))


def fraction(text: str) -> int:
    """Exchange time in seconds with a fraction ("1618678150.826417") as microseconds, further digits cut off."""
    whole, _, digits = text.partition(".")
    if not (whole.isascii() and whole.isdigit() and (digits.isdigit() or not digits) and len(whole) <= 12):
        raise MalformedFrame(f"time {text[:40]!r} is not seconds since 1970")
    return millis(int(whole) * 1000) + int(digits[:6].ljust(6, "0"))


def json_object(frame: bytes) -> dict[str, Any]:
    """The JSON object in a frame that is not a trade; raises `MalformedFrame`."""
    try:
        return msgspec.json.decode(frame, type=dict[str, Any])
    except DECODE_ERRORS as error:
        raise MalformedFrame(str(error)) from error


def positive_id(value: int | str) -> int:
    """A trade id as a number; raises `MalformedFrame` for what cannot be one."""
    text = str(value)
    if not (text.isascii() and text.isdigit() and 0 < len(text) <= 19 and 0 < int(text) <= _LAST_ID):
        raise MalformedFrame(f"trade id {text[:40]!r} is not a positive number")
    return int(text)


def build_trade(
    label: str,
    pair: Pair,
    trade_id: str,
    timestamp: int,
    price: str | Decimal,
    quantity: str | Decimal,
    side: Side,
    received: int,
    vendor_data: VendorData,
    *,
    ids: tuple[int, int] = (0, 0),
) -> SequencedTrade | InvalidItem:
    """The trade, or why its numbers cannot be one. Price and quantity are exact or refused, never rounded."""
    try:
        exact_price = scaled(price) if isinstance(price, str) else scaled_decimal(price)
        exact_quantity = scaled(quantity) if isinstance(quantity, str) else scaled_decimal(quantity)
    except InexactValue as error:
        return InvalidItem(INEXACT, str(error), pair.symbol, ids[1])
    trade = Trade(
        trade_id, pair.symbol, label, pair.base, pair.quote, timestamp, exact_price, exact_quantity,
        side, received, vendor_data,
    )  # fmt: skip
    return SequencedTrade(trade, *ids)


def chunks(pairs: Sequence[Pair], size: int) -> Iterator[Sequence[Pair]]:
    """The pairs, `size` at a time: exchanges limit how many one message may name."""
    for start in range(0, len(pairs), size):
        yield pairs[start : start + size]


def partition(items: Iterable[SequencedTrade | InvalidItem]) -> tuple[list[SequencedTrade], list[InvalidItem]]:
    """Trades apart from what is none."""
    observed: list[SequencedTrade] = []
    invalid: list[InvalidItem] = []
    for item in items:
        if isinstance(item, SequencedTrade):
            observed.append(item)
        else:
            invalid.append(item)
    return observed, invalid
