"""Silver: every Bronze row becomes a typed record or a dead letter with the first rule that it breaks.

DataFrames in, DataFrames out, native functions only. The rules are the channel's. The result depends only on the row
and the registered schemas, not on the clock or the batch, so a rebuild gives the same rows.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, reduce
from operator import and_, or_
from string import Formatter
from typing import Any, Final

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom
from pyspark.sql.avro.functions import from_avro

from k2.jobs.layers import batch_time
from k2.jobs.layers.wire_columns import avro_body, binary, value_header
from k2.schemas.channels import Channel
from k2.schemas.codecs import wire
from k2.schemas.validation import ErrorCategory

_MAX_INT: Final = 2**31 - 1
_KAFKA: Final = ("topic", "partition", "offset")


class _RecordColumns:
    """`RecordFields` as Spark columns of a decoded row."""

    def __init__(self, channel: Channel, exchange: str) -> None:
        self._channel = channel
        self._record = F.col("record")
        self._types = {column.name: column.type for column in channel.columns}
        self.expected_exchange = exchange
        self.key = F.coalesce(F.col("key").cast("string"), self._record["symbol"])
        self.kafka_timestamp = F.unix_micros(F.col("kafka_timestamp"))

    def __getitem__(self, column: str) -> Column:
        value = self._record[column]
        return F.unix_micros(value) if self._types[column] == "timestamp" else value

    def concat(self, *columns: str) -> Column:
        return F.concat(*(self._record[name] for name in columns))

    def has_missing(self) -> Column:
        return reduce(or_, self._missing().values())

    def message(self, template: str) -> Column:
        """Return the text of a rule's `message`."""
        parts: list[Column] = []
        for text, field, _, _ in Formatter().parse(template):
            if text:
                parts.append(F.lit(text))
            if field is not None:
                parts.append(self._text(field))
        return F.concat(*parts)

    def _missing(self) -> dict[str, Column]:
        """Return, for each column that may be missing, the condition that it is."""
        texts, required = self._channel.text_columns, frozenset(self._channel.required_columns)
        conditions: dict[str, Column] = {}
        for name in self._channel.column_names:
            tests = [self._record[name].isNull()] if name in required else []
            tests += [self._record[name] == ""] if name in texts else []
            if tests:
                conditions[name] = reduce(or_, tests)
        return conditions

    def _text(self, field: str) -> Column:
        """Return a field of a message as text: a column of the record, or one of the further names."""
        null = F.lit("null")
        match field:
            case "key":
                return F.coalesce(F.col("key").cast("string"), null)
            case "expected_exchange":
                return F.lit(self.expected_exchange)
            case "missing":
                return F.concat_ws(" ", *(F.when(missing, F.lit(name)) for name, missing in self._missing().items()))
        text = self._record[field].cast("string")
        return text if field in self._channel.required_columns else F.coalesce(text, null)


@dataclass(frozen=True, slots=True)
class _Expressions:
    """The columns that decode and validate a row, built once per schema set: each is hundreds of calls into the JVM."""

    schema_id: Column
    record: Column
    broken: Column
    category: Column
    message: Column


@dataclass(frozen=True, slots=True)
class _Check:
    """One reason for a dead letter: its category, the condition, and the explanation."""

    category: str
    broken: Column
    message: Column


def validated(bronze: DataFrame, channel: Channel, schemas: Mapping[int, str], exchange: str) -> DataFrame:
    """Return Bronze rows with their record's columns, `schema_id`, and `error_category` (null for a valid record).

    `schemas` are the registered writer schemas by id; `exchange` is the label of the topics' records.
    """
    expressions = _expressions(tuple(schemas.items()), channel, exchange)
    with_id = bronze.select("*", expressions.schema_id.alias("schema_id"))
    # A generator of one: the optimiser must not copy the decoding into each of the rules that use its result.
    decoded = with_id.select("*", F.explode(F.array(expressions.record)).alias("record"))
    return decoded.select("*", expressions.broken.alias("broken")).select(
        *(f"record.{name}" for name in channel.column_names),
        "schema_id",
        *_KAFKA,
        "bronze_timestamp",
        "value",
        expressions.category.alias("error_category"),
        expressions.message.alias("error_message"),
    )


