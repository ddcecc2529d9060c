"""Validation rules of trade records, defined once for every engine.

A rule is an expression over `TradeFields`. Spark evaluates it on columns (`k2.jobs.layers.silver`), the queries' Kafka
tail on Python values (`k2.query.kafka.validation`): comparison operators and `|` work on both. What a record becomes
depends only on the record and the registered schemas, so a rebuild gives the same result.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, Protocol

from k2.schemas.values import to_micros

MAX_AHEAD_MICROS: Final = 60_000_000  # how far a trade's timestamp may be ahead of its Kafka record's
GENESIS: Final = "2009-01-03"  # Bitcoin's first block; nothing was traded before
GENESIS_MICROS: Final = to_micros(datetime.fromisoformat(GENESIS).replace(tzinfo=UTC))
TEXT_FIELDS: Final = frozenset({"trade_id", "symbol", "exchange", "base_asset", "quote_currency", "side"})


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


class TradeFields(Protocol):
    """A decoded trade and its Kafka record, as values or columns of one engine. Times are UTC microseconds."""

    exchange: Any
    expected_exchange: Any  # the label of the topic's exchange
    symbol: Any
    pair: Any  # base asset and quote currency, concatenated
    key: Any  # the Kafka key as text; the symbol where there is no key
    price: Any
    quantity: Any
    timestamp: Any
    kafka_timestamp: Any

    def has_missing(self) -> Any:
        """Return whether any of `TRADE_COLUMNS` is null, or any of `TEXT_FIELDS` empty."""
        ...


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: `broken` is true, or a true column, for a record that breaks it."""

    category: ErrorCategory
    broken: Callable[[TradeFields], Any]


# Each engine checks header, schema and decoding itself, before these rules.
RULES: Final = (
    Rule(ErrorCategory.MISSING_FIELD, lambda trade: trade.has_missing()),
    Rule(ErrorCategory.UNKNOWN_EXCHANGE, lambda trade: trade.exchange != trade.expected_exchange),
    Rule(ErrorCategory.SYMBOL_MISMATCH, lambda trade: (trade.symbol != trade.pair) | (trade.key != trade.symbol)),
    Rule(ErrorCategory.NON_POSITIVE_PRICE, lambda trade: trade.price <= 0),
    Rule(ErrorCategory.NON_POSITIVE_QUANTITY, lambda trade: trade.quantity <= 0),
    Rule(ErrorCategory.FUTURE_TIMESTAMP, lambda trade: trade.timestamp > trade.kafka_timestamp + MAX_AHEAD_MICROS),
    Rule(ErrorCategory.IMPLAUSIBLE_TIMESTAMP, lambda trade: trade.timestamp < GENESIS_MICROS),
)
