"""The adapter protocol: declared data and functions from frames to events of one channel.

No sockets and no clock; the session owns both. `parse` raises `MalformedFrame` and nothing else. Each connection has
an adapter of its own, so an adapter may keep what earlier frames of the connection said.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import Any, Final, Protocol

import msgspec

from k2.schemas.channels import Record
from k2.schemas.exchanges.spec import ExchangeSpec, Pair
from k2.schemas.records.trade import Side, Trade, VendorData
from k2.schemas.states import GapReason
from k2.schemas.values import InexactValue, scaled, scaled_decimal

# What msgspec raises for undecodable bytes: not JSON or of another type, not UTF-8, nested too deeply.
DECODE_ERRORS: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class MalformedFrame(ValueError):
    """A frame that is invalid as a whole and is dead-lettered, or an item of one that has an impossible value."""


NO_ID: Final = -1  # where an id is expected and there is none; exchanges number from 0 or 1


class SequencedRecord(msgspec.Struct, gc=False, frozen=True):
    """A record and the id range it covers: both are its id, or `NO_ID` where there is no sequence."""

    record: Record
    first_id: int
    last_id: int


class InvalidItem(msgspec.Struct, frozen=True):
    """An invalid item of a frame. The frame is dead-lettered once; its other items are still processed."""

    error: str
    reason: str
    symbol: str = ""
    last_id: int = NO_ID  # if readable, so that the id does not count as missing
    index: int = 0  # in the list of the frame, or of the REST response


class Subscribed(msgspec.Struct, frozen=True):
    """The exchange acknowledged these symbols, or all of request `number` if it names none; 0: it echoes no number."""

    raw_symbols: tuple[str, ...]
    number: int = 0


class Unsubscribed(msgspec.Struct, frozen=True):
    """The exchange ended the subscription of these symbols, or of all of request `number` if it names none."""

    raw_symbols: tuple[str, ...]
    number: int = 0


class Refusal(Enum):
    """What a refusal says of the symbols that it concerns."""

    SYMBOL = "symbol"  # the exchange does not have them, or not now
    BUSY = "busy"  # a rate, or a passing state of the exchange: the same request may succeed later
    SUBSCRIBED = "subscribed"  # they were subscribed before
    CAPACITY = "capacity"  # the request or the connection carries too many


class Refused(msgspec.Struct, frozen=True):
    """The exchange refused a request. `raw_symbols` are the symbols that it names, if any.

    `whole`: nothing of the request was done, so its other symbols are not subscribed either.
    """

    reason: str
    raw_symbols: tuple[str, ...] = ()
    number: int = 0
    kind: Refusal = Refusal.SYMBOL
    whole: bool = False


class Heartbeat(msgspec.Struct, frozen=True):
    """The exchange reports that `last_id` is the newest id of `symbol`; `NO_ID` says nothing."""

    symbol: str
    last_id: int


class Closing(msgspec.Struct, frozen=True):
    """The exchange will close its connections: at `due`, or soon if that is 0. It said so at `sent`, if that is not 0.

    Both are of the exchange's clock, in UTC microseconds.
    """

    reason: str
    due: int = 0
    sent: int = 0


class Resubscribe(msgspec.Struct, frozen=True):
    """The state of a symbol is lost, and the exchange sends it only at the beginning of a subscription."""

    raw_symbol: str


class Unfit(msgspec.Struct, frozen=True):
    """A symbol that cannot be recorded for now, and why: it is unsubscribed and counts as refused."""

    raw_symbol: str
    reason: str


class Unknown(msgspec.Struct, frozen=True):
    """A message of an unknown type; counted and ignored, because exchanges add types at any time."""

    kind: str


Event = (
    SequencedRecord
    | InvalidItem
    | Subscribed
    | Unsubscribed
    | Refused
    | Heartbeat
    | Closing
    | Resubscribe
    | Unfit
    | Unknown
)


@dataclass(frozen=True, slots=True)
class Limits:
    """The websocket limits of an exchange. Times in seconds; 0 means that the exchange sets no such limit."""

    stale_after: float = 30.0  # without any frame, pings and heartbeats included
    max_age: float = 23.5 * 3600  # below the exchange's limit, so that K2 chooses the moment
    subscribe_interval: float = 0.25  # between two subscribe messages
    frame_bytes: int = 1 << 20  # of one frame that is accepted
    symbols_per_message: int = 100
    message_bytes: int = 0  # of one request
    unanswered_requests: int = 8  # sent before the first of them is answered; 1 where answers carry no number
    symbols_per_connection: int = 1000
    characters_per_connection: int = 0  # of all arguments of the subscriptions
    argument_characters: int = 0  # of an argument, beside the symbol
    requests_per_hour: int = 0  # of one connection
    acknowledges_any: bool = False  # also symbols that do not exist, so that only data proves a subscription
    connects: int = 0  # attempts in `connects_period`, below what the exchange allows an address
    connects_period: float = 300.0
    ping_text: str = ""  # the application-level ping, if the exchange requires one
    ping_interval: float = 20.0
    snapshot_delay: float = 2.0  # before a snapshot is processed: the stream may lag behind the REST API


@dataclass(frozen=True, slots=True)
class Notices:
    """A websocket of announcements beside those of the data: its path and the messages that subscribe to it."""

    path: str = ""
    messages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Newest:
    """The newest trade that the REST API shows: its id, or `NO_ID` where ids cannot be compared, and its time.

    The time is in UTC microseconds; 0 where the id is enough, or there is no trade.
    """

    number: int = NO_ID
    time: int = 0

    @property
    def exists(self) -> bool:
        """Whether there is a trade."""
        return self.number != NO_ID or self.time > 0

    def after(self, other: "Newest") -> bool:
        """Whether this trade is newer than another. If there was none, any is."""
        if not other.exists:
            return self.exists
        if NO_ID not in {self.number, other.number}:
            return self.number > other.number
        return self.time > other.time


@dataclass(frozen=True, slots=True)
class RestBudget:
    """The REST rate limit per IP address: `rate` weight per second, `burst` at once.

    The exchange allows `limit` in `period` seconds, if it is not 0: burst and rate together stay below that. `counter`
    is the header in which it tells how much of the limit the address has used in the current period of UTC.
    """

    rate: float
    burst: float
    limit: float = 0.0
    period: float = 60.0
    counter: str = ""


@dataclass(frozen=True, slots=True)
class Request:
    """A GET request to the exchange's REST API, relative to its base URL."""

    path: str
    params: Mapping[str, str]
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Gap:
    """A range of missing ids, or a window in which an exchange without a sequence may have sent records.

    `since` and `until` are the exchange times, in UTC microseconds, of the records around it. Both ids are `NO_ID` for
    a window; `anchor` is then the id of the last record before it. `listing` is the symbol's listing to which the
    missing ids belong.
    """

    pair: Pair
    first_id: int
    last_id: int
    since: int
    until: int
    anchor: str = ""
    listing: int = 1

    @property
    def is_window(self) -> bool:
        """Whether the gap is a time window, because the exchange has no sequence."""
        return self.first_id == NO_ID


