"""Validation of single Kafka records without Spark: a trade with Gold's columns, or the category of the error.

The rules are those of `k2.schemas.validation`; decoding follows Spark's. A test compares the results with Silver's.
"""

import json
from collections.abc import Mapping
from functools import lru_cache
from io import BytesIO
from operator import itemgetter
from struct import error as StructError  # noqa: N812 - it is an exception
from typing import Any, Final, NamedTuple

from fastavro import parse_schema, schemaless_reader
from fastavro.read import SchemaResolutionError

from k2.schemas.codecs import avro, wire
from k2.schemas.validation import RULES, TEXT_FIELDS, ErrorCategory

_MAX_UNITS: Final = 10**18  # decimal(18,8), in units of 10**-8
_UNREADABLE: Final = (
    *(ValueError, TypeError, KeyError, IndexError, AttributeError, EOFError, OverflowError, MemoryError),
    *(RecursionError, StopIteration, StructError, SchemaResolutionError),
)
# Spark's JSON strings: only what must be escaped is, with upper-case hexadecimal digits.
_ESCAPES: Final = str.maketrans(
    {chr(code): f"\\u{code:04X}" for code in range(32)}
    | {"\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r", '"': '\\"', "\\": "\\\\"}
)


class ValidTrade(NamedTuple):
    """A valid trade, with Gold's columns: times in UTC microseconds, decimals in units of 10**-8."""

    message_id: str
    trade_id: str
    symbol: str
    exchange: str
    base_asset: str
    quote_currency: str
    timestamp: int
    price: int
    quantity: int
    side: str
    ingestion_timestamp: int
    vendor_data: str


class Validator:
    """Validates the records of one topic, by its writer schemas (by id) and the label of its trades' exchange."""

    def __init__(self, schemas: Mapping[int, str], exchange: str) -> None:
        newest = _without_logical_types(avro.text())
        parsed = {schema_id: _without_logical_types(text) for schema_id, text in schemas.items()}
        self._schemas = {number: (writer, None if writer == newest else newest) for number, writer in parsed.items()}
        self._exchange = exchange

    def has_schema(self, value: bytes | None) -> bool:
        """Return whether the schema named by a record's header is one of `schemas`; True if the header is malformed."""
        try:
            return wire.split(value or b"")[0] in self._schemas
        except wire.MalformedHeader:
            return True

    def validate(self, value: bytes | None, key: bytes | None, timestamp: int) -> ValidTrade | str:
        """Return the trade, or the category of the first broken rule. `timestamp` is Kafka's, in UTC microseconds."""
        try:
            schema_id, body = wire.split(value or b"")
        except wire.MalformedHeader:
            return ErrorCategory.MALFORMED_HEADER
        if schema_id not in self._schemas:
            return ErrorCategory.UNKNOWN_SCHEMA
        try:
            row = _row(body, *self._schemas[schema_id])
        except _UNREADABLE:
            return ErrorCategory.UNDECODABLE
        fields = _TradeValues(row, key, timestamp, self._exchange)
        return next((rule.category for rule in RULES if rule.broken(fields)), row)


_TEXTS: Final = itemgetter(*(place for place, name in enumerate(ValidTrade._fields) if name in TEXT_FIELDS))


class _TradeValues:
    """`TradeFields` as the values of one record."""

    __slots__ = (
        *("_row", "exchange", "expected_exchange", "kafka_timestamp", "key"),
        *("pair", "price", "quantity", "symbol", "timestamp"),
    )

    def __init__(self, row: ValidTrade, key: bytes | None, kafka_timestamp: int, expected_exchange: str) -> None:
        self._row = row
        self.exchange = row.exchange
        self.expected_exchange = expected_exchange
        self.symbol = row.symbol
        self.pair = row.base_asset + row.quote_currency
        self.key = row.symbol if key is None else key.decode(errors="surrogateescape")
        self.price = row.price
        self.quantity = row.quantity
        self.timestamp = row.timestamp
        self.kafka_timestamp = kafka_timestamp

    def has_missing(self) -> bool:
        """Return whether a text is empty; no field of the newest schema is nullable."""
        return "" in _TEXTS(self._row)


def _row(body: bytes, writer: Any, reader: Any) -> ValidTrade:
    record: Any = schemaless_reader(BytesIO(body), writer, reader, handle_unicode_errors="replace")
    return ValidTrade(
        record["message_id"],
        record["trade_id"],
        record["symbol"],
        record["exchange"],
        record["base_asset"],
        record["quote_currency"],
        record["timestamp"],
        _units(record["price"]),
        _units(record["quantity"]),
        record["side"],
        record["ingestion_timestamp"],
        _json(tuple(record["vendor_data"].items())),
    )


def _units(raw: bytes) -> int:
    """Return a decimal's units as Spark reads them: of values longer than a long, the lowest 64 bits."""
    if not raw:
        raise ValueError("decimal without digits")
    units = int.from_bytes(raw[-8:], "big", signed=True)
    if abs(units) >= _MAX_UNITS:
        raise ValueError("decimal exceeds 18 digits")
    return units


@lru_cache(maxsize=4096)
def _json(vendor: tuple[tuple[str, str], ...]) -> str:
    values = dict(vendor)
    pairs = (f'"{key.translate(_ESCAPES)}":"{values[key].translate(_ESCAPES)}"' for key in _ordered(tuple(values)))
    return "{" + ",".join(pairs) + "}"


@lru_cache(maxsize=1024)
def _ordered(keys: tuple[str, ...]) -> tuple[str, ...]:
    """Return keys in the order of Java's HashMap, in which Spark reads a map."""
    size = 16
    while len(keys) > size * 3 // 4:
        size *= 2
    return tuple(sorted(keys, key=lambda key: _bucket(key.encode(), size)))


def _bucket(key: bytes, size: int) -> int:
    number = 1
    for byte in key:
        number = (number * 31 + (byte if byte < 128 else byte - 256)) & 0xFFFFFFFF
    return (number ^ number >> 16) & (size - 1)


def _without_logical_types(text: str) -> Any:
    """Return a schema without logical types, so that decoding yields plain numbers and bytes."""

    def strip(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: strip(value) for key, value in node.items() if key != "logicalType"}
        return [strip(value) for value in node] if isinstance(node, list) else node

    return parse_schema(strip(json.loads(text)))
