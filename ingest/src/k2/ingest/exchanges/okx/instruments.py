"""OKX v5 spot: the instrument list (okx.com/docs-v5, "Get instruments")."""

import msgspec

from k2.ingest.exchanges.base import Request, millis_text
from k2.ingest.exchanges.instrument_rows import InstrumentSource, decode_list, read_entries
from k2.ingest.exchanges.okx.answers import ANSWERS
from k2.schemas.records.instrument import InstrumentStatus, Listed, Rejected

_STATUSES = {
    "live": InstrumentStatus.TRADING,
    "preopen": InstrumentStatus.ANNOUNCED,
    "suspend": InstrumentStatus.HALTED,
    "post_only": InstrumentStatus.HALTED,
    "rebase": InstrumentStatus.HALTED,
}


class _Symbol(msgspec.Struct):
    name: str = msgspec.field(name="instId")
    kind: str = msgspec.field(name="instType")
    base: str = msgspec.field(name="baseCcy")
    quote: str = msgspec.field(name="quoteCcy")
    state: str
    tick_size: str = msgspec.field(name="tickSz", default="")
    lot_size: str = msgspec.field(name="lotSz", default="")
    listed_at: str = msgspec.field(name="listTime", default="")


class _Response(msgspec.Struct):
    data: list[msgspec.Raw]
    code: str


_RESPONSE = msgspec.json.Decoder(_Response)
_SYMBOL = msgspec.json.Decoder(_Symbol)


def read(body: bytes) -> list[Listed | Rejected]:
    """Return the entries of a response. Raises `RestRefused`, or `MalformedFrame` for a body that is no list."""
    response = decode_list(body, _RESPONSE, ANSWERS)
    if response.code != "0":
        ANSWERS.check(body)
    return list(read_entries(response.data, _SYMBOL, _listed, "instId"))


def _listed(entry: _Symbol, definition: str) -> Listed | Rejected:
    if entry.kind != "SPOT":
        return Rejected(entry.name, f"it is no spot instrument but {entry.kind}")
    if entry.state == "test":
        return Rejected(entry.name, "it is an instrument of the exchange's own tests")
    return Listed(
        entry.name,
        entry.base,
        entry.quote,
        _STATUSES.get(entry.state, InstrumentStatus.UNKNOWN),
        entry.tick_size,
        entry.lot_size,
        definition,
        listed_at=millis_text(entry.listed_at) if entry.listed_at else None,
    )


SOURCE = InstrumentSource((Request("/api/v5/public/instruments", {"instType": "SPOT"}),), read)
