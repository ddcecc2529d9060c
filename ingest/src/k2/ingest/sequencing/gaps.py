"""Gap events: the records of the topic `market.crypto.gaps.<exchange>`, one JSON object per state. Pure values."""

from collections.abc import Sequence
from datetime import datetime
from uuid import uuid5

import msgspec

from k2.ingest.exchanges.base import NO_ID, Gap
from k2.ingest.sequencing.tracker import IdRange
from k2.schemas.exchanges.spec import Pair
from k2.schemas.records.trade import MESSAGE_NAMESPACE
from k2.schemas.states import GapReason, GapState
from k2.schemas.values import from_micros, to_micros


class GapEvent(msgspec.Struct, frozen=True, omit_defaults=True):
    """One state of one gap.

    Times are RFC 3339 in UTC; `since` and `until` are the exchange times of the records around the gap. `first_id`
    and `last_id` are the first and last missing id. For a window, `first_id` is empty and `last_id` is the id of the
    record before it. `resolved_at` and `resolution` say when and how the gap was closed, whether repaired or given up.

    `protocol` is that of the endpoint which detected the gap; None in events of older versions. `reason` says why it
    was given up, a value of `k2.schemas.states.GapReason`, by `rules`, the version of the rules that judged; both are
    empty in events of older versions. `missing` are the ids that never arrived, as ranges, and `evidence` the keys,
    separated by commas, of the exchange's answers in the topic of evidence.
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
    protocol: str | None = None
    reason: str = ""
    rules: str = ""
    missing: tuple[IdRange, ...] = ()
    evidence: str = ""

    def encode(self) -> bytes:
        """Return the Kafka value."""
        return msgspec.json.encode(self)


_DECODER = msgspec.json.Decoder(GapEvent)


def open_event(
    feed: str, channel: str, exchange: str, gap: Gap, detected: int, protocol: str | None = None
) -> GapEvent:
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
        protocol=protocol,
    )


def gap_id(channel: str, exchange: str, gap: Gap) -> str:
    """Return the UUIDv5 of the missing ids, or of the window."""
    identity = f"{gap.first_id}|{gap.last_id}" if not gap.is_window else f"{gap.anchor}|{gap.since}|{gap.until}"
    symbol = gap.pair.symbol if gap.listing == 1 else f"{gap.pair.symbol}|{gap.listing}"
    return str(uuid5(MESSAGE_NAMESPACE, f"gap|{channel}|{exchange}|{symbol}|{identity}"))


def close_event(
    event: GapEvent,
    *,
    state: GapState,
    resolution: str,
    at: int,
    reason: GapReason | None = None,
    rules: str = "",
    missing: Sequence[IdRange] = (),
    evidence: Sequence[str] = (),
) -> GapEvent:
    """Return the event that closes a gap; `at` is in UTC microseconds, `missing` are the ids that never arrived."""
    return msgspec.structs.replace(
        event,
        state=state,
        resolution=resolution,
        resolved_at=_text(at),
        reason=reason.value if reason else "",
        rules=rules if reason or state is GapState.NEVER_ISSUED else "",
        missing=tuple(missing),
        evidence=",".join(evidence),
    )


def reopen_event(event: GapEvent, resolution: str) -> GapEvent:
    """Return the event that opens a gap again, with its first detection time; `resolution` says why."""
    return msgspec.structs.replace(
        event, state=GapState.OPEN, resolution=resolution, resolved_at=None, reason="", rules="", missing=()
    )


def of_protocol(event: GapEvent, protocol: str, *, has_sequence: bool) -> bool:
    """Return whether a gap was detected by this protocol of its exchange. Older events only show whether it has ids."""
    if event.protocol is None:
        return bool(event.first_id) is has_sequence
    return event.protocol == protocol


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
