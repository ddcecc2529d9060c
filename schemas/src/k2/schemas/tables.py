"""Iceberg tables as values. Spark and PyIceberg both create them from here and from nowhere else.

Types are written in Spark's DDL; `timestamp` is Iceberg's timestamptz. No engine is imported here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from types import MappingProxyType
from typing import Final

NAMESPACE: Final = "market_data"
CATALOG: Final = "lake"  # a key column of JDBC catalogs: every engine must call it the same

GOLD: Final = "gold_crypto_trades"
BARS: Final = "gold_ohlcv_1m"
DEAD_LETTERS: Final = "silver_dlq_trades"
GAPS: Final = "audit_gaps"
COMPLETENESS: Final = "audit_completeness"
BATCHES: Final = "audit_batches"

_PROPERTIES: Final = {
    "format-version": "2",
    "write.format.default": "parquet",
    "write.parquet.compression-codec": "zstd",
    "write.parquet.compression-level": "1",
    "write.distribution-mode": "none",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "50",
    # A plan reads every manifest; each small commit adds one, and Iceberg would let a hundred of them gather.
    "commit.manifest.min-count-to-merge": "20",
    # Writers, the compactor and the auditor meet on the same table; each retry rebases on the winner.
    "commit.retry.num-retries": "20",
    "commit.retry.min-wait-ms": "50",
    "commit.retry.max-wait-ms": "5000",
}


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its name, Spark DDL type, and what it means."""

    name: str
    type: str
    doc: str


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition field: an Iceberg transform (identity, day, month) of a column."""

    column: str
    transform: str = "identity"


@dataclass(frozen=True, slots=True)
class Table:
    """One table: what Spark's DDL and PyIceberg's objects are both made from."""

    name: str
    columns: tuple[Column, ...]
    partitions: tuple[Partition, ...]
    sort: tuple[str, ...] = ()
    properties: Mapping[str, str] = field(default_factory=dict)

    @property
    def all_properties(self) -> Mapping[str, str]:
        """The table's own properties over those that all tables share."""
        return MappingProxyType({**_PROPERTIES, **self.properties})

    @property
    def identifier(self) -> str:
        """`lake.market_data.<name>`, as Spark addresses it."""
        return f"{CATALOG}.{NAMESPACE}.{self.name}"


_TRADE: Final = (
    Column("message_id", "string", "UUIDv5 over exchange|symbol|trade_id"),
    Column("trade_id", "string", "the exchange's own id"),
    Column("symbol", "string", "normalised: BTCUSDT"),
    Column("exchange", "string", "BINANCE, KRAKEN, ..."),
    Column("base_asset", "string", "BTC"),
    Column("quote_currency", "string", "USDT"),
    Column("timestamp", "timestamp", "exchange time of the trade"),
    Column("price", "decimal(18,8)", "in quote currency"),
    Column("quantity", "decimal(18,8)", "in base asset"),
    Column("side", "string", "BUY or SELL: the aggressor's side"),
    Column("ingestion_timestamp", "timestamp", "when the frame left the socket"),
)
_KAFKA: Final = (
    Column("topic", "string", "Kafka topic"),
    Column("partition", "int", "Kafka partition"),
    Column("offset", "bigint", "Kafka offset"),
)


_DISTINCT: Final = ("message_id", "trade_id", "timestamp", "ingestion_timestamp")


def _undictionaried(*columns: str) -> dict[str, str]:
    """Columns in which hardly a value comes twice: a dictionary would be built only to be thrown away."""
    return {f"write.parquet.dict-encoding-enabled.column.{column}": "false" for column in columns}


TRADE_COLUMNS: Final = (*(column.name for column in _TRADE), "vendor_data")


def bronze(exchange: str) -> Table:
    """Kafka records of one exchange, undecoded."""
    return Table(
        f"bronze_{exchange}_trades",
        (
            Column("value", "binary", "the complete Kafka value, header included"),
            Column("key", "binary", "the Kafka key"),
            *_KAFKA,
            Column("kafka_timestamp", "timestamp", "the record's own timestamp"),
            Column("bronze_timestamp", "timestamp", "when the batch that stored it began"),
        ),
        (Partition("kafka_timestamp", "day"),),
        properties={
            "write.metadata.metrics.column.value": "none",
            **_undictionaried("value", "offset", "kafka_timestamp"),
        },
    )


def silver(exchange: str) -> Table:
    """Valid trades of one exchange, typed; a trade that arrived twice is here twice."""
    return Table(
        f"silver_{exchange}_trades",
        (
            *_TRADE,
            Column("vendor_data", "map<string,string>", "what else the exchange sent"),
            Column("schema_id", "int", "the writer schema that the header named"),
            *_KAFKA,
            Column("bronze_timestamp", "timestamp", "when Bronze stored it"),
            Column("validation_timestamp", "timestamp", "when Silver judged it"),
        ),
        (Partition("timestamp", "day"),),
        properties=_undictionaried(*_DISTINCT, "offset"),
    )


DEAD_LETTERS_TABLE: Final = Table(
    DEAD_LETTERS,
    (
        Column("value", "binary", "the complete Kafka value"),
        Column("exchange", "string", "whose topic it came from"),
        *_KAFKA,
        Column("schema_id", "int", "from the header, where there is one"),
        Column("error_category", "string", "MALFORMED_HEADER, UNKNOWN_SCHEMA, ..."),
        Column("error_message", "string", "what was found, for a person"),
        Column("dlq_timestamp", "timestamp", "when Silver judged it"),
    ),
    (Partition("dlq_timestamp", "day"),),
)

