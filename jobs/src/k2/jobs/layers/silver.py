"""Silver: every Bronze row becomes a typed trade or a dead letter with the first rule that it breaks.

DataFrames in, DataFrames out, native functions only. The rules are those of `k2.schemas.validation`. The result depends
only on the row and the registered schemas, not on the clock or the batch, so a rebuild gives the same rows.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache, reduce
from operator import or_
from typing import Final

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom
from pyspark.sql.avro.functions import from_avro

from k2.jobs.layers import batch_time
from k2.schemas import validation
from k2.schemas.codecs import avro, wire
from k2.schemas.tables import TRADE_COLUMNS
from k2.schemas.validation import ErrorCategory

_MAX_INT: Final = 2**31 - 1
_KAFKA: Final = ("topic", "partition", "offset")


class _TradeColumns:
    """`TradeFields` as Spark columns of a decoded row."""

    def __init__(self, exchange: str) -> None:
        self._trade = F.col("trade")
        key = F.col("key").cast("string")
        self.exchange = self._trade["exchange"]
        self.expected_exchange = exchange
        self.symbol = self._trade["symbol"]
        self.pair = F.concat(self._trade["base_asset"], self._trade["quote_currency"])
        self.key = F.coalesce(key, self._trade["symbol"])
        self.price = self._trade["price"]
        self.quantity = self._trade["quantity"]
        self.timestamp = F.unix_micros(self._trade["timestamp"])
        self.kafka_timestamp = F.unix_micros(F.col("kafka_timestamp"))

    def has_missing(self) -> Column:
        return reduce(or_, map(self.is_missing, TRADE_COLUMNS))

    def is_missing(self, name: str) -> Column:
        null = self._trade[name].isNull()
        return null | (self._trade[name] == "") if name in validation.TEXT_FIELDS else null


@dataclass(frozen=True, slots=True)
class _Expressions:
    """The columns that decode and validate a row, built once per schema set: each is hundreds of calls into the JVM."""

    schema_id: Column
    trade: Column
    broken: Column
    category: Column
    message: Column


def validated(bronze: DataFrame, schemas: Mapping[int, str], exchange: str) -> DataFrame:
    """Return Bronze rows with their trade's columns, `schema_id`, and `error_category` (null for a valid trade).

    `schemas` are the registered writer schemas by id; `exchange` is the label of the topics' trades.
    """
    expressions = _expressions(tuple(schemas.items()), exchange)
    with_id = bronze.select("*", expressions.schema_id.alias("schema_id"))
    # A generator of one: the optimiser must not copy the decoding into each of the rules that use its result.
    decoded = with_id.select("*", F.explode(F.array(expressions.trade)).alias("trade"))
    return decoded.select("*", expressions.broken.alias("broken")).select(
        *(f"trade.{name}" for name in TRADE_COLUMNS),
        "schema_id",
        *_KAFKA,
        "bronze_timestamp",
        "value",
        expressions.category.alias("error_category"),
        expressions.message.alias("error_message"),
    )


@lru_cache(maxsize=16)
def _expressions(schemas: tuple[tuple[int, str], ...], exchange: str) -> _Expressions:
    by_id = dict(schemas)
    broken, messages = _broken(by_id, exchange), _messages(exchange)
    return _Expressions(
        _schema_id(by_id),
        _decoded(by_id),
        broken=_first((condition, F.lit(number)) for number, condition in enumerate(broken.values())),
        category=_first((F.col("broken") == number, F.lit(name.value)) for number, name in enumerate(broken)),
        message=_first((F.col("broken") == number, messages[name]) for number, name in enumerate(broken)),
    )


def trades(rows: DataFrame) -> DataFrame:
    """Return the valid rows with Silver's columns."""
    return rows.where("error_category IS NULL").select(
        *TRADE_COLUMNS,
        "schema_id",
        *_KAFKA,
        "bronze_timestamp",
        batch_time.now().alias("validation_timestamp"),
    )


def dead_letters(rows: DataFrame, exchange: str) -> DataFrame:
    """Return the invalid rows with their complete value and what is wrong with them."""
    return rows.where("error_category IS NOT NULL").select(
        "value",
        F.lit(exchange).alias("exchange"),
        *_KAFKA,
        "schema_id",
        "error_category",
        "error_message",
        batch_time.now().alias("dlq_timestamp"),
    )


