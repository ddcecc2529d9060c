"""A channel that no part of K2 knows: depth of a market, on a made-up protocol.

It has what trades lack: no ids, a list column, two kinds of record, a nullable exchange time, state between the frames
of a connection, a snapshot over REST, and a verdict of its adapter's own.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from uuid import uuid4

import msgspec
from fastavro import parse_schema

from k2.ingest.exchanges.base import (
    DECODE_ERRORS,
    NO_ID,
    UNSUBSCRIBED,
    Event,
    Gap,
    InvalidItem,
    Limits,
    MalformedFrame,
    Newest,
    Notices,
    Page,
    Request,
    RestBudget,
    SequencedRecord,
    Subscribed,
)
from k2.schemas.channels import Channel, Sequencing
from k2.schemas.codecs.avro import RecordEncoder
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.exchanges.spec import Pair
from k2.schemas.formats import FORMAT
from k2.schemas.records.trade import Source
from k2.schemas.states import Verdict
from k2.schemas.tables import Column, gold
from k2.schemas.validation import MISSING_FIELD, UNKNOWN_EXCHANGE, ErrorCategory, Rule

SNAPSHOT, UPDATE = "snapshot", "update"
Level = tuple[int, int]  # price and quantity


@dataclass(frozen=True, slots=True)
class Depth:
    """One message about a market's depth."""

    symbol: str
    exchange: str
    kind: str
    exchange_time: int | None
    ingestion_timestamp: int
    levels: tuple[Level, ...]
    connection: str
    ordinal: int
    verdict: Verdict
    source: Source = Source.LIVE

    @property
    def timestamp(self) -> int:
        return self.ingestion_timestamp if self.exchange_time is None else self.exchange_time

    @property
    def record_id(self) -> str:
        return ""

    @property
    def fingerprint(self) -> int:
        return hash(self.levels)


