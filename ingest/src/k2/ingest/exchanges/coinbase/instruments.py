"""Coinbase Exchange: the instrument list (docs.cdp.coinbase.com, "Get all known trading pairs")."""

import msgspec

from k2.ingest.exchanges.base import Request
from k2.ingest.exchanges.coinbase.answers import ANSWERS
from k2.ingest.exchanges.instrument_rows import InstrumentSource, decode_list, read_entries
from k2.ingest.exchanges.rows import RAW_ROWS
from k2.schemas.records.instrument import InstrumentStatus, Listed, Rejected

_STATUSES = {
    "online": InstrumentStatus.TRADING,
    "offline": InstrumentStatus.HALTED,
    "internal": InstrumentStatus.HALTED,
    "delisted": InstrumentStatus.DELISTED,
}


class _Product(msgspec.Struct):
    id: str
    base_currency: str
    quote_currency: str
    status: str
    quote_increment: str = ""
    base_increment: str = ""
    min_market_funds: str = ""
    trading_disabled: bool = False
    cancel_only: bool = False
    post_only: bool = False


_PRODUCT = msgspec.json.Decoder(_Product)


def read(body: bytes) -> list[Listed | Rejected]:
    """Return the entries of a response. Raises `RestRefused`, or `MalformedFrame` for a body that is no list."""
    raws = decode_list(body, RAW_ROWS, ANSWERS)
    return list(read_entries(raws, _PRODUCT, _listed, "id"))


def _listed(entry: _Product, definition: str) -> Listed:
    status = _STATUSES.get(entry.status, InstrumentStatus.UNKNOWN)
    if status is InstrumentStatus.TRADING and (entry.trading_disabled or entry.cancel_only or entry.post_only):
        status = InstrumentStatus.HALTED
    return Listed(
        entry.id,
        entry.base_currency,
        entry.quote_currency,
        status,
        entry.quote_increment,
        entry.base_increment,
        definition,
        entry.min_market_funds,
    )


SOURCE = InstrumentSource((Request("/products", {}),), read)