GOLD_TABLE: Final = Table(
    GOLD,
    (
        *_TRADE,
        Column("vendor_data", "string", "what else the exchange sent, as JSON"),
        Column("gold_ingestion_timestamp", "timestamp", "when the batch that stored it began"),
        Column("exchange_date", "date", "UTC day of timestamp"),
        Column("exchange_hour", "int", "UTC hour of timestamp, 0 to 23"),
    ),
    (Partition("exchange_date"), Partition("exchange_hour")),
    sort=("symbol", "timestamp"),
    # Small row groups, so that a query for one symbol of an hour skips the others within the file.
    properties={"write.parquet.row-group-size-bytes": str(16 << 20), **_undictionaried(*_DISTINCT)},
)

BARS_TABLE: Final = Table(
    BARS,
    (
        Column("exchange", "string", "BINANCE, KRAKEN, ..."),
        Column("symbol", "string", "normalised: BTCUSDT"),
        Column("start", "timestamp", "UTC minute; minutes without trades have no row"),
        Column("open", "decimal(18,8)", "price of the first trade"),
        Column("high", "decimal(18,8)", "highest price"),
        Column("low", "decimal(18,8)", "lowest price"),
        Column("close", "decimal(18,8)", "price of the last trade"),
        Column("volume", "decimal(38,8)", "sum of the quantities, in base asset"),
        Column("trades", "bigint", "how many"),
        Column("vwap", "decimal(18,8)", "notional over volume, rounded half up to 8 places"),
        Column("notional", "decimal(38,16)", "sum of price times quantity, exact; null beyond 38 digits"),
        Column("first_at", "timestamp", "exchange time of the first trade"),
        Column("first_id", "string", "id of the first trade"),
        Column("last_at", "timestamp", "exchange time of the last trade"),
        Column("last_id", "string", "id of the last trade"),
        Column("exchange_date", "date", "UTC day of start"),
    ),
    # A minute of a symbol is a row: even a thousand symbols are a million and a half rows a day, one file.
    (Partition("exchange"), Partition("exchange_date")),
    sort=("symbol", "start"),
)

GAPS_TABLE: Final = Table(
    GAPS,
    (
        Column("gap_id", "string", "the same for the same missing ids of the same symbol"),
        Column("exchange", "string", "BINANCE, KRAKEN, ..."),
        Column("feed", "string", "the ExchangeFeed that noticed"),
        Column("symbol", "string", "normalised: BTCUSDT"),
        Column("first_id", "string", "first missing trade id"),
        Column("last_id", "string", "last missing trade id"),
        Column("detected_at", "timestamp", "when the ingest noticed"),
        Column("repaired_at", "timestamp", "when the last missing trade was in Kafka"),
        Column("method", "string", "rest, snapshot, late; or why it could not be repaired"),
        Column("state", "string", "open, repaired, unrecoverable"),
    ),
    (Partition("detected_at", "day"),),
)

COMPLETENESS_TABLE: Final = Table(
    COMPLETENESS,
    (
        Column("exchange", "string", "BINANCE, KRAKEN, ..."),
        Column("symbol", "string", "normalised: BTCUSDT"),
        Column("hour", "timestamp", "UTC hour"),
        Column("first_id", "string", "first trade id of the hour"),
        Column("last_id", "string", "last trade id of the hour"),
        Column("expected", "bigint", "ids that the hour should hold; null where ids prove nothing"),
        Column("present", "bigint", "ids that Gold holds"),
        Column("missing", "array<struct<first_id:string,last_id:string>>", "ranges of ids that Gold lacks"),
        Column("by_source", "map<string,bigint>", "trades by live, snapshot, backfill, replay"),
        Column("state", "string", "open, complete, incomplete, unverifiable"),
        Column("gold_snapshot_id", "bigint", "the Gold snapshot that was judged"),
        Column("checked_at", "timestamp", "when"),
    ),
    (Partition("hour", "month"),),
)

BATCHES_TABLE: Final = Table(
    BATCHES,
    (
        Column("layer", "string", "bronze, silver, gold"),
        Column("exchange", "string", "BINANCE, KRAKEN, ..."),
        Column("query_id", "string", "the streaming query; it lives as long as its checkpoint"),
        Column("epoch", "bigint", "the micro-batch"),
        Column(
            "offset_ranges",
            "array<struct<topic:string,partition:int,first:bigint,last:bigint>>",
            "Kafka offsets that went in, both ends included",
        ),
        Column("rows_in", "bigint", "rows that went in"),
        Column("rows_out", "bigint", "rows that the commit added"),
        Column("dead_letters", "bigint", "rows judged invalid"),
        Column("duplicates_dropped", "bigint", "rows that the layer held already"),
        Column("snapshot_id", "bigint", "the commit"),
        Column("started_at", "timestamp", "when the batch began"),
        Column("committed_at", "timestamp", "when the commit was made"),
    ),
    (Partition("committed_at", "day"),),
)

SHARED: Final = (DEAD_LETTERS_TABLE, GOLD_TABLE, BARS_TABLE, GAPS_TABLE, COMPLETENESS_TABLE, BATCHES_TABLE)


def day_tag(day: date) -> str:
    """Gold's tag for a UTC day that has closed."""
    return f"day-{day.isoformat()}"


def of_exchange(exchange: str) -> tuple[Table, ...]:
    """Every table that a feed of `exchange` writes or is judged by."""
    return bronze(exchange), silver(exchange), *SHARED