_TIME: Final = {"type": "long", "logicalType": "timestamp-micros"}
_LEVEL: Final = {
    "type": "record",
    "name": "Level",
    "fields": [{"name": "price", "type": "long"}, {"name": "quantity", "type": "long"}],
}
SCHEMA: Final = json.dumps(
    {
        "type": "record",
        "k2.format": FORMAT,
        "name": "Depth",
        "namespace": "k2.marketdata.test",
        "fields": [
            {"name": "symbol", "type": "string"},
            {"name": "exchange", "type": "string"},
            {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": [SNAPSHOT, UPDATE]}},
            {"name": "exchange_time", "type": ["null", _TIME], "default": None},
            {"name": "ingestion_timestamp", "type": _TIME},
            {"name": "levels", "type": {"type": "array", "items": _LEVEL}},
            {"name": "connection", "type": "string"},
            {"name": "ordinal", "type": "long"},
            {"name": "verdict", "type": "string"},
        ],
    }
)
_PARSED: Final = parse_schema(json.loads(SCHEMA))


def _fields(record: Depth) -> dict[str, Any]:
    levels = [{"price": price, "quantity": quantity} for price, quantity in record.levels]
    names = ("symbol", "exchange", "kind", "exchange_time", "ingestion_timestamp", "connection", "ordinal")
    return {name: getattr(record, name) for name in names} | {"levels": levels, "verdict": record.verdict.value}


COLUMNS: Final = (
    Column("symbol", "string", "normalised: BTCUSDT"),
    Column("exchange", "string", "Name of the exchange in capitals"),
    Column("kind", "string", "snapshot or update"),
    Column("exchange_time", "timestamp", "null in snapshots over REST", nullable=True),
    Column("ingestion_timestamp", "timestamp", "when the frame left the socket"),
    Column("levels", "array<struct<price:bigint,quantity:bigint>>", "price and quantity"),
    Column("connection", "string", "the connection that read it"),
    Column("ordinal", "bigint", "number of the message on its connection"),
    Column("verdict", "string", "verified, unverifiable, suspect"),
)

DEPTH: Final = Channel(
    name="depth",
    record=Depth,
    schema=SCHEMA,
    encoder=lambda schema_id: RecordEncoder(schema_id, _PARSED, _fields),
    columns=COLUMNS,
    gold=gold("depth", COLUMNS, ("symbol", "connection", "ordinal"), ("ordinal",)),
    identity=("connection", "ordinal"),
    sequencing=Sequencing.CONNECTION,
    rules=(
        MISSING_FIELD,
        UNKNOWN_EXCHANGE,
        Rule(ErrorCategory.SYMBOL_MISMATCH, lambda record: record.key != record["symbol"], "key is {key}"),
        Rule("NEGATIVE_ORDINAL", lambda record: record["ordinal"] < 0, "ordinal is {ordinal} on {connection}"),
    ),
    text_columns=frozenset({"symbol", "exchange", "kind", "connection", "verdict"}),
    time_columns=("exchange_time", "ingestion_timestamp"),
    verdict_column="verdict",
)


class Message(msgspec.Struct):
    """An update of the made-up protocol: `previous` is the number of the update before it."""

    symbol: str
    number: int
    previous: int
    time: int
    levels: list[Level]


class Snapshot(msgspec.Struct):
    """The response of the made-up REST API."""

    number: int
    levels: list[Level]


class DepthAdapter:
    """The made-up protocol. Keeps the number of each symbol's last update, and judges the next by it."""

    spec = EXCHANGES["binance"]
    has_sequence = False
    url = "ws://127.0.0.1:1"
    path = "/depth"
    notices = Notices()
    rest_url = "http://127.0.0.1:1"
    limits = Limits(subscribe_interval=0.01, snapshot_delay=0.0)
    rest_budget = RestBudget(100, 100)

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self.set_pairs(pairs)
        self._last: dict[str, int] = {}
        self._connection = uuid4().hex
        self._ordinal = 0

    def set_pairs(self, pairs: Sequence[Pair]) -> None:
        """Replace the symbols whose frames are parsed."""
        self._pairs = {pair.raw_symbol: pair for pair in pairs}

    def subscribe(self, pairs: Sequence[Pair], number: int) -> bytes:
        """Subscribe to symbols."""
        return msgspec.json.encode({"subscribe": sorted(pair.raw_symbol for pair in pairs)})

    def unsubscribe(self, pairs: Sequence[Pair], number: int) -> bytes:
        """End subscriptions."""
        return msgspec.json.encode({"unsubscribe": sorted(pair.raw_symbol for pair in pairs)})

    def parse(self, frame: bytes, received: int) -> Sequence[Event]:
        """Parse an update or the acknowledgement."""
        try:
            if frame.startswith(b'{"subscribed"'):
                return [Subscribed(tuple(msgspec.json.decode(frame)["subscribed"]))]
            message = msgspec.json.decode(frame, type=Message)
        except DECODE_ERRORS as error:
            raise MalformedFrame(str(error)) from error
        pair = self._pairs.get(message.symbol)
        if pair is None:
            return [InvalidItem(UNSUBSCRIBED, f"{message.symbol!r} was not subscribed")]
        last = self._last.get(pair.symbol)
        verdict = Verdict.VERIFIED if last == message.previous else Verdict.SUSPECT
        verdict = Verdict.UNVERIFIABLE if last is None else verdict
        self._last[pair.symbol] = message.number
        return [self._record(pair, UPDATE, message.time, received, message.levels, verdict)]

    def snapshot_request(self, pair: Pair) -> Request:
        """Request the whole book."""
        return Request("/snapshot", {"symbol": pair.raw_symbol})

    def parse_newest(self, body: bytes) -> Newest:
        """Return nothing: snapshots have no time."""
        return Newest()

    def parse_snapshot(self, pair: Pair, body: bytes, received: int) -> Sequence[Event]:
        """Return the book as a record of its own kind."""
        try:
            snapshot = msgspec.json.decode(body, type=Snapshot)
        except DECODE_ERRORS as error:
            raise MalformedFrame(str(error)) from error
        self._last[pair.symbol] = max(snapshot.number, self._last.get(pair.symbol, 0))
        item = self._record(pair, SNAPSHOT, None, received, snapshot.levels, Verdict.VERIFIED)
        return [SequencedRecord(replace(item.record, source=Source.SNAPSHOT), NO_ID, NO_ID)]

    def history_request(self, gap: Gap) -> Request:
        """Fail: a channel without ids opens no gaps."""
        raise AssertionError(gap)

    def parse_page(self, request: Request, body: bytes, gap: Gap, received: int) -> Page:
        """Fail: a channel without ids opens no gaps."""
        raise AssertionError(gap)

    def _record(
        self, pair: Pair, kind: str, time: int | None, received: int, levels: Sequence[Level], verdict: Verdict
    ) -> SequencedRecord:
        self._ordinal += 1
        # The protocol has a message that is no record of a market: its ordinal is dead-lettered by the channel's rule.
        ordinal = self._ordinal if levels else -self._ordinal
        record = Depth(
            pair.symbol, "BINANCE", kind, time, received, tuple(map(tuple, levels)), self._connection, ordinal, verdict
        )
        return SequencedRecord(record, NO_ID, NO_ID)
