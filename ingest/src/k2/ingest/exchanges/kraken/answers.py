"""Kraken spot: which REST errors are final, and which forbid requests for a while. All come with HTTP 200."""

import msgspec

from k2.ingest.exchanges.answers import ApiError, FinalAnswer, Pause, RestAnswers
from k2.ingest.exchanges.base import DECODE_ERRORS
from k2.schemas.states import GapReason

_ERRORS = 'docs.kraken.com, "API errors"'
_LIMITS = 'docs.kraken.com, "Spot REST rate limits"'


class _Envelope(msgspec.Struct):
    error: list[str]


_ENVELOPE = msgspec.json.Decoder(_Envelope)


def _read_error(body: bytes) -> ApiError | None:
    try:
        errors = _ENVELOPE.decode(body).error
    except DECODE_ERRORS:
        return None
    return ApiError("", "; ".join(errors)) if errors else None


ANSWERS = RestAnswers(
    _read_error,
    final=(
        FinalAnswer((200, 400), "", GapReason.UNKNOWN_SYMBOL, _ERRORS, "EQuery:Unknown asset pair"),
        FinalAnswer((200, 400), "", GapReason.BAD_REQUEST, _ERRORS, "EGeneral:Invalid arguments"),
    ),
    pauses=(
        Pause(5, _LIMITS, words="EAPI:Rate limit exceeded"),
        Pause(5, _LIMITS, words="EGeneral:Too many requests"),
        Pause(30, _ERRORS, words="EGeneral:Temporary lockout"),
        Pause(10, _ERRORS, words='"EService:'),
        Pause(30, _LIMITS, status=429),
    ),
)
