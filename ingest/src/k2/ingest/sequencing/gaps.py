"""Gap events: the records of the topic `market.crypto.gaps.<exchange>`, one JSON object per state. Pure values."""

from datetime import datetime
from uuid import uuid5

import msgspec

from k2.ingest.exchanges.base import Gap
from k2.schemas.exchanges.spec import Pair
from k2.schemas.records.trade import MESSAGE_NAMESPACE
from k2.schemas.states import GapState
from k2.schemas.values import from_micros, to_micros


class GapEvent(msgspec.Struct, frozen=True):
    """One state of one gap.

    Times are RFC 3339 in UTC; `since` and `until` are the exchange times of the records around the gap. `first_id`
    and `last_id` are the first and last missing id. For a window, `first_id` is empty and `last_id` is the id of the
    record before it.
    """

    gap_id: str
    feed: str
    symbol: str
    first_id: str
    last_id: str
    detected_at: str
    repaired_at: str | None
    method: str
    state: GapState
    since: str
    until: str
    channel: str = "trades"  # which events of older versions lack

    def encode(self) -> bytes:
        """Return the Kafka value."""
        return msgspec.json.encode(self)


_DECODER = msgspec.json.Decoder(GapEvent)


def open_event(feed: str, channel: str, exchange: str, gap: Gap, detected: int) -> GapEvent:
    """Return the event that opens a gap; `detected` is in UTC microseconds.

    The same missing ids give the same `gap_id` in every replica and process.
    """
    first, last = (str(gap.first_id), str(gap.last_id)) if not gap.is_window else ("", gap.anchor)
    return GapEvent(
        gap_id=gap_id(channel, exchange, gap),
        feed=feed,
        symbol=gap.pair.symbol,
        first_id=first,
        last_id=last,
        detected_at=_text(detected),
        repaired_at=None,
        method="",
        state=GapState.OPEN,
        since=_text(gap.since),
        until=_text(gap.until),
        channel=channel,
    )


def gap_id(channel: str, exchange: str, gap: Gap) -> str:
    """Return the UUIDv5 of the missing ids, or of the window."""
    identity = f"{gap.first_id}|{gap.last_id}" if not gap.is_window else f"{gap.anchor}|{gap.since}|{gap.until}"
    return str(uuid5(MESSAGE_NAMESPACE, f"gap|{channel}|{exchange}|{gap.pair.symbol}|{identity}"))


def close_event(event: GapEvent, *, state: GapState, method: str, at: int) -> GapEvent:
    """Return the event that closes a gap; `at` is in UTC microseconds."""
    return msgspec.structs.replace(
        event, state=state, method=method, repaired_at=_text(at) if state is GapState.REPAIRED else None
    )


def decode(value: bytes) -> GapEvent:
    """Decode a gap event from Kafka. Raises `msgspec.DecodeError`."""
    return _DECODER.decode(value)


def gap_from_event(event: GapEvent, pair: Pair) -> Gap:
    """Return the gap that an event of `pair` describes."""
    since, until = _micros(event.since), _micros(event.until)
    if not event.first_id:
        return Gap(pair, 0, 0, since, until, event.last_id)
    return Gap(pair, int(event.first_id), int(event.last_id), since, until)


def _text(micros_utc: int) -> str:
    return from_micros(micros_utc).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _micros(text: str) -> int:
    return to_micros(datetime.fromisoformat(text))