def _broken(schemas: Mapping[int, str], exchange: str) -> dict[ErrorCategory, Column]:
    """Return, in the order of evaluation, the condition under which a row breaks each rule."""
    trade, fields = F.col("trade"), _TradeColumns(exchange)
    return {
        ErrorCategory.MALFORMED_HEADER: ~_has_header(),
        ErrorCategory.UNKNOWN_SCHEMA: ~F.coalesce(F.col("schema_id").isin(list(schemas)), F.lit(False)),
        ErrorCategory.UNDECODABLE: trade["message_id"].isNull()
        & trade["trade_id"].isNull()
        & trade["timestamp"].isNull(),
        **{rule.category: rule.broken(fields) for rule in validation.RULES},
    }


def _messages(exchange: str) -> dict[ErrorCategory, Column]:
    """Return the error message of each category."""
    trade, fields = F.col("trade"), _TradeColumns(exchange)
    key = F.coalesce(F.col("key").cast("string"), F.lit("null"))
    missing = (F.when(fields.is_missing(name), F.lit(name)) for name in TRADE_COLUMNS)
    time = trade["timestamp"].cast("string")
    schema_id = F.coalesce(F.col("schema_id").cast("string"), F.lit(f"above {_MAX_INT}"))
    return {
        ErrorCategory.MALFORMED_HEADER: F.lit("the value does not begin with 0x00 and a schema id"),
        ErrorCategory.UNKNOWN_SCHEMA: F.concat(
            F.lit("the registry has no schema "), schema_id, F.lit(" for this topic")
        ),
        ErrorCategory.UNDECODABLE: F.lit("the bytes after the header are not a record of their schema"),
        ErrorCategory.MISSING_FIELD: F.concat_ws(" ", F.lit("empty:"), *missing),
        ErrorCategory.UNKNOWN_EXCHANGE: F.concat(F.lit("exchange is "), trade["exchange"], F.lit(f", not {exchange}")),
        ErrorCategory.SYMBOL_MISMATCH: F.concat(F.lit("symbol is "), trade["symbol"], F.lit(", key is "), key),
        ErrorCategory.NON_POSITIVE_PRICE: F.concat(F.lit("price is "), trade["price"].cast("string")),
        ErrorCategory.NON_POSITIVE_QUANTITY: F.concat(F.lit("quantity is "), trade["quantity"].cast("string")),
        ErrorCategory.FUTURE_TIMESTAMP: F.concat(
            F.lit("timestamp is "), time, F.lit(f", over {validation.MAX_AHEAD_MICROS // 60_000_000} minute ahead")
        ),
        ErrorCategory.IMPLAUSIBLE_TIMESTAMP: F.concat(
            F.lit("timestamp is "), time, F.lit(f", before {validation.GENESIS}")
        ),
    }


def _first(cases: Iterable[tuple[Column, Column]]) -> Column:
    """Return the value of the first case whose condition is true; null if none is. A null condition is not true."""
    (condition, value), *others = cases
    chain = F.when(condition, value)
    for condition, value in others:
        chain = chain.when(condition, value)
    return chain


def _has_header() -> Column:
    value = F.col("value")
    magic = F.substring(value, 1, 1) == _bytes(bytes([wire.MAGIC]))
    return F.coalesce((F.length(value) >= wire.HEADER_SIZE) & magic, F.lit(False))


def _schema_id(schemas: Mapping[int, str]) -> Column:
    """Return the id in the header: registered ids by comparison, which is faster, others by arithmetic."""
    head = F.substring("value", 1, wire.HEADER_SIZE)
    number = F.conv(F.hex(F.substring("value", 2, 4)), 16, 10).cast("bigint")
    chain = F.when(~_has_header(), F.lit(None).cast("int"))
    for schema_id in schemas:
        chain = chain.when(head == _bytes(wire.header(schema_id)), F.lit(schema_id))
    return chain.when(number <= _MAX_INT, number.cast("int"))


def _decoded(schemas: Mapping[int, str]) -> Column:
    """Return the record in the newest schema, decoded with its writer schema; null or all nulls if that fails."""
    body = F.expr(f"substring(value, {wire.HEADER_SIZE + 1})")
    options = {"mode": "PERMISSIVE", "avroSchema": avro.text()}
    chain: Column | None = None
    for schema_id, text in schemas.items():
        is_writer, decoded = F.col("schema_id") == schema_id, from_avro(body, text, options)
        chain = F.when(is_writer, decoded) if chain is None else chain.when(is_writer, decoded)
    return chain if chain is not None else from_avro(F.lit(None).cast("binary"), avro.text(), options)


def _bytes(raw: bytes) -> Column:
    return F.expr(f"X'{raw.hex()}'")
