"""OKX v5 spot (okx.com/docs-v5, `trades` channel): frames to trades.

One message may aggregate several fills: `tradeId` is the last of `count` ids, so the previous message ends with id
`tradeId - count`.
"""

from collections.abc import Sequence

import msgspec

from k2.ingest.exchanges.base import (
    DECODE_ERRORS,
    Event,
    MalformedFrame,
    Refused,
    Subscribed,
    Unknown,
    chunks,
    json_object,
)
from k2.ingest.exchanges.okx.messages import FRAME
from k2.ingest.exchanges.okx.rest import OkxRest, build_okx_trade
from k2.ingest.exchanges.okx.spec import OkxSpec
from k2.schemas.exchanges.spec import Pair
from k2.schemas.records.trade import Source

_PAIRS_PER_MESSAGE = 300  # one request with many arguments counts once; arguments stay far below 64 kB


class Okx(OkxSpec, OkxRest):
    """OKX v5 spot trades."""

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self._pairs = pairs
        self._by_name = {pair.raw_symbol: pair for pair in pairs}

    def subscribe_messages(self) -> list[bytes]:
        """Return subscribe messages."""
        return [
            msgspec.json.encode(
                {
                    "id": str(number),
                    "op": "subscribe",
                    "args": [{"channel": "trades", "instId": pair.raw_symbol} for pair in chunk],
                }
            )
            for number, chunk in enumerate(chunks(self._pairs, _PAIRS_PER_MESSAGE), start=1)
        ]

    def parse(self, frame: bytes, received: int) -> Sequence[Event]:
        """Return the events of a frame. Raises `MalformedFrame`."""
        if frame == b"pong":
            return ()
        try:
            trades = FRAME.decode(frame).data
        except DECODE_ERRORS as error:
            return self._other(frame, error)
        return [build_okx_trade(item, self._by_name, Source.LIVE, received) for item in trades]

    def _other(self, frame: bytes, cause: Exception) -> Sequence[Event]:
        message = json_object(frame)
        arg = message.get("arg")
        arg = arg if isinstance(arg, dict) else {}
        match message.get("event"):
            case "subscribe":
                return [Subscribed((str(arg.get("instId", "")),))]
            case "error":
                text = f"{message.get('code')}: {message.get('msg')}"[:200]
                return [Refused(text, tuple(raw_symbol for raw_symbol in self._by_name if raw_symbol in text))]
            case str(kind):
                return [Unknown(kind[:40])]
        if arg.get("channel") == "trades":
            raise MalformedFrame(str(cause))
        if isinstance(arg.get("channel"), str):
            return [Unknown(arg["channel"][:40])]
        raise MalformedFrame("neither data nor an event that OKX documents")
