"""What an exchange's REST errors mean for a request: which are final, and which forbid all requests for a while.

Each exchange declares its table in its folder, with the sources. Whatever no table lists is transient: an error page of
a proxy, a body that was cut, a server error and a timeout say nothing about the history.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cached_property
from typing import Any, Final

import msgspec

from k2.ingest.exchanges.base import DECODE_ERRORS, RestRefused
from k2.ingest.network.statuses import explain
from k2.schemas.states import GapReason

_LONGEST_PAUSE: Final = 86_400.0  # seconds; an exchange that demands more is asked once a day
_EXCERPT: Final = 200


@dataclass(frozen=True, slots=True)
class ApiError:
    """An error as the exchange's own API words it: code, if it has codes, and text."""

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class FinalAnswer:
    """An answer that a retry does not change: HTTP statuses, the code in the body, and words of its text, if any."""

    statuses: tuple[int, ...]
    code: str
    reason: GapReason
    source: str
    words: str = ""

    def matches(self, status: int, error: ApiError) -> bool:
        """Return whether an error is this one."""
        return status in self.statuses and error.code == self.code and self.words.lower() in error.text.lower()


@dataclass(frozen=True, slots=True)
class Pause:
    """An answer after which the exchange wants no request from this address for `seconds`, unless it says how long.

    It is recognised by what is not empty: HTTP status, code in the body, words anywhere in the body. With `connects`,
    the exchange refuses websockets of the address as well.
    """

    seconds: float
    source: str
    status: int = 0
    code: str = ""
    words: str = ""
    connects: bool = False

    def matches(self, status: int, error: ApiError | None, body: bytes) -> bool:
        """Return whether an answer is this one."""
        if self.status and status != self.status:
            return False
        if self.code and (error is None or error.code != self.code):
            return False
        return self.words.lower().encode() in body[: 64 << 10].lower()


@dataclass(frozen=True, slots=True)
class History:
    """How far back the history of an exchange reaches, where it is limited."""

    rows: int = 0  # the newest trades of a symbol; 0: not limited by their number
    age: float = 0.0  # seconds; 0: not limited by age
    has_floor: bool = False  # asked for older ids, it answers from its oldest one on
    newest_first: bool = False  # the order of rows, and of pages
    source: str = ""


@dataclass(frozen=True)
class RestAnswers:
    """The table of one exchange. `read_error` finds the exchange's own error in a body."""

    read_error: Callable[[bytes], ApiError | None]
    final: tuple[FinalAnswer, ...] = ()
    pauses: tuple[Pause, ...] = ()
    history: History = History()

    @cached_property
    def version(self) -> str:
        """A hash of what the table judges: verdicts of another version are judged again."""
        entries = [(entry.statuses, entry.code, entry.reason.value, entry.words) for entry in self.final]
        limits = (self.history.rows, self.history.age, self.history.has_floor)
        return hashlib.sha256(repr((entries, limits)).encode()).hexdigest()[:8]

    def pause(self, status: int, error: ApiError | None, body: bytes) -> Pause | None:
        """Return the pause that an answer demands, if any."""
        return next((pause for pause in self.pauses if pause.matches(status, error, body)), None)

    def check(self, body: bytes, status: int = 200, retry_after: str | None = None) -> None:
        """Raise `RestRefused` if an answer is an error.

        `retry_after` is the header's value.
        """
        error = self.read_error(body)
        if status == 200 and error is None:
            return
        text = f"{error.code}: {error.text}" if error and error.code else error.text if error else ""
        if status != 200:
            text = f"HTTP {status}: {text}"
        text = text[:_EXCERPT].rstrip(": ") + explain(status)
        wait = seconds(retry_after)
        if pause := self.pause(status, error, body):
            pause_seconds = pause.seconds if wait is None else wait
            raise RestRefused(text, retry_after=pause_seconds, pauses=True, stops_connects=pause.connects)
        for entry in self.final:
            if error is not None and entry.matches(status, error):
                raise RestRefused(text, reason=entry.reason)
        raise RestRefused(text, retry_after=wait)


def seconds(header: str | None) -> float | None:
    """Return the seconds of a Retry-After header, which has a number or a date; None if it has neither."""
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.replace(".", "", 1).isdigit():
        return min(float(text), _LONGEST_PAUSE)
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return min(max(0.0, (when - datetime.now(UTC)).total_seconds()), _LONGEST_PAUSE)


def coded(code: str, text: str, *, success: Sequence[str] = ()) -> Callable[[bytes], ApiError | None]:
    """Return a reader of errors that are an object with a code and a text in these fields.

    An object whose code is one of `success` is no error; an empty `code` means that the exchange has no codes.
    """

    def read(body: bytes) -> ApiError | None:
        document = _object(body)
        if document is None or (code or text) not in document:
            return None
        number = str(document[code]) if code else ""
        return None if number in success else ApiError(number, str(document.get(text, "")))

    return read


def _object(body: bytes) -> dict[str, Any] | None:
    if body.lstrip()[:1] != b"{":
        return None
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except DECODE_ERRORS:
        return None


ALL_TRANSIENT: Final = RestAnswers(lambda _: None)
