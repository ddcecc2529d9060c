"""Validation of single Kafka records without Spark: a row of the channel, or the category of the error.

The rules are the channel's, over `RecordFields`; a test compares the results with Silver's.
"""

from __future__ import annotations

import json
from functools import cache
from io import BytesIO
from operator import itemgetter
from struct import error as StructError  # noqa: N812 - it is an exception
from typing import TYPE_CHECKING, Any, Final

from fastavro import parse_schema, schemaless_reader
from fastavro.read import SchemaResolutionError

from k2.query.kafka.row_types import converters, row_type
from k2.schemas.codecs import wire
from k2.schemas.validation import ErrorCategory

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from k2.query.kafka.row_types import Row
    from k2.schemas.channels import Channel

_UNREADABLE: Final = (
    *(ValueError, TypeError, KeyError, IndexError, AttributeError, EOFError, OverflowError, MemoryError),
    *(RecursionError, StopIteration, StructError, SchemaResolutionError),
)


class Validator:
    """Validates the records of one topic.

    Args:
        channel: The channel of the topic.
        schemas: The texts of the topic's writer schemas, by id.
        exchange: The label of the topic's exchange.

    """

    def __init__(self, channel: Channel, schemas: Mapping[int, str], exchange: str) -> None:
        newest = _newest(channel)
        parsed = {schema_id: _without_logical_types(text) for schema_id, text in schemas.items()}
        self._schemas = {number: (writer, None if writer == newest else newest) for number, writer in parsed.items()}
        self._converters = converters(channel)
        self._values = itemgetter(*channel.column_names)
        self._make = row_type(channel)._make
        self._rules = [(rule.broken, rule.category) for rule in channel.rules]
        self._nullable = _nullable_columns(channel)
        self._fields = _fields_type(channel, exchange)

    def has_schema(self, value: bytes | None) -> bool:
        """Return whether the schema named by a record's header is one of `schemas`; True if the header is malformed."""
        try:
            return wire.split(value or b"")[0] in self._schemas
        except wire.MalformedHeader:
            return True

    def validate(self, value: bytes | None, key: bytes | None, timestamp: int) -> Row | str:
        """Return the row, or the category of the first broken rule. `timestamp` is Kafka's, in UTC microseconds."""
        try:
            schema_id, body = wire.split(value or b"")
        except wire.MalformedHeader:
            return ErrorCategory.MALFORMED_HEADER
        schemas = self._schemas.get(schema_id)
        if schemas is None:
            return ErrorCategory.UNKNOWN_SCHEMA
        try:
            record: Any = schemaless_reader(BytesIO(body), *schemas, handle_unicode_errors="replace")
            for name, convert in self._converters:
                record[name] = convert(record[name])
            row: Row = self._make(self._values(record))
        except _UNREADABLE:
            return ErrorCategory.UNDECODABLE
        fields = self._fields(record)
        for column in self._nullable:
            if record[column] is None:
                fields[column] = _NULL
        fields.key = record["symbol"] if key is None else key.decode(errors="surrogateescape")
        fields.kafka_timestamp = timestamp
        for broken, category in self._rules:
            if broken(fields):
                return category
        return row


class _Null:
    """SQL's null: comparisons and sums with it are null, `|` is true where the other side is, and it is not true."""

    __slots__ = ()

    def _null(self, _other: object) -> _Null:
        return self

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _null  # type: ignore[assignment]
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _null
    __hash__ = object.__hash__

    def __bool__(self) -> bool:
        return False

    def __or__(self, other: Any) -> Any:
        return other or self

    __ror__ = __or__


_NULL: Final = _Null()


class _Fields(dict[str, Any]):
    """`RecordFields` as the values of one record: its columns, with `_NULL` for a null.

    A dictionary, because rules read columns often and its own lookup is the fastest.
    """

    __slots__ = ("kafka_timestamp", "key")
    kafka_timestamp: int
    key: Any
    expected_exchange: str
    texts: Callable[[Any], tuple[str, ...]]
    required: tuple[str, ...]  # columns that are never null in Gold and may be null in Avro

    def concat(self, *columns: str) -> Any:
        """Return the values of text columns as one text; null if one of them is."""
        try:
            return "".join([self[column] for column in columns])
        except TypeError:
            return _NULL

    def has_missing(self) -> bool:
        """Return whether a required column is null, or a text empty."""
        return "" in self.texts(self) or (bool(self.required) and _NULL in map(self.get, self.required))


def _fields_type(channel: Channel, exchange: str) -> type[_Fields]:
    """Return the type of the fields of one topic's records; what is the same for all of them is in the class."""
    first, *others = sorted(channel.text_columns)

    class TopicFields(_Fields):
        __slots__ = ()
        expected_exchange = exchange
        texts = staticmethod(itemgetter(first, first, *others))  # twice, so that it gives a tuple even of one column
        required = tuple(column for column in _nullable_columns(channel) if column in channel.required_columns)

    return TopicFields


@cache
def _nullable_columns(channel: Channel) -> tuple[str, ...]:
    """Return the columns that may be null in Avro."""
    types = {field["name"]: field["type"] for field in _newest(channel)["fields"]}
    nullable = {name for name, avro_type in types.items() if isinstance(avro_type, list) and "null" in avro_type}
    return tuple(column for column in channel.column_names if column in nullable)


@cache
def _newest(channel: Channel) -> Any:
    return _without_logical_types(channel.schema)


def _without_logical_types(text: str) -> Any:
    """Return a schema without logical types, so that decoding yields plain numbers and bytes."""

    def strip(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: strip(value) for key, value in node.items() if key != "logicalType"}
        return [strip(value) for value in node] if isinstance(node, list) else node

    return parse_schema(strip(json.loads(text)))
