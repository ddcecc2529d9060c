"""Bybit v5 spot (bybit-exchange.github.io/docs/v5, `publicTrade`): frames to trades.

Ids are unique but not consecutive per symbol, and REST returns only the newest 60 trades: after a reconnect,
completeness is proved if the last delivered trade is among them.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec

from k2.ingest.exchanges.base import (
    DECODE_ERRORS,
    UNSUBSCRIBED,
    Event,
    InvalidItem,
    MalformedFrame,
    Refused,
    SequencedRecord,
    Subscribed,
    Unknown,
    build_trade,
    chunks,
    json_object,
    millis,
)
from k2.ingest.exchanges.bybit.messages import FRAME, ITEM, RAW_FRAME, SIDES, TradeItem
from k2.ingest.exchanges.bybit.rest import BybitRest, check_trade_id
from k2.ingest.exchanges.bybit.spec import BybitSpec
from k2.ingest.exchanges.items import decode_items, numbered
from k2.schemas.exchanges.spec import Pair
from k2.schemas.records.trade import Source

_PAIRS_PER_MESSAGE = 10  # spot takes ten arguments a request
_TOPIC = "publicTrade."


class Bybit(BybitSpec, BybitRest):
    """Bybit v5 spot trades."""

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self._pairs = pairs
        self._by_name = {pair.raw_symbol: pair for pair in pairs}

    def subscribe_messages(self) -> list[bytes]:
        """Return subscribe messages; the id of each identifies its pairs."""
        return [
            msgspec.json.encode(
                {
                    "req_id": str(number),
                    "op": "subscribe",
                    "args": [_TOPIC + pair.raw_symbol for pair in chunk],
                }
            )
            for number, chunk in enumerate(chunks(self._pairs, _PAIRS_PER_MESSAGE), start=1)
        ]

    def parse(self, frame: bytes, received: int) -> Sequence[Event]:
        """Return the events of a frame. Raises `MalformedFrame`."""
        try:
            message = FRAME.decode(frame)
            if not message.topic.startswith(_TOPIC):
                return [Unknown(message.topic[:40])]
            return numbered([self._trade(item, received) for item in message.data])
        except (*DECODE_ERRORS, MalformedFrame):
            return self._one_by_one(frame, received)

    def _one_by_one(self, frame: bytes, received: int) -> Sequence[Event]:
        try:
            message = RAW_FRAME.decode(frame)
        except DECODE_ERRORS as error:
            return self._other(frame, error)
        if not message.topic.startswith(_TOPIC):
            return [Unknown(message.topic[:40])]
        build = partial(self._trade, received=received)
        return decode_items(message.data, ITEM, build, self._by_name, "s")

    def _trade(self, item: TradeItem, received: int) -> SequencedRecord | InvalidItem:
        pair = self._by_name.get(item.s)
        if pair is None:
            return InvalidItem(UNSUBSCRIBED, f"{item.s[:40]!r} was not subscribed")
        vendor = (
            ("pair", pair.raw_symbol), ("sequence", str(item.seq)), ("block_trade", str(item.BT).lower()),
            ("rpi", str(item.RPI).lower()), ("tick_direction", item.L), ("source", Source.LIVE.value),
        )  # fmt: skip
        return build_trade(
            "BYBIT",
            pair,
            check_trade_id(item.i),
            millis(item.T),
            item.p,
            item.v,
            SIDES[item.S],
            received,
            vendor,
        )

    def _other(self, frame: bytes, cause: Exception) -> Sequence[Event]:
        message = json_object(frame)
        topic = message.get("topic")
        if isinstance(topic, str):
            if topic.startswith(_TOPIC):
                raise MalformedFrame(str(cause))
            return [Unknown(topic[:40])]
        match message.get("op"):
            case "ping" | "pong":
                return ()
            case "subscribe":
                return [self._subscription(message)]
            case str(kind):
                return [Unknown(kind[:40])]
        raise MalformedFrame("neither a topic nor an operation that Bybit documents")

    def _subscription(self, message: dict[str, Any]) -> Event:
        if message.get("success") is not True:
            text = str(message.get("ret_msg", "refused"))[:200]
            return Refused(text, tuple(raw_symbol for raw_symbol in self._by_name if _TOPIC + raw_symbol in text))
        number = str(message.get("req_id", ""))
        start = (int(number) - 1) * _PAIRS_PER_MESSAGE if number.isascii() and number.isdigit() else len(self._pairs)
        return Subscribed(tuple(pair.raw_symbol for pair in self._pairs[max(start, 0) : start + _PAIRS_PER_MESSAGE]))
