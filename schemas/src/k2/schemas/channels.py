"""Channels: the kinds of market data. A channel says everything that its records need from every part of K2.

Ingest, layers, maintenance, audit, purge and queries take a channel; none of them knows what its records mean. Trades
are one. What is particular to an exchange (frames, requests) is in its adapter of the channel.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property, partial
from operator import attrgetter
from typing import Any, Final, Protocol

from fastavro import parse_schema

from k2.schemas import tables
from k2.schemas.codecs import avro
from k2.schemas.records import book, quote
from k2.schemas.records.book import BookUpdate
from k2.schemas.records.quote import Quote
from k2.schemas.records.trade import Trade
from k2.schemas.tables import Column, Table
from k2.schemas.validation import BOOK_RULES, QUOTE_RULES, TRADE_RULES, Rule


class Record(Protocol):
    """One record between the socket and Kafka. Times are UTC microseconds."""

    @property
    def symbol(self) -> str:
        """The normalised symbol, which is also the Kafka key."""

    @property
    def exchange(self) -> str:
        """The exchange's label."""

    @property
    def timestamp(self) -> int:
        """The exchange's time; the time of arrival where the exchange sends none."""

    @property
    def ingestion_timestamp(self) -> int:
        """When the frame left the socket."""

    @property
    def record_id(self) -> str:
        """The exchange's id of the record; empty where it gives none."""

    @property
    def fingerprint(self) -> int:
        """A hash of the content, which differs for another record with the same id."""

    @property
    def source(self) -> str:
        """How the record was received: a value of `k2.schemas.records.trade.Source`."""

    def with_clock_offset(self, millis: int) -> "Record":
        """Return the record with a note that the clock of its time of arrival was so far ahead of the exchange's."""

    def in_listing(self, listing: int) -> "Record":
        """Return the record as one of another listing of its symbol. Only where `sequencing` uses exchange ids."""


class Encoder(Protocol):
    """Encodes the records of one channel with one schema."""

    def encode(self, record: Any) -> bytes:
        """Return the Kafka value of a record: header and Avro body."""
        ...


class Sequencing(StrEnum):
    """How missing records are found."""

    EXCHANGE_IDS = "exchange_ids"  # by the exchange's ids, or where it gives none by windows around reconnects
    CONNECTION = "connection"  # by the adapter within each connection; it gives its verdict in the records
    STATE = "state"  # likewise; what it loses is lost until it has the whole state again


@dataclass(frozen=True)
class Figure:
    """A figure of a symbol's newest record that the ingest exports as a metric `k2_ingest_<name>`.

    `value` gives it for a record, None where the record has none.
    """

    name: str
    description: str
    value: Callable[[Any], float | None]


@dataclass(frozen=True, eq=False)
class Channel:
    """One channel.

    Args:
        name: Part of the names of topics and tables: `market.crypto.<name>.<exchange>`, `gold_crypto_<name>`.
        record: The type of its records, a `Record`.
        schema: The text of its newest Avro schema, as it is registered.
        encoder: Makes the encoder for a schema id.
        columns: The fields of its records in Avro, Silver and Gold, in order. Every channel has `symbol`, `exchange`
            and `ingestion_timestamp`. Gold stores maps as JSON texts.
        gold: The table of its unique records.
        identity: The columns whose values, together, are unique in Gold. None is nullable, and equal records have equal
            times: Gold looks for them only where the time is.
        sequencing: How missing records are found.
        rules: The validation rules, in the order of evaluation.
        text_columns: Columns that must not be empty.
        time_columns: A record's time is the first of these columns that is not null; the last is never null.
        content: The columns that are equal in equal records, beside the time. A record whose identity is known and
            whose content or time differs is a conflict (`k2.schemas.content`). Empty: there are no conflicts.
        distinct_columns: Columns whose values are mostly distinct, so that no dictionary is written for them.
        silver_sort: The order of Silver's rows within a file; empty for that of Kafka.
        id_column: The column of the exchange's ids, where `sequencing` uses them.
        verdict_column: The column of the adapter's verdict on continuity, a value of `k2.schemas.states.Verdict`.
        price_column: The field of the price that status shows for a symbol, if there is one.
        figures: What metrics show of a symbol's newest record.
        derived: Tables that are computed from Gold and have the columns `exchange`, `symbol` and `exchange_date`.
        partitions: The default number of partitions of its topics; 0: each exchange has its own.

    """

    name: str
    record: type
    schema: str
    encoder: Callable[[int], Encoder]
    columns: tuple[Column, ...]
    gold: Table
    identity: tuple[str, ...]
    sequencing: Sequencing
    rules: tuple[Rule, ...]
    text_columns: frozenset[str]
    time_columns: tuple[str, ...]
    content: tuple[str, ...] = ()
    distinct_columns: tuple[str, ...] = ()
    silver_sort: tuple[str, ...] = ()
    id_column: str = ""
    verdict_column: str = ""
    price_column: str = ""
    figures: tuple[Figure, ...] = ()
    derived: tuple[Table, ...] = ()
    partitions: int = 20

    @cached_property
    def column_names(self) -> tuple[str, ...]:
        """The names of the columns, in order."""
        return tuple(column.name for column in self.columns)

    @cached_property
    def map_columns(self) -> frozenset[str]:
        """The columns that Gold stores as JSON texts."""
        return frozenset(column.name for column in self.columns if column.is_map)

    @cached_property
    def required_columns(self) -> tuple[str, ...]:
        """The columns that are never null."""
        return tuple(column.name for column in self.columns if not column.nullable)

    @cached_property
    def reader_schema(self) -> Any:
        """The newest Avro schema, parsed by fastavro: what every older record is read as."""
        return parse_schema(json.loads(self.schema))

    def bronze(self, exchange: str) -> Table:
        """Return the table of one exchange's Kafka records."""
        return tables.bronze(exchange, self.name)

    def silver(self, exchange: str) -> Table:
        """Return the table of one exchange's valid records."""
        time, distinct, sort = self.time_columns[-1], self.distinct_columns, self.silver_sort
        return tables.silver(exchange, self.name, self.columns, time, distinct, sort)

    def __repr__(self) -> str:
        return f"Channel({self.name})"


