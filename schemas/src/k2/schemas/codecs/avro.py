"""Avro encoding: of any record by fastavro, of trades and order book messages by faster encoders of their own.

The schemas are the files in `avsc`; tests compare these encoders with fastavro, byte for byte.
"""

import json
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from importlib.resources import files
from io import BytesIO
from itertools import chain
from typing import Any, Final, cast

from fastavro import parse_schema, schemaless_reader, schemaless_writer

from k2.schemas.codecs import wire
from k2.schemas.records import book
from k2.schemas.records.book import BookKind, BookUpdate, Level
from k2.schemas.records.trade import Side, Trade, VendorData, is_ordered, message_id_prefix, message_id_suffix
from k2.schemas.states import Verdict

TRADE: Final = "trade_v3"
FIELDS: Final = (
    "message_id trade_id symbol exchange base_asset quote_currency timestamp price quantity side "
    "ingestion_timestamp vendor_data"
).split()

# Cached distinct vendor_data. Exchanges that put ids into them fill the cache once and then gain nothing from it.
_CACHE_SIZE = 4096


@cache
def text(name: str = TRADE) -> str:
    """Return the text of a schema file, as it is registered."""
    return files("k2.schemas").joinpath(f"avsc/{name}.avsc").read_text(encoding="utf-8")


@cache
def load(name: str = TRADE) -> dict[str, Any]:
    """Return a schema parsed by fastavro."""
    return cast("dict[str, Any]", parse_schema(json.loads(text(name))))


def format_of(schema: str) -> int:
    """Return the format (`k2.schemas.formats`) of the records of an Avro schema's text; 1 if it carries no number."""
    document = json.loads(schema)
    return int(document.get("k2.format", 1)) if isinstance(document, dict) else 1


def decode(body: bytes, writer: Any = None, reader: Any = None) -> dict[str, Any]:
    """Decode an Avro body without header into a record of the schema `reader`: Decimal prices, aware datetimes.

    Schemas are parsed by fastavro; without one it is the newest schema of trades.
    """
    return cast("dict[str, Any]", schemaless_reader(BytesIO(body), writer or load(), reader or load()))


class RecordEncoder:
    """Encodes records of any channel as Kafka values, by fastavro. `fields` gives a record's fields by name."""

    def __init__(self, schema_id: int, schema: Any, fields: Callable[[Any], Mapping[str, Any]]) -> None:
        self._head = wire.header(schema_id)
        self._schema = schema
        self._fields = fields

    def encode(self, record: Any) -> bytes:
        """Return the Kafka value of `record`: header and Avro body. Raises what fastavro raises for a wrong type."""
        out = BytesIO(self._head)
        out.seek(len(self._head))
        schemaless_writer(out, self._schema, self._fields(record))
        return out.getvalue()


def _long(number: int) -> bytes:
    """Encode a long as Avro's zig-zag varint."""
    return _varint((number << 1) ^ (number >> 63))


def _varint(bits: int) -> bytes:
    out = bytearray()
    while bits > 0x7F:
        out.append(bits & 0x7F | 0x80)
        bits >>= 7
    out.append(bits)
    return bytes(out)


def _string(value: str) -> bytes:
    encoded = value.encode()
    return _long(len(encoded)) + encoded


_SMALL = [_long(number) for number in range(128)]
_PAIRS = [bytes((bits & 0x7F | 0x80, bits >> 7 | 0x80)) for bits in range(1 << 14)]
_SIDES = {Side.BUY: _long(0), Side.SELL: _long(1)}
_UUID_LENGTH = _long(36)


