"""A channel that exists in tests only: order books with lists of structs, no ids, and a time that may be missing."""

import json
from typing import Any, Final, NamedTuple

from k2.query.kafka import record_buffer
from k2.query.kafka.validation import Validator
from k2.schemas import tables
from k2.schemas.channels import Channel, Sequencing
from k2.schemas.codecs.avro import RecordEncoder
from k2.schemas.tables import Column
from k2.schemas.validation import MISSING_FIELD, UNKNOWN_EXCHANGE, Rule, time_rules

AT: Final = 1_770_000_000_000_000
SCHEMA_ID: Final = 7
_LEVEL: Final = {
    "type": "record",
    "name": "Level",
    "fields": [
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 24, "scale": 8}},
        {"name": "size", "type": "long"},
    ],
}
_TIME: Final = {"type": "long", "logicalType": "timestamp-micros"}
_SCHEMA: Final = {
    "type": "record",
    "name": "Book",
    "namespace": "k2.test",
    "fields": [
        {"name": "symbol", "type": "string"},
        {"name": "exchange", "type": "string"},
        {"name": "connection", "type": ["null", "string"], "default": None},
        {"name": "ordinal", "type": "long"},
        {"name": "timestamp", "type": ["null", {"type": "long", "logicalType": "timestamp-millis"}], "default": None},
        {"name": "ingestion_timestamp", "type": _TIME},
        {"name": "depth", "type": ["null", "int"], "default": None},
        {"name": "bids", "type": {"type": "array", "items": _LEVEL}},
        {"name": "asks", "type": ["null", {"type": "array", "items": "Level"}], "default": None},
        {"name": "extra", "type": ["null", {"type": "map", "values": "string"}], "default": None},
    ],
}
_LEVELS: Final = "array<struct<price:decimal(24,8),size:bigint>>"
_COLUMNS: Final = (
    Column("symbol", "string", "BTCUSDT"),
    Column("exchange", "string", "BINANCE"),
    Column("connection", "string", "the connection that received it"),
    Column("ordinal", "bigint", "its place among the connection's records"),
    Column("timestamp", "timestamp", "exchange time", nullable=True),
    Column("ingestion_timestamp", "timestamp", "when the frame left the socket"),
    Column("depth", "int", "levels of each side", nullable=True),
    Column("bids", _LEVELS, "best first"),
    Column("asks", _LEVELS, "best first", nullable=True),
    Column("extra", "map<string,string>", "further fields", nullable=True),
)


class Book(NamedTuple):
    """One record of the channel; the exchange's time is in milliseconds."""

    ordinal: int
    connection: str | None = "a"
    millis: int | None = AT // 1000
    arrival: int = AT + 50
    symbol: str = "BTCUSDT"
    exchange: str = "BINANCE"
    depth: int | None = 2
    bids: tuple[tuple[int, int], ...] = ((10**22, 1), (-7, 2))  # units of the price, and size
    asks: tuple[tuple[int, int], ...] | None = None
    extra: dict[str, str] | None = None

    def fields(self) -> dict[str, Any]:
        """Return the fields as their schema without logical types has them."""
        return {
            "symbol": self.symbol, "exchange": self.exchange, "connection": self.connection, "ordinal": self.ordinal,
            "timestamp": self.millis, "ingestion_timestamp": self.arrival, "depth": self.depth,
            "bids": _levels(self.bids), "asks": None if self.asks is None else _levels(self.asks),
            "extra": self.extra,
        }  # fmt: skip


def _levels(levels: tuple[tuple[int, int], ...]) -> list[dict[str, Any]]:
    return [{"price": price.to_bytes(12, "big", signed=True), "size": size} for price, size in levels]


BOOKS: Final = Channel(
    name="books",
    record=Book,
    schema=json.dumps(_SCHEMA),
    encoder=lambda schema_id: RecordEncoder(schema_id, _without_times(), Book.fields),
    columns=_COLUMNS,
    gold=tables.gold("books", _COLUMNS, ("symbol", "ingestion_timestamp"), ()),
    identity=("connection", "ordinal"),
    sequencing=Sequencing.CONNECTION,
    rules=(
        MISSING_FIELD,
        UNKNOWN_EXCHANGE,
        Rule("TOO_DEEP", lambda book: book["depth"] > 1000, "depth is {depth}"),
        *time_rules("timestamp"),
    ),
    text_columns=frozenset({"symbol"}),
    time_columns=("timestamp", "ingestion_timestamp"),
)


def _without_times() -> Any:
    """Return the schema as it encodes numbers of milliseconds and microseconds."""
    return json.loads(json.dumps(_SCHEMA).replace("logicalType", "kind"))


def value(book: Book) -> bytes:
    """Return the Kafka value of a book."""
    encoded: bytes = BOOKS.encoder(SCHEMA_ID).encode(book)
    return encoded


def validated(book: Book, kafka_time: int = AT) -> Any:
    """Return the row of a book, or the category of its error."""
    return Validator(BOOKS, {SCHEMA_ID: BOOKS.schema}, "BINANCE").validate(value(book), None, kafka_time)


def gold_row(book: Book) -> dict[str, Any]:
    """Return the row of a book in Gold."""
    (row,) = record_buffer.table(BOOKS, [validated(book)]).to_pylist()
    moment = row["timestamp"] or row["ingestion_timestamp"]
    return row | {"exchange_date": moment.date(), "exchange_hour": moment.hour}
