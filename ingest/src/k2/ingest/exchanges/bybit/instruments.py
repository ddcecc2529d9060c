"""Bybit v5 spot: the instrument list (bybit-exchange.github.io/docs/v5, "Get Instruments Info"). Spot has no pages."""

import msgspec

from k2.ingest.exchanges.base import Request
from k2.ingest.exchanges.bybit.answers import ANSWERS
from k2.ingest.exchanges.instrument_rows import InstrumentSource, decode_list, read_entries
from k2.schemas.records.instrument import InstrumentStatus, Listed, Rejected

_STATUSES = {
    "PreLaunch": InstrumentStatus.ANNOUNCED,
    "PendingOpen": InstrumentStatus.ANNOUNCED,
    "Trading": InstrumentStatus.TRADING,
    "Settling": InstrumentStatus.HALTED,
    "Delivering": InstrumentStatus.HALTED,
    "Closed": InstrumentStatus.DELISTED,
}


class _LotFilter(msgspec.Struct, rename="camel"):
    base_precision: str = ""
    min_order_amt: str = ""


class _PriceFilter(msgspec.Struct, rename="camel"):
    tick_size: str = ""


class _Symbol(msgspec.Struct, rename="camel"):
    symbol: str
    base_coin: str
    quote_coin: str
    status: str
    lot_size_filter: _LotFilter = msgspec.field(default_factory=_LotFilter)
    price_filter: _PriceFilter = msgspec.field(default_factory=_PriceFilter)


class _Result(msgspec.Struct):
    list: list[msgspec.Raw]


class _Response(msgspec.Struct):
    result: _Result


_RESPONSE = msgspec.json.Decoder(_Response)
_SYMBOL = msgspec.json.Decoder(_Symbol)


def read(body: bytes) -> list[Listed | Rejected]:
    """Return the entries of a response. Raises `RestRefused`, or `MalformedFrame` for a body that is no list."""
    response = decode_list(body, _RESPONSE, ANSWERS)
    return list(read_entries(response.result.list, _SYMBOL, _listed, "symbol"))


def _listed(entry: _Symbol, definition: str) -> Listed:
    return Listed(
        entry.symbol,
        entry.base_coin,
        entry.quote_coin,
        _STATUSES.get(entry.status, InstrumentStatus.UNKNOWN),
        entry.price_filter.tick_size,
        entry.lot_size_filter.base_precision,
        definition,
        entry.lot_size_filter.min_order_amt,
    )


SOURCE = InstrumentSource((Request("/v5/market/instruments-info", {"category": "spot"}),), read)
