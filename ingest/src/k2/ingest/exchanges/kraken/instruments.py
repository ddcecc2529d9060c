"""Kraken spot: the instrument list (docs.kraken.com, "Get Tradable Asset Pairs").

The list has the websocket's names of version 1 (`wsname`: XBT/USD); both protocols use the instrument of version 2's
name (BTC/USD). Tokenized assets are a list of their own.
"""

import msgspec

from k2.ingest.exchanges.base import MalformedFrame, Request
from k2.ingest.exchanges.instrument_rows import InstrumentSource, decode_list, read_entries
from k2.ingest.exchanges.kraken.answers import ANSWERS
from k2.schemas.records.instrument import InstrumentStatus, Listed, Rejected

_PATH = "/0/public/AssetPairs"
_STATUSES = {
    "online": InstrumentStatus.TRADING,
    "limit_only": InstrumentStatus.TRADING,
    "reduce_only": InstrumentStatus.TRADING,
    "cancel_only": InstrumentStatus.HALTED,
    "post_only": InstrumentStatus.HALTED,
    "maintenance": InstrumentStatus.HALTED,
    "delisted": InstrumentStatus.DELISTED,
}
_MOST_DECIMALS = 40


class _AssetPair(msgspec.Struct):
    altname: str
    pair_decimals: int
    lot_decimals: int
    wsname: str = ""
    lot_multiplier: int = 1
    tick_size: str = ""
    costmin: str = ""
    status: str = "online"  # lists from before 2022 have no status


class _Response(msgspec.Struct):
    error: list[str]
    result: dict[str, msgspec.Raw] = {}


_RESPONSE = msgspec.json.Decoder(_Response)
_ASSET_PAIR = msgspec.json.Decoder(_AssetPair)


def read(body: bytes) -> list[Listed | Rejected]:
    """Return the entries of a response. Raises `RestRefused`, or `MalformedFrame` for a body that is no list."""
    response = decode_list(body, _RESPONSE, ANSWERS)
    if any(not error.startswith("W") for error in response.error):
        ANSWERS.check(body)
    return list(read_entries(response.result.values(), _ASSET_PAIR, _listed, "altname"))


def _listed(entry: _AssetPair, definition: str) -> Listed | Rejected:
    if not entry.wsname:
        return Rejected(
            entry.altname, "it has no websocket name: it is traded in the dark pool, or not on the websocket"
        )
    base, separator, quote = entry.wsname.partition("/")
    if not separator:
        return Rejected(entry.wsname, "its websocket name has no '/' between base and quote")
    return Listed(
        entry.wsname,
        base,
        quote,
        _STATUSES.get(entry.status, InstrumentStatus.UNKNOWN),
        entry.tick_size or _step(entry.pair_decimals),
        _step(entry.lot_decimals, entry.lot_multiplier),
        definition,
        entry.costmin,
    )


def _step(decimals: int, multiplier: int = 1) -> str:
    if not 0 <= decimals <= _MOST_DECIMALS:
        raise MalformedFrame(f"{decimals} is no number of decimals")
    return f"{multiplier}E-{decimals}"


SOURCE = InstrumentSource((Request(_PATH, {}), Request(_PATH, {"aclass_base": "tokenized_asset"})), read)
