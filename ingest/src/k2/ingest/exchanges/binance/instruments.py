"""Binance spot: the instrument list (developers.binance.com, "General endpoints", Exchange information)."""

from typing import Any

import msgspec

from k2.ingest.exchanges.base import Request
from k2.ingest.exchanges.binance.answers import ANSWERS
from k2.ingest.exchanges.instrument_rows import InstrumentSource, decode_list, read_entries
from k2.schemas.records.instrument import InstrumentStatus, Listed, Rejected

_STATUSES = {
    "TRADING": InstrumentStatus.TRADING,
    "PENDING_TRADING": InstrumentStatus.ANNOUNCED,
    "PRE_TRADING": InstrumentStatus.ANNOUNCED,
    "POST_TRADING": InstrumentStatus.HALTED,
    "END_OF_DAY": InstrumentStatus.HALTED,
    "HALT": InstrumentStatus.HALTED,
    "AUCTION_MATCH": InstrumentStatus.HALTED,
    "BREAK": InstrumentStatus.HALTED,
}
_NOTIONAL = ("NOTIONAL", "MIN_NOTIONAL")  # the newer filter first


class _Symbol(msgspec.Struct):
    symbol: str
    status: str
    base: str = msgspec.field(name="baseAsset")
    quote: str = msgspec.field(name="quoteAsset")
    filters: list[dict[str, Any]] = []


class _Response(msgspec.Struct):
    symbols: list[msgspec.Raw]


_RESPONSE = msgspec.json.Decoder(_Response)
_SYMBOL = msgspec.json.Decoder(_Symbol)


def read(body: bytes) -> list[Listed | Rejected]:
    """Return the entries of a response. Raises `RestRefused`, or `MalformedFrame` for a body that is no list."""
    response = decode_list(body, _RESPONSE, ANSWERS)
    return list(read_entries(response.symbols, _SYMBOL, _listed, "symbol"))


def _listed(entry: _Symbol, definition: str) -> Listed:
    return Listed(
        entry.symbol,
        entry.base,
        entry.quote,
        _STATUSES.get(entry.status, InstrumentStatus.UNKNOWN),
        _value(entry, "tickSize", "PRICE_FILTER"),
        _value(entry, "stepSize", "LOT_SIZE"),
        definition,
        _value(entry, "minNotional", *_NOTIONAL),
    )


def _value(entry: _Symbol, name: str, *kinds: str) -> str:
    filters = {each.get("filterType"): each for each in entry.filters}
    return next((str(filters[kind][name]) for kind in kinds if name in filters.get(kind, ())), "")


SOURCE = InstrumentSource((Request("/api/v3/exchangeInfo", {"showPermissionSets": "false"}, weight=20),), read)
