"""Reading instrument lists: each entry on its own, so that one that cannot be read costs no other. Pure."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import msgspec

from k2.ingest.exchanges.answers import RestAnswers
from k2.ingest.exchanges.base import DECODE_ERRORS, MalformedFrame, Request
from k2.schemas.records.instrument import Listed, Rejected

Entry = TypeVar("Entry")
_UNNAMED: Final = "?"


@dataclass(frozen=True, slots=True)
class InstrumentSource:
    """How an exchange lists its instruments: the requests, which together give all, and the reader of a response.

    `read` raises `RestRefused` for an error of the exchange, and `MalformedFrame` for a body that is no list.
    """

    requests: tuple[Request, ...]
    read: Callable[[bytes], list[Listed | Rejected]]


def decode_list(body: bytes, decoder: msgspec.json.Decoder[Entry], answers: RestAnswers) -> Entry:
    """Decode a response. Raises `RestRefused` if it is an error of the exchange, `MalformedFrame` if it is no list."""
    try:
        return decoder.decode(body)
    except DECODE_ERRORS as error:
        answers.check(body)
        raise MalformedFrame(str(error)) from error


def read_entries(
    raws: Iterable[msgspec.Raw],
    decoder: msgspec.json.Decoder[Entry],
    build: Callable[[Entry, str], Listed | Rejected],
    name_at: str,
) -> Iterator[Listed | Rejected]:
    """Yield the entries of a list. `build` takes an entry and its JSON text; `name_at` is the key of its name."""
    for raw in raws:
        try:
            yield build(decoder.decode(raw), bytes(raw).decode())
        except (*DECODE_ERRORS, MalformedFrame) as error:
            yield Rejected(_name(raw, name_at), f"its entry in the exchange's list is not readable: {str(error)[:200]}")


def _name(raw: msgspec.Raw, name_at: str) -> str:
    try:
        entry: Any = msgspec.json.decode(raw)
    except DECODE_ERRORS:
        return _UNNAMED
    return str(entry.get(name_at, _UNNAMED))[:40] if isinstance(entry, dict) else _UNNAMED