TRADES: Final = Channel(
    name="trades",
    record=Trade,
    schema=avro.text(),
    encoder=avro.TradeEncoder,
    columns=tables.TRADE_FIELDS,
    gold=tables.GOLD_TABLE,
    identity=("message_id",),
    sequencing=Sequencing.EXCHANGE_IDS,
    rules=TRADE_RULES,
    text_columns=frozenset({"trade_id", "symbol", "exchange", "base_asset", "quote_currency", "side"}),
    time_columns=("timestamp",),
    content=("price", "quantity", "side"),
    distinct_columns=tables.DISTINCT_COLUMNS,
    id_column="trade_id",
    price_column="price",
    derived=(tables.BARS_TABLE,),
    partitions=0,
)

QUOTES: Final = Channel(
    name="quotes",
    record=Quote,
    schema=avro.text(quote.AVRO),
    encoder=partial(avro.RecordEncoder, schema=avro.load(quote.AVRO), fields=attrgetter("fields")),
    columns=tables.QUOTE_FIELDS,
    gold=tables.GOLD_QUOTES_TABLE,
    identity=("connection", "ordinal"),
    sequencing=Sequencing.CONNECTION,
    rules=QUOTE_RULES,
    text_columns=frozenset({"symbol", "exchange", "connection", "verdict"}),
    time_columns=("timestamp", "ingestion_timestamp"),
    distinct_columns=tables.QUOTE_DISTINCT_COLUMNS,
    silver_sort=tables.GOLD_QUOTES_TABLE.sort,
    verdict_column="verdict",
    figures=(
        Figure("spread_ratio", "spread of the newest quote, as a part of its middle price", attrgetter("spread")),
    ),
)

BOOK: Final = Channel(
    name="book",
    record=BookUpdate,
    schema=avro.text(book.AVRO),
    encoder=avro.BookEncoder,
    columns=tables.BOOK_FIELDS,
    gold=tables.GOLD_BOOK_TABLE,
    identity=("connection", "ordinal"),
    sequencing=Sequencing.STATE,
    rules=BOOK_RULES,
    text_columns=frozenset({"symbol", "exchange", "kind", "connection", "verdict"}),
    time_columns=("timestamp", "ingestion_timestamp"),
    distinct_columns=tables.BOOK_DISTINCT_COLUMNS,
    silver_sort=tables.GOLD_BOOK_TABLE.sort,
    verdict_column="verdict",
)

CHANNELS: Final = (TRADES, QUOTES, BOOK)
DEFAULT_CHANNELS: Final = (TRADES,)  # of a feed that names none


def shared_tables(channels: Iterable[Channel] = DEFAULT_CHANNELS) -> tuple[Table, ...]:
    """Return the tables that all exchanges share."""
    of_channels = [table for channel in channels for table in (channel.gold, *channel.derived)]
    return (
        tables.DEAD_LETTERS_TABLE,
        *of_channels,
        tables.INSTRUMENTS_TABLE,
        tables.GAPS_TABLE,
        tables.EVIDENCE_TABLE,
        tables.COMPLETENESS_TABLE,
        tables.BATCHES_TABLE,
    )


def exchange_tables(exchange: str, channels: Iterable[Channel] = DEFAULT_CHANNELS) -> tuple[Table, ...]:
    """Return the tables of one exchange and those that all exchanges share."""
    channels = tuple(channels)
    own = [table for channel in channels for table in (channel.bronze(exchange), channel.silver(exchange))]
    return *own, *shared_tables(channels)