@dataclass(frozen=True, slots=True)
class Page:
    """The records of a gap in one REST response, in the order of the rows, and the request for the next page."""

    records: Sequence[SequencedRecord]
    invalid: Sequence[InvalidItem] = ()
    next_request: Request | None = None
    overlaps: bool = True  # of a window: False if the history starts inside it, so completeness is not proved
    reaches: bool = True  # of a window: False if the history ends inside it, because it lags behind the stream
    full: bool = False  # whether the page has as many rows as the exchange gives of a symbol, where it limits them
    consistent: bool = (
        True  # False: rows out of order, unreadable or not as requested; no row's absence proves anything
    )
    oldest: int = NO_ID  # the smallest id of all rows, also of those outside the gap
    row_ids: Sequence[str] = ()  # of a window in a history without a cursor: the ids of all rows


class RestRefused(Exception):
    """The exchange answered a REST request with an error.

    With a `reason`, the error is final: no retry changes it. `retry_after` is in seconds, if the exchange or its table
    of answers says when a retry makes sense; `pauses` says that no request at all should be sent until then, and
    `stops_connects` that no websocket should be opened either.
    """

    def __init__(
        self,
        text: str,
        *,
        reason: GapReason | None = None,
        retry_after: float | None = None,
        pauses: bool = False,
        stops_connects: bool = False,
    ) -> None:
        super().__init__(text)
        self.reason = reason
        self.retry_after = retry_after
        self.pauses = pauses
        self.stops_connects = stops_connects

    @property
    def unknown_symbol(self) -> bool:
        """Whether the exchange does not know the symbol."""
        return self.reason is GapReason.UNKNOWN_SYMBOL