class TradeEncoder:
    """Encodes trades as Kafka values: header and Avro body, byte for byte what fastavro writes.

    Three times as fast as the general encoder (docs/adr/0006): what repeats between trades (a symbol's fields, the
    high bits of a time, an exchange's flags) is encoded once and cached.
    """

    def __init__(self, schema_id: int) -> None:
        self._head = wire.header(schema_id) + _UUID_LENGTH
        self._exchanges = {symbol: _long(index) for index, symbol in enumerate(_enum_symbols(load(), "exchange"))}
        self._instruments: dict[tuple[str, str, int], tuple[bytes, bytes]] = {}
        self._vendors: dict[VendorData, bytes] = {}
        self._high_bits: dict[int, bytes] = {}

    def encode(self, trade: Trade) -> bytes:
        """Return the Kafka value of `trade`. Raises KeyError for an exchange that the schema does not name."""
        instrument = self._instruments.get((trade.exchange, trade.symbol, trade.listing))
        if instrument is None:
            instrument = self._cache_instrument(trade)
        prefix, constant = instrument
        text = trade.trade_id
        message_id = prefix + message_id_suffix(int(text)) if is_ordered(text) else str(trade.message_id).encode()
        trade_id = text.encode()
        vendor = self._vendors.get(trade.vendor_data)
        if vendor is None:
            vendor = self._encode_vendor(trade.vendor_data)
        price, quantity = trade.price, trade.quantity
        price_size, quantity_size = (price.bit_length() >> 3) + 1, (quantity.bit_length() >> 3) + 1
        size = len(trade_id)
        return b"".join(
            (
                self._head,
                message_id,
                _SMALL[size] if size < 128 else _long(size),
                trade_id,
                constant,
                self._time(trade.timestamp),
                _SMALL[price_size],
                price.to_bytes(price_size, "big", signed=True),
                _SMALL[quantity_size],
                quantity.to_bytes(quantity_size, "big", signed=True),
                _SIDES[trade.side],
                self._time(trade.ingestion_timestamp),
                vendor,
            )
        )

    def _time(self, micros: int) -> bytes:
        """Encode a timestamp. The bits above the lowest 28 change every 134 seconds and are cached."""
        bits = micros << 1
        high = bits >> 28
        if high <= 0:  # before 1970, or within its first 134 seconds
            return _long(micros)
        tail = self._high_bits.get(high)
        if tail is None:
            if len(self._high_bits) > _CACHE_SIZE:
                self._high_bits.clear()
            tail = self._high_bits[high] = _varint(high)
        return _PAIRS[bits & 0x3FFF] + _PAIRS[bits >> 14 & 0x3FFF] + tail

    def _cache_instrument(self, trade: Trade) -> tuple[bytes, bytes]:
        prefix = message_id_prefix(trade.exchange, trade.symbol, trade.listing)
        constant = b"".join(
            (
                _string(trade.symbol),
                self._exchanges[trade.exchange],
                _string(trade.base_asset),
                _string(trade.quote_currency),
            )
        )
        self._instruments[trade.exchange, trade.symbol, trade.listing] = prefix, constant
        return prefix, constant

    def _encode_vendor(self, vendor: VendorData) -> bytes:
        body = b"".join(_string(key) + _string(value) for key, value in vendor)
        encoded = _long(len(vendor)) + body + b"\x00" if vendor else b"\x00"
        if len(self._vendors) < _CACHE_SIZE:
            self._vendors[vendor] = encoded
        return encoded


class BookEncoder:
    """Encodes order book messages as Kafka values: header and Avro body, byte for byte what fastavro writes.

    Prices and quantities come again and again, so that their bytes are mostly cached.
    """

    def __init__(self, schema_id: int) -> None:
        self._head = wire.header(schema_id)
        self._exchanges = {
            label: _long(index) for index, label in enumerate(_enum_symbols(load(book.AVRO), "exchange"))
        }
        self._instruments: dict[tuple[str, str], bytes] = {}

    def encode(self, update: BookUpdate) -> bytes:
        """Return the Kafka value of an order book message. Raises KeyError for an exchange that the schema lacks."""
        instrument = self._instruments.get((update.exchange, update.symbol))
        if instrument is None:
            instrument = self._head + _string(update.symbol) + self._exchanges[update.exchange]
            self._instruments[update.exchange, update.symbol] = instrument
        return b"".join(
            (
                instrument,
                _optional(update.exchange_timestamp),
                _long(update.ingestion_timestamp),
                _KINDS[update.kind],
                _cached_long(update.part),
                _cached_long(update.parts),
                _optional(update.first_id),
                _optional(update.last_id),
                _optional(update.previous_id),
                _levels(update.bids),
                _levels(update.asks),
                _cached_long(update.price_exponent),
                _cached_long(update.quantity_exponent),
                _string(update.connection),
                _long(update.ordinal),
                _VERDICTS[update.verdict],
                _optional(update.clock_offset_ms),
            )
        )


_KINDS = {kind: _string(kind.value) for kind in BookKind}
_VERDICTS = {verdict: _string(verdict.value) for verdict in Verdict}
_cached_long = lru_cache(32_768)(_long)  # some 6 MB


def _optional(number: int | None) -> bytes:
    """Encode a union of null and long."""
    return b"\x00" if number is None else b"\x02" + _long(number)


def _levels(levels: tuple[Level, ...]) -> bytes:
    """Encode an array of records of two longs."""
    if not levels:
        return b"\x00"
    return _cached_long(len(levels)) + b"".join(map(_cached_long, chain.from_iterable(levels))) + b"\x00"


def _enum_symbols(schema: dict[str, Any], field: str) -> list[str]:
    symbols: list[str] = next(entry for entry in schema["fields"] if entry["name"] == field)["type"]["symbols"]
    return symbols
