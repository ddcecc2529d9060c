"""Silver: every Bronze row becomes a typed trade or a dead letter with the first rule that it breaks.

DataFrames in, DataFrames out, native functions only. What a row becomes depends on nothing but the row and the
registered schemas: neither the clock nor the batch has a say, so a rebuild gives the same rows.
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
from k2.schemas.codecs import avro, wire
from k2.schemas.tables import TRADE_COLUMNS

FUTURE: Final = "1 minute"
GENESIS: Final = "2009-01-03"  # Bitcoin's first block; nothing was traded before
_TEXTS: Final = ("trade_id", "symbol", "exchange", "base_asset", "quote_currency", "side")
_MAX_INT: Final = 2**31 - 1
_KAFKA: Final = ("topic", "partition", "offset")


@dataclass(frozen=True, slots=True)
class Rule:
    """One way in which a row can be wrong: `broken` is never null."""

    category: str
    broken: Column
    message: Column


@dataclass(frozen=True, slots=True)
class _Validator:
    """The columns that judge a row, built once: each is hundreds of calls into the JVM."""

    schema_id: Column
    trade: Column
    broken: Column
    category: Column
    message: Column


def validated(bronze: DataFrame, schemas: Mapping[int, str], exchange: str) -> DataFrame:
    """Bronze rows with their trade's columns, `schema_id`, and `error_category` (null for a valid trade).

    `schemas` are the registered writer schemas by id; `exchange` is the label that trades of these topics carry.
    """
    validator = _validator(tuple(schemas.items()), exchange)
    headed = bronze.select("*", validator.schema_id.alias("schema_id"))
    # A generator of one: the optimiser must not copy the decoding into each of the rules that look at its result.
    decoded = headed.select("*", F.explode(F.array(validator.trade)).alias("trade"))
    return decoded.select("*", validator.broken.alias("broken")).select(
        *(f"trade.{name}" for name in TRADE_COLUMNS),
        "schema_id",
        *_KAFKA,
        "bronze_timestamp",
        "value",
        validator.category.alias("error_category"),
        validator.message.alias("error_message"),
    )


@lru_cache(maxsize=16)
def _validator(schemas: tuple[tuple[int, str], ...], exchange: str) -> _Validator:
    known = dict(schemas)
    found = rules(known, exchange)
    return _Validator(
        _schema_id(known),
        _decoded(known),
        broken=_first((rule.broken, F.lit(number)) for number, rule in enumerate(found)),
        category=_first((F.col("broken") == number, F.lit(rule.category)) for number, rule in enumerate(found)),
        message=_first((F.col("broken") == number, rule.message) for number, rule in enumerate(found)),
    )


def trades(rows: DataFrame) -> DataFrame:
    """The valid ones, as Silver holds them."""
    return rows.where("error_category IS NULL").select(
        *TRADE_COLUMNS,
        "schema_id",
        *_KAFKA,
        "bronze_timestamp",
        batch_time.now().alias("validation_timestamp"),
    )


def dead_letters(rows: DataFrame, exchange: str) -> DataFrame:
    """The others, whole, with what is wrong with them."""
    return rows.where("error_category IS NOT NULL").select(
        "value",
        F.lit(exchange).alias("exchange"),
        *_KAFKA,
        "schema_id",
        "error_category",
        "error_message",
        batch_time.now().alias("dlq_timestamp"),
    )


def rules(schemas: Mapping[int, str], exchange: str) -> tuple[Rule, ...]:
    """What a row must keep, in the order in which it is judged."""
    trade = F.col("trade")
    ahead = trade["timestamp"] > F.col("kafka_timestamp") + F.expr(f"INTERVAL {FUTURE}")
    empty = {name: _empty(trade, name) for name in TRADE_COLUMNS}
    key = F.col("key").cast("string")
    return (
        Rule("MALFORMED_HEADER", ~_well_headed(), F.lit("the value does not begin with 0x00 and a schema id")),
        Rule(
            "UNKNOWN_SCHEMA",
            ~F.coalesce(F.col("schema_id").isin(list(schemas)), F.lit(False)),
            F.concat(F.lit("the registry has no schema "), F.col("schema_id").cast("string"), F.lit(" for this topic")),
        ),
        Rule(
            "UNDECODABLE",
            trade["message_id"].isNull() & trade["trade_id"].isNull() & trade["timestamp"].isNull(),
            F.lit("the bytes after the header are not a record of their schema"),
        ),
        Rule(
            "MISSING_FIELD",
            reduce(or_, empty.values()),
            F.concat_ws(" ", F.lit("empty:"), *(F.when(broken, F.lit(name)) for name, broken in empty.items())),
        ),
        Rule(
            "UNKNOWN_EXCHANGE",
            trade["exchange"] != exchange,
            F.concat(F.lit("exchange is "), trade["exchange"], F.lit(f", not {exchange}")),
        ),
        Rule(
            "SYMBOL_MISMATCH",
            (trade["symbol"] != F.concat(trade["base_asset"], trade["quote_currency"]))
            | F.coalesce(key != trade["symbol"], F.lit(False)),
            F.concat(F.lit("symbol is "), trade["symbol"], F.lit(", key is "), F.coalesce(key, F.lit("null"))),
        ),
        Rule("NON_POSITIVE_PRICE", trade["price"] <= 0, F.concat(F.lit("price is "), trade["price"].cast("string"))),
        Rule(
            "NON_POSITIVE_QUANTITY",
            trade["quantity"] <= 0,
            F.concat(F.lit("quantity is "), trade["quantity"].cast("string")),
        ),
        Rule(
            "FUTURE_TIMESTAMP",
            ahead,
            F.concat(F.lit("timestamp is "), trade["timestamp"].cast("string"), F.lit(f", over {FUTURE} ahead")),
        ),
        Rule(
            "IMPLAUSIBLE_TIMESTAMP",
            trade["timestamp"] < F.lit(GENESIS).cast("timestamp"),
            F.concat(F.lit("timestamp is "), trade["timestamp"].cast("string"), F.lit(f", before {GENESIS}")),
        ),
    )


def _first(cases: Iterable[tuple[Column, Column]]) -> Column:
    """The value of the first case that holds; null if none does. A case that cannot be judged does not hold."""
    (condition, value), *others = cases
    chain = F.when(condition, value)
    for condition, value in others:
        chain = chain.when(condition, value)
    return chain


def _well_headed() -> Column:
    value = F.col("value")
    begins = F.substring(value, 1, 1) == _bytes(bytes([wire.MAGIC]))
    return F.coalesce((F.length(value) >= wire.HEADER_SIZE) & begins, F.lit(False))


def _schema_id(schemas: Mapping[int, str]) -> Column:
    """The id in the header: by comparison with those that are known, by arithmetic only for the others."""
    head = F.substring("value", 1, wire.HEADER_SIZE)
    number = F.conv(F.hex(F.substring("value", 2, 4)), 16, 10).cast("bigint")
    chain = F.when(~_well_headed(), F.lit(None).cast("int"))
    for schema_id in schemas:
        chain = chain.when(head == _bytes(wire.header(schema_id)), F.lit(schema_id))
    return chain.when(number <= _MAX_INT, number.cast("int"))


def _decoded(schemas: Mapping[int, str]) -> Column:
    """The record in the newest schema, decoded with the one that wrote it; null or all nulls if that fails."""
    body = F.expr(f"substring(value, {wire.HEADER_SIZE + 1})")
    options = {"mode": "PERMISSIVE", "avroSchema": avro.text()}
    chain: Column | None = None
    for schema_id, text in schemas.items():
        found, decoded = F.col("schema_id") == schema_id, from_avro(body, text, options)
        chain = F.when(found, decoded) if chain is None else chain.when(found, decoded)
    return chain if chain is not None else from_avro(F.lit(None).cast("binary"), avro.text(), options)


def _empty(trade: Column, name: str) -> Column:
    return trade[name].isNull() | (trade[name] == "") if name in _TEXTS else trade[name].isNull()


def _bytes(raw: bytes) -> Column:
    return F.expr(f"X'{raw.hex()}'")