class Adapter(Protocol):
    """One channel of an exchange, in one protocol, for one connection. `pairs` are the connection's symbols.

    `notices` names the path of a websocket on which the exchange announces maintenance, and the messages that subscribe
    to it; the path is empty where the connections themselves hear of it.
    """

    spec: ExchangeSpec
    has_sequence: bool  # whether records carry consecutive ids
    record_ids: str  # a regular expression for the ids of records, by which those of other protocols differ
    url: str
    path: str
    notices: Notices
    rest_url: str
    limits: Limits
    rest_budget: RestBudget

    def __init__(self, pairs: Sequence[Pair]) -> None: ...

    def set_pairs(self, pairs: Sequence[Pair]) -> None:
        """Replace the symbols whose frames are parsed."""

    def subscribe(self, pairs: Sequence[Pair], number: int) -> bytes:
        """Return the request `number`, 1 or more, that subscribes to some of the pairs."""
        ...

    def unsubscribe(self, pairs: Sequence[Pair], number: int) -> bytes:
        """Return the request `number` that ends the subscription of some of the pairs."""
        ...

    def parse(self, frame: bytes, received: int) -> Sequence[Event]:
        """Return the events of a text frame; `received` is in UTC microseconds. Raises `MalformedFrame`."""
        ...

    def snapshot_request(self, pair: Pair) -> Request | None:
        """Return the request for the state of a pair, sent after each connect; None if there is none to ask for."""
        ...

    def parse_snapshot(self, pair: Pair, body: bytes, received: int) -> Sequence[Event]:
        """Return the events of the response to `snapshot_request`. Raises like `parse_page`."""
        ...

    def parse_newest(self, body: bytes) -> Newest:
        """Return the newest record in the response to `snapshot_request`. Raises like `parse_page`."""
        ...

    def history_request(self, gap: Gap) -> Request:
        """Return the request for the first page of a gap."""
        ...

    def parse_page(self, request: Request, body: bytes, gap: Gap, received: int) -> Page:
        """Parse a page of a gap. Raises `RestRefused`, or `MalformedFrame` for an invalid body."""
        ...


class StateSource(ABC):
    """For adapters that need an answer of the REST API for the state of a symbol."""

    @abstractmethod
    def lacking(self, now: int) -> Sequence[Pair]:
        """Return the pairs whose state is to be requested, the most urgent first; `now` is in UTC microseconds."""

    @abstractmethod
    def state_request(self, pair: Pair, now: int) -> Request:
        """Return the request for the state of a pair, which is sent `now`, in UTC microseconds."""

    @abstractmethod
    def parse_state(self, pair: Pair, body: bytes, received: int) -> Sequence[Event]:
        """Return the events of the response to `state_request`. Raises `MalformedFrame` for an invalid body."""


class NewestTradeSnapshot(ABC):
    """For adapters of trades: the snapshot of a pair is the id of its newest trade, which shows a gap at once."""

    record_ids = r"[0-9]{1,19}"

    @abstractmethod
    def newest_request(self, pair: Pair) -> Request:
        """Return the request for the newest trade of a pair."""

    @abstractmethod
    def parse_newest_id(self, body: bytes) -> int:
        """Return the id in the response to `newest_request`, or `NO_ID`. Raises like `parse_page`."""

    def snapshot_request(self, pair: Pair) -> Request:
        """Return the request for the newest trade of a pair."""
        return self.newest_request(pair)

    def parse_snapshot(self, pair: Pair, body: bytes, received: int) -> Sequence[Event]:
        """Return the newest id as a heartbeat. Raises like `parse_page`."""
        return [Heartbeat(pair.symbol, self.parse_newest_id(body))]

    def parse_newest(self, body: bytes) -> Newest:
        """Return the newest trade by its id. Raises like `parse_page`."""
        return Newest(self.parse_newest_id(body))


_WORD: Final = re.compile(r"[\w/-]+")
_DOTTED: Final = re.compile(r"[\w/.-]+")  # for symbols with a dot

UNSUBSCRIBED: Final = "UNSUBSCRIBED_SYMBOL"
INEXACT: Final = "INEXACT_VALUE"
MALFORMED: Final = "MALFORMED_FRAME"
MALFORMED_ITEM: Final = "MALFORMED_ITEM"
AGGREGATE: Final = "AGGREGATED_TRADE"

