"""Silver's rules for one Kafka record, without Spark: a trade as Gold holds it, or the first rule that it breaks.

What a record becomes depends on nothing but the record and the registered schemas. A test gives the same records to
Silver and holds the verdicts together.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from io import BytesIO
from struct import error as StructError  # noqa: N812 - it is an exception
from typing import Any, Final, NamedTuple

from fastavro import parse_schema, schemaless_reader
from fastavro.read import SchemaResolutionError

from k2.schemas.codecs import avro, wire
from k2.schemas.values import to_micros

FUTURE: Final = 60_000_000  # microseconds that a trade may be ahead of its Kafka record
GENESIS: Final = to_micros(datetime(2009, 1, 3, tzinfo=UTC))  # Bitcoin's first block; nothing was traded before
_MOST: Final = 10**18  # decimal(18,8), in units of 10**-8
_UNREADABLE: Final = (
    *(ValueError, TypeError, KeyError, IndexError, AttributeError, EOFError, OverflowError, MemoryError),
    *(RecursionError, StopIteration, StructError, SchemaResolutionError),
)
# How Spark writes JSON strings: nothing is escaped that need not be, and hexadecimal digits are large.
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
    """Judges the records of one topic. `schemas` are its writer schemas by id, `exchange` the label of its trades."""

    def __init__(self, schemas: Mapping[int, str], exchange: str) -> None:
        newest = _bare(avro.text())
        parsed = {schema_id: _bare(text) for schema_id, text in schemas.items()}
        self._schemas = {number: (writer, None if writer == newest else newest) for number, writer in parsed.items()}
        self._exchange = exchange

    def has_schema(self, value: bytes | None) -> bool:
        """Whether the schema that a record's header names is among those it judges by; True if it names none."""
        try:
            return wire.split(value or b"")[0] in self._schemas
        except wire.MalformedHeader:
            return True

    def validate(self, value: bytes | None, key: bytes | None, timestamp: int) -> ValidTrade | str:
        """The trade, or the category of the first rule that is broken. `timestamp` is Kafka's, in microseconds."""
        try:
            schema_id, body = wire.split(value or b"")
        except wire.MalformedHeader:
            return "MALFORMED_HEADER"
        if schema_id not in self._schemas:
            return "UNKNOWN_SCHEMA"
        try:
            row = _row(body, *self._schemas[schema_id])
        except _UNREADABLE:
            return "UNDECODABLE"
        return self._broken(row, key, timestamp) or row

    def _broken(self, row: ValidTrade, key: bytes | None, timestamp: int) -> str:
        texts = row.trade_id and row.symbol and row.exchange and row.base_asset and row.quote_currency and row.side
        misplaced = key is not None and key != row.symbol.encode()
        rules = (
            ("MISSING_FIELD", not texts),
            ("UNKNOWN_EXCHANGE", row.exchange != self._exchange),
            ("SYMBOL_MISMATCH", misplaced or row.symbol != row.base_asset + row.quote_currency),
            ("NON_POSITIVE_PRICE", row.price <= 0),
            ("NON_POSITIVE_QUANTITY", row.quantity <= 0),
            ("FUTURE_TIMESTAMP", row.timestamp > timestamp + FUTURE),
            ("IMPLAUSIBLE_TIMESTAMP", row.timestamp < GENESIS),
        )
        return next((category for category, broken in rules if broken), "")


def _row(body: bytes, writer: Any, reader: Any) -> ValidTrade:
    found: Any = schemaless_reader(BytesIO(body), writer, reader, handle_unicode_errors="replace")
    return ValidTrade(
        found["message_id"],
        found["trade_id"],
        found["symbol"],
        found["exchange"],
        found["base_asset"],
        found["quote_currency"],
        found["timestamp"],
        _units(found["price"]),
        _units(found["quantity"]),
        found["side"],
        found["ingestion_timestamp"],
        _json(tuple(found["vendor_data"].items())),
    )


def _units(raw: bytes) -> int:
    """A decimal's units as Spark reads them: of what is longer than a long, its lowest 64 bits."""
    if not raw:
        raise ValueError("a decimal without digits")
    units = int.from_bytes(raw[-8:], "big", signed=True)
    if abs(units) >= _MOST:
        raise ValueError("more digits than decimal(18,8) holds")
    return units


@lru_cache(maxsize=4096)
def _json(vendor: tuple[tuple[str, str], ...]) -> str:
    told = dict(vendor)
    pairs = (f'"{key.translate(_ESCAPES)}":"{told[key].translate(_ESCAPES)}"' for key in _ordered(tuple(told)))
    return "{" + ",".join(pairs) + "}"


@lru_cache(maxsize=1024)
def _ordered(keys: tuple[str, ...]) -> tuple[str, ...]:
    """Keys in the order of Java's HashMap, in which Spark reads a map."""
    size = 16
    while len(keys) > size * 3 // 4:
        size *= 2
    return tuple(sorted(keys, key=lambda key: _bucket(key.encode(), size)))


def _bucket(key: bytes, size: int) -> int:
    number = 1
    for byte in key:
        number = (number * 31 + (byte if byte < 128 else byte - 256)) & 0xFFFFFFFF
    return (number ^ number >> 16) & (size - 1)


def _bare(text: str) -> Any:
    """A schema without its logical types: what is read are the numbers and bytes themselves."""

    def strip(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: strip(value) for key, value in node.items() if key != "logicalType"}
        return [strip(value) for value in node] if isinstance(node, list) else node

    return parse_schema(strip(json.loads(text)))
