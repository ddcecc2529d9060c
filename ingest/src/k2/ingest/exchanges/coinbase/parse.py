"""Coinbase Exchange (docs.cdp.coinbase.com/exchange, `matches` and `heartbeat`): frames to trades.

`side` is the maker's and is inverted. A heartbeat per second carries each product's last trade id, which proves quiet
products complete.
"""

from collections.abc import Sequence
from typing import Any

from k2.ingest.exchanges.base import (
    DECODE_ERRORS,
    UNSUBSCRIBED,
    Event,
    Heartbeat,
    InvalidItem,
    MalformedFrame,
    build_trade,
    json_object,
    trade_number,
)
from k2.ingest.exchanges.coinbase.control import CoinbaseControl
from k2.ingest.exchanges.coinbase.messages import MATCH, TAKER, Match
from k2.ingest.exchanges.coinbase.rest import CoinbaseRest
from k2.ingest.exchanges.coinbase.spec import CoinbaseSpec
from k2.ingest.exchanges.items import Built, invalid_item
from k2.schemas.exchanges.spec import Pair
from k2.schemas.records.trade import Source
from k2.schemas.values import to_micros


class Coinbase(CoinbaseSpec, CoinbaseControl, CoinbaseRest):
    """Coinbase Exchange trades."""

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self.set_pairs(pairs)

    def set_pairs(self, pairs: Sequence[Pair]) -> None:
        """Replace the symbols whose frames are parsed."""
        self._pairs = pairs
        self._by_name = {pair.raw_symbol: pair for pair in pairs}

    def parse(self, frame: bytes, received: int) -> Sequence[Event]:
        """Return the events of a frame. Raises `MalformedFrame`."""
        try:
            return [self._trade(MATCH.decode(frame), received)]
        except (*DECODE_ERRORS, MalformedFrame) as error:
            return self._other(frame, error)

    def _trade(self, item: Match, received: int) -> Built:
        pair = self._by_name.get(item.product_id)
        if pair is None:
            return InvalidItem(UNSUBSCRIBED, f"{item.product_id[:40]!r} was not subscribed")
        number = trade_number(item.trade_id)
        source = Source.SNAPSHOT if item.type == "last_match" else Source.LIVE
        vendor = (
            ("pair", pair.raw_symbol), ("maker_side", item.side), ("sequence", str(item.sequence)),
            ("maker_order_id", item.maker_order_id), ("taker_order_id", item.taker_order_id),
            ("source", source.value),
        )  # fmt: skip
        return build_trade(
            "COINBASE", pair, str(number), to_micros(item.time), item.price, item.size, TAKER[item.side],
            received, vendor, ids=(number, number),
        )  # fmt: skip

    def _other(self, frame: bytes, cause: Exception) -> Sequence[Event]:
        message = json_object(frame)
        match message.get("type"):
            case "heartbeat":
                return self._heartbeat(message)
            case "match" | "last_match":
                return [invalid_item(message, cause, self._by_name, "product_id", "trade_id")]
        return self.control(message)

    def _heartbeat(self, message: dict[str, Any]) -> Sequence[Event]:
        pair = self._by_name.get(str(message.get("product_id")))
        last = message.get("last_trade_id")
        if pair is None or last is None:
            return ()
        return [Heartbeat(pair.symbol, trade_number(last))]  # 0 for a product that never traded, which shows no gap