@lru_cache(maxsize=64)
def _expressions(schemas: tuple[tuple[int, str], ...], channel: Channel, exchange: str) -> _Expressions:
    by_id = dict(schemas)
    checks = list(enumerate(_checks(by_id, channel, exchange)))
    return _Expressions(
        _schema_id(by_id),
        _decoded(by_id, channel),
        broken=_first((check.broken, F.lit(number)) for number, check in checks),
        category=_first((F.col("broken") == number, F.lit(check.category)) for number, check in checks),
        message=_first((F.col("broken") == number, check.message) for number, check in checks),
    )


def keys(bronze: DataFrame, channel: Channel, schemas: Mapping[int, str]) -> DataFrame:
    """Return identity, time, content and Kafka position of Bronze rows; nulls where a row cannot be decoded.

    No other column is decoded, which takes a fraction of the time. Rows that break a rule are among them.
    """
    names = (*channel.identity, *channel.time_columns, *channel.content)
    with_id = bronze.select(*_KAFKA, "value", _schema_id(schemas).alias("schema_id"))
    decoded = with_id.select(*_KAFKA, F.explode(F.array(_decoded_keys(schemas, channel, names))).alias("record"))
    return decoded.select(*_KAFKA, *(F.col(f"record.{name}") for name in dict.fromkeys(names)))


def _decoded_keys(schemas: Mapping[int, str], channel: Channel, names: Iterable[str]) -> Column:
    document, selected = json.loads(channel.schema), frozenset(names)
    document["fields"] = [field for field in document["fields"] if field["name"] in selected]
    options, body = {"mode": "PERMISSIVE", "avroSchema": json.dumps(document)}, avro_body()
    readers = {
        schema_id: from_avro(body, text, options)
        if _has_same_decimals(text, channel)
        else F.struct(*(_converted(body, text, channel)[field["name"]] for field in document["fields"]))
        for schema_id, text in schemas.items()
    }
    return _first((F.col("schema_id") == schema_id, reader) for schema_id, reader in readers.items())


def records(rows: DataFrame, channel: Channel) -> DataFrame:
    """Return the valid rows with Silver's columns."""
    return rows.where("error_category IS NULL").select(
        *channel.column_names,
        "schema_id",
        *_KAFKA,
        "bronze_timestamp",
        batch_time.now().alias("validation_timestamp"),
    )


def dead_letters(rows: DataFrame, channel: Channel, exchange: str) -> DataFrame:
    """Return the invalid rows with their complete value and what is wrong with them."""
    return rows.where("error_category IS NOT NULL").select(
        "value",
        F.lit(exchange).alias("exchange"),
        F.lit(channel.name).alias("channel"),
        *_KAFKA,
        "schema_id",
        "error_category",
        "error_message",
        batch_time.now().alias("dead_lettered_at"),
    )


def _checks(schemas: Mapping[int, str], channel: Channel, exchange: str) -> list[_Check]:
    """Return the checks of header, schema and decoding, then the channel's rules, in the order of evaluation."""
    record, fields = F.col("record"), _RecordColumns(channel, exchange)
    schema_id = F.coalesce(F.col("schema_id").cast("string"), F.lit(f"above {_MAX_INT}"))
    return [
        _Check(
            ErrorCategory.MALFORMED_HEADER.value,
            ~_has_header(),
            F.lit("the value does not begin with 0x00 and a schema id"),
        ),
        _Check(
            ErrorCategory.UNKNOWN_SCHEMA.value,
            ~F.coalesce(F.col("schema_id").isin(list(schemas)), F.lit(False)),
            F.concat(F.lit("the registry has no schema "), schema_id, F.lit(" for this topic")),
        ),
        _Check(
            ErrorCategory.UNDECODABLE.value,
            # Every column is null then. Testing only some that are never null otherwise keeps the generated code small.
            reduce(and_, (record[name].isNull() for name in (*channel.identity, channel.time_columns[-1]))),
            F.lit("the bytes after the header are not a record of their schema"),
        ),
        *(_Check(str(rule.category), rule.broken(fields), fields.message(rule.message)) for rule in channel.rules),
    ]