_LAST_MICROS: Final = 253_402_300_799_999_999  # the end of the year 9999, the last that tables can hold
_LAST_ID: Final = 2**63 - 1


def millis(value: int) -> int:
    """Convert exchange time from milliseconds to microseconds. Raises `MalformedFrame` beyond the year 9999."""
    if not 0 <= value <= _LAST_MICROS // 1000:
        raise MalformedFrame(f"time {str(value)[:40]} ms is not between 1970 and 9999")
    return value * 1000


def millis_text(text: str) -> int:
    """Convert exchange time from a text in milliseconds to microseconds. Raises `MalformedFrame`."""
    if not (text.isascii() and text.isdigit() and len(text) <= 15):
        raise MalformedFrame(f"time {text[:40]!r} is not milliseconds since 1970")
    return millis(int(text))


def fraction(text: str) -> int:
    """Convert exchange time from decimal seconds ("1618678150.826417") to microseconds, truncating digits."""
    whole, _, digits = text.partition(".")
    if not (whole.isascii() and whole.isdigit() and (digits.isdigit() or not digits) and len(whole) <= 12):
        raise MalformedFrame(f"time {text[:40]!r} is not seconds since 1970")
    return millis(int(whole) * 1000) + int(digits[:6].ljust(6, "0"))


def json_object(frame: bytes) -> dict[str, Any]:
    """Decode a frame as a JSON object. Raises `MalformedFrame`."""
    try:
        return msgspec.json.decode(frame, type=dict[str, Any])
    except DECODE_ERRORS as error:
        raise MalformedFrame(str(error)) from error


def trade_number(value: int | str) -> int:
    """Parse a trade id; 0 is one. Raises `MalformedFrame` unless it is a whole number from 0 to 2**63 - 1."""
    text = str(value)
    if not (text.isascii() and text.isdigit() and len(text) <= 19 and int(text) <= _LAST_ID):
        raise MalformedFrame(f"trade id {text[:40]!r} is not a whole number from 0 to 2**63 - 1")
    return int(text)


def positive(value: int | str, name: str) -> int:
    """Parse a positive 64-bit integer, which errors call `name`. Raises `MalformedFrame`."""
    text = str(value)
    if not (text.isascii() and text.isdigit() and len(text) <= 19 and 0 < int(text) <= _LAST_ID):
        raise MalformedFrame(f"{name} {text[:40]!r} is not a positive number")
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
    ids: tuple[int, int] = (NO_ID, NO_ID),
) -> SequencedRecord | InvalidItem:
    """Build a trade, or an `InvalidItem` if price or quantity is not exactly representable; nothing is rounded."""
    try:
        exact_price = scaled(price) if isinstance(price, str) else scaled_decimal(price)
        exact_quantity = scaled(quantity) if isinstance(quantity, str) else scaled_decimal(quantity)
    except InexactValue as error:
        return InvalidItem(INEXACT, str(error), pair.symbol, ids[1])
    trade = Trade(
        trade_id, pair.symbol, label, pair.base, pair.quote, timestamp, exact_price, exact_quantity,
        side, received, vendor_data,
    )  # fmt: skip
    return SequencedRecord(trade, *ids)


def named(text: str, raw_symbols: Collection[str]) -> tuple[str, ...]:
    """Return the symbols that an exchange's sentence names in whole words: BETH-USDT does not name ETH-USDT."""
    words = {word.strip("-/") for word in _WORD.findall(text)}
    dotted = {word.strip("-/.") for word in _DOTTED.findall(text)}
    return tuple(raw_symbol for raw_symbol in raw_symbols if raw_symbol in words or raw_symbol in dotted)


def request_number(value: object) -> int:
    """Return the number that an answer echoes; 0 if it is none of K2's."""
    text = str(value)
    return int(text) if not isinstance(value, bool) and text.isascii() and text.isdigit() and len(text) <= 9 else 0


def partition(items: Iterable[SequencedRecord | InvalidItem]) -> tuple[list[SequencedRecord], list[InvalidItem]]:
    """Separate records from invalid items."""
    observed: list[SequencedRecord] = []
    invalid: list[InvalidItem] = []
    for item in items:
        if isinstance(item, SequencedRecord):
            observed.append(item)
        else:
            invalid.append(item)
    return observed, invalid
