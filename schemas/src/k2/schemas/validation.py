"""Validation rules of records, defined once for every engine.

A rule is an expression over `RecordFields`. Spark evaluates it on columns (`k2.jobs.layers.silver`), the queries' Kafka
tail on Python values (`k2.query.kafka.validation`): comparison operators and `|` work on both. What a record becomes
depends only on the record and the registered schemas, so a rebuild gives the same result.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, Protocol

from k2.schemas.values import to_micros

MAX_AHEAD_MICROS: Final = 60_000_000  # how far a record's time may be ahead of its Kafka record's
GENESIS: Final = "2009-01-03"  # Bitcoin's first block; nothing was traded before
GENESIS_MICROS: Final = to_micros(datetime.fromisoformat(GENESIS).replace(tzinfo=UTC))


class ErrorCategory(StrEnum):
    """Why a record is a dead letter, in the order of evaluation: the first that applies is recorded."""

    MALFORMED_HEADER = "MALFORMED_HEADER"
    UNKNOWN_SCHEMA = "UNKNOWN_SCHEMA"
    UNDECODABLE = "UNDECODABLE"
    MISSING_FIELD = "MISSING_FIELD"
    UNKNOWN_EXCHANGE = "UNKNOWN_EXCHANGE"
    SYMBOL_MISMATCH = "SYMBOL_MISMATCH"
    NON_POSITIVE_PRICE = "NON_POSITIVE_PRICE"
    NON_POSITIVE_QUANTITY = "NON_POSITIVE_QUANTITY"
    FUTURE_TIMESTAMP = "FUTURE_TIMESTAMP"
    IMPLAUSIBLE_TIMESTAMP = "IMPLAUSIBLE_TIMESTAMP"


class RecordFields(Protocol):
    """A decoded record and its Kafka record, as values or columns of one engine. Times are UTC microseconds."""

    key: Any  # the Kafka key as text; the symbol where there is no key
    kafka_timestamp: Any
    expected_exchange: Any  # the label of the topic's exchange

    def __getitem__(self, column: str) -> Any:
        """Return the record's value of a column of its channel."""
        ...

    def concat(self, *columns: str) -> Any:
        """Return the values of text columns as one text."""
        ...

    def has_missing(self) -> Any:
        """Return whether a column that is not nullable is null, or one of the channel's `text_columns` empty."""
        ...


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: `broken` is true, or a true column, for a record that breaks it.

    `message` is the explanation for people. It may name columns of the record in braces, and `{key}`,
    `{expected_exchange}` and `{missing}` (the names of the missing columns).
    """

    category: str
    broken: Callable[[RecordFields], Any]
    message: str


MISSING_FIELD: Final = Rule(ErrorCategory.MISSING_FIELD, lambda record: record.has_missing(), "empty: {missing}")
UNKNOWN_EXCHANGE: Final = Rule(
    ErrorCategory.UNKNOWN_EXCHANGE,
    lambda record: record["exchange"] != record.expected_exchange,
    "exchange is {exchange}, not {expected_exchange}",
)


def time_rules(column: str) -> tuple[Rule, Rule]:
    """Return the rules for a column of exchange time: neither ahead of Kafka's time nor before Bitcoin."""
    return (
        Rule(
            ErrorCategory.FUTURE_TIMESTAMP,
            lambda record: record[column] > record.kafka_timestamp + MAX_AHEAD_MICROS,
            f"{column} is {{{column}}}, over {MAX_AHEAD_MICROS // 60_000_000} minute ahead",
        ),
        Rule(
            ErrorCategory.IMPLAUSIBLE_TIMESTAMP,
            lambda record: record[column] < GENESIS_MICROS,
            f"{column} is {{{column}}}, before {GENESIS}",
        ),
    )


# Each engine checks header, schema and decoding itself, before these rules.
TRADE_RULES: Final = (
    MISSING_FIELD,
    UNKNOWN_EXCHANGE,
    Rule(
        ErrorCategory.SYMBOL_MISMATCH,
        lambda trade: (
            (trade["symbol"] != trade.concat("base_asset", "quote_currency")) | (trade.key != trade["symbol"])
        ),
        "symbol is {symbol}, key is {key}",
    ),
    Rule(ErrorCategory.NON_POSITIVE_PRICE, lambda trade: trade["price"] <= 0, "price is {price}"),
    Rule(ErrorCategory.NON_POSITIVE_QUANTITY, lambda trade: trade["quantity"] <= 0, "quantity is {quantity}"),
    *time_rules("timestamp"),
)

# Where the exchange sends no time, that of the arrival decides where a record belongs.
_EITHER_TIME: Final = (*time_rules("timestamp"), *time_rules("ingestion_timestamp"))

# Levels are judged by the adapter, which keeps the book: no rule looks into lists.
BOOK_RULES: Final = (
    MISSING_FIELD,
    UNKNOWN_EXCHANGE,
    Rule(
        ErrorCategory.SYMBOL_MISMATCH, lambda update: update.key != update["symbol"], "symbol is {symbol}, key is {key}"
    ),
    *_EITHER_TIME,
)

# A side without orders is null, and breaks no rule.
QUOTE_RULES: Final = (
    MISSING_FIELD,
    UNKNOWN_EXCHANGE,
    Rule(ErrorCategory.SYMBOL_MISMATCH, lambda quote: quote.key != quote["symbol"], "symbol is {symbol}, key is {key}"),
    Rule(
        ErrorCategory.NON_POSITIVE_PRICE,
        lambda quote: (quote["bid_price"] <= 0) | (quote["ask_price"] <= 0),
        "bid is {bid_price}, ask is {ask_price}",
    ),
    Rule(
        ErrorCategory.NON_POSITIVE_QUANTITY,
        lambda quote: (quote["bid_quantity"] <= 0) | (quote["ask_quantity"] <= 0),
        "quantities are {bid_quantity} and {ask_quantity}",
    ),
    *_EITHER_TIME,
)