def _first(cases: Iterable[tuple[Column, Column]]) -> Column:
    """Return the value of the first case whose condition is true; null if none is. A null condition is not true."""
    (condition, value), *others = cases
    chain = F.when(condition, value)
    for condition, value in others:
        chain = chain.when(condition, value)
    return chain


def _has_header() -> Column:
    value = F.col("value")
    magic = F.substring(value, 1, 1) == binary(bytes([wire.MAGIC]))
    return F.coalesce((F.length(value) >= wire.HEADER_SIZE) & magic, F.lit(False))


def _schema_id(schemas: Mapping[int, str]) -> Column:
    """Return the id in the header: registered ids by comparison, which is faster, others by arithmetic."""
    head = value_header()
    number = F.conv(F.hex(F.substring("value", 2, 4)), 16, 10).cast("bigint")
    chain = F.when(~_has_header(), F.lit(None).cast("int"))
    for schema_id in schemas:
        chain = chain.when(head == binary(wire.header(schema_id)), F.lit(schema_id))
    return chain.when(number <= _MAX_INT, number.cast("int"))


def _decoded(schemas: Mapping[int, str], channel: Channel) -> Column:
    """Return the record in the newest schema, decoded with its writer schema; null or all nulls if that fails."""
    body = avro_body()
    options = {"mode": "PERMISSIVE", "avroSchema": channel.schema}
    chain: Column | None = None
    for schema_id, text in schemas.items():
        same = _has_same_decimals(text, channel)
        decoded = from_avro(body, text, options) if same else _converted(body, text, channel)
        is_writer = F.col("schema_id") == schema_id
        chain = F.when(is_writer, decoded) if chain is None else chain.when(is_writer, decoded)
    return chain if chain is not None else from_avro(F.lit(None).cast("binary"), channel.schema, options)


def _has_same_decimals(writer: str, channel: Channel) -> bool:
    decimals = _decimals(channel.schema)
    return all(decimals.get(path, kind) == kind for path, kind in _decimals(writer).items())


def _converted(body: Column, writer: str, channel: Channel) -> Column:
    """Return a record whose writer has decimals of another scale or precision; null if a value does not fit exactly.

    Avro's own resolution would read the writer's bytes with the reader's scale.
    """
    record, decimals = from_avro(body, writer, {"mode": "PERMISSIVE"}), _decimals(writer)
    written = {field["name"] for field in json.loads(writer)["fields"]}
    fields: list[Column] = []
    inexact: list[Column] = []
    for column in channel.columns:
        value = record[column.name] if column.name in written else F.lit(None)
        fitted = value.try_cast(column.type)
        fields.append(fitted.alias(column.name))
        if column.name in decimals:
            inexact.append(value.isNotNull() & ~F.equal_null(fitted.try_cast(decimals[column.name]), value))
        elif any(path.startswith((f"{column.name}.", f"{column.name}[")) for path in decimals):
            inexact.append(value.isNotNull())  # decimals within a list: how they were rounded is not visible
    return F.when(~reduce(or_, inexact), F.struct(*fields))


def _decimals(schema: str) -> dict[str, str]:
    """Return the type of each decimal in an Avro schema, by its path: {"price": "decimal(38,12)"}."""
    return dict(_decimals_within(json.loads(schema), ""))


def _decimals_within(node: Any, path: str) -> Iterator[tuple[str, str]]:
    match node:
        case {"logicalType": "decimal"}:
            yield path, f"decimal({node['precision']},{node.get('scale', 0)})"
        case {"type": "record", "fields": fields}:
            for field in fields:
                yield from _decimals_within(field["type"], f"{path}.{field['name']}".lstrip("."))
        case {"type": "array", "items": items} | {"type": "map", "values": items}:
            yield from _decimals_within(items, f"{path}[]")
        case {"type": inner}:
            yield from _decimals_within(inner, path)
        case [*branches]:
            for branch in branches:
                yield from _decimals_within(branch, path)
