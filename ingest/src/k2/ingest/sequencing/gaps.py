"""Gap events: the records of the topic `market.crypto.gaps.<exchange>`, one JSON object per state. Pure values."""

from datetime import datetime
from uuid import uuid5

import msgspec

from k2.ingest.exchanges.base import NO_ID, Gap
from k2.schemas.exchanges.spec import Pair
from k2.schemas.records.trade import MESSAGE_NAMESPACE
from k2.schemas.states import GapState
from k2.schemas.values import from_micros, to_micros


class GapEvent(msgspec.Struct, frozen=True):
    """One state of one gap.

    Times are RFC 3339 in UTC; `since` and `until` are the exchange times of the records around the gap. `first_id`
    and `last_id` are the first and last missing id. For a window, `first_id` is empty and `last_id` is the id of the
    record before it. `resolved_at` and `resolution` say when and how the gap was closed, whether repaired or given up.
    """

    gap_id: str
    feed: str
    channel: str
    symbol: str
    listing: int
    first_id: str
    last_id: str
    detected_at: str
    resolved_at: str | None
    resolution: str
    state: GapState
    since: str
    until: str

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
        channel=channel,
        symbol=gap.pair.symbol,
        listing=gap.listing,
        first_id=first,
        last_id=last,
        detected_at=_text(detected),
        resolved_at=None,
        resolution="",
        state=GapState.OPEN,
        since=_text(gap.since),
        until=_text(gap.until),
    )


def gap_id(channel: str, exchange: str, gap: Gap) -> str:
    """Return the UUIDv5 of the missing ids, or of the window."""
    identity = f"{gap.first_id}|{gap.last_id}" if not gap.is_window else f"{gap.anchor}|{gap.since}|{gap.until}"
    symbol = gap.pair.symbol if gap.listing == 1 else f"{gap.pair.symbol}|{gap.listing}"
    return str(uuid5(MESSAGE_NAMESPACE, f"gap|{channel}|{exchange}|{symbol}|{identity}"))


def close_event(event: GapEvent, *, state: GapState, resolution: str, at: int) -> GapEvent:
    """Return the event that closes a gap; `at` is in UTC microseconds."""
    return msgspec.structs.replace(event, state=state, resolution=resolution, resolved_at=_text(at))


def decode(value: bytes) -> GapEvent:
    """Decode a gap event from Kafka. Raises `msgspec.DecodeError`."""
    return _DECODER.decode(value)


def gap_from_event(event: GapEvent, pair: Pair) -> Gap:
    """Return the gap that an event of `pair` describes."""
    since, until = _micros(event.since), _micros(event.until)
    if not event.first_id:
        return Gap(pair, NO_ID, NO_ID, since, until, event.last_id, event.listing)
    return Gap(pair, int(event.first_id), int(event.last_id), since, until, listing=event.listing)


def _text(micros_utc: int) -> str:
    return from_micros(micros_utc).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _micros(text: str) -> int:
    return to_micros(datetime.fromisoformat(text))
