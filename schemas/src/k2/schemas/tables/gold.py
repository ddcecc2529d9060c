"""Gold tables: deduplicated records of all exchanges, a table for each channel, and the 1-minute bars of trades."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import date, datetime
from typing import Final

from k2.schemas.tables.spec import (
    BOOK_FIELDS,
    DISTINCT_COLUMNS,
    NOTIONAL,
    PRICE,
    QUOTE_FIELDS,
    TRADE_FIELDS,
    Column,
    Partition,
    Table,
    without_dictionary,
)

BARS: Final = "gold_ohlcv_1m"


def gold(
    channel: str, columns: Iterable[Column], sort: tuple[str, ...], distinct: Iterable[str], id_column: str = ""
) -> Table:
    """Return the table of all exchanges' records of a channel, each once.

    Maps are stored as JSON texts. `distinct` are columns that are stored without a dictionary. The statistics of
    `id_column` are exact, so that a search for ids skips files; those of other texts are cut off after 16 characters.
    """
    return Table(
        f"gold_crypto_{channel}",
        (
            *map(_in_gold, columns),
            Column("gold_ingestion_timestamp", "timestamp", "when the batch that stored it began"),
            Column("exchange_date", "date", "UTC day of the record's time"),
            Column("exchange_hour", "int", "UTC hour of the record's time, 0 to 23"),
        ),
        (Partition("exchange_date"), Partition("exchange_hour")),
        sort=sort,
        # Small row groups, so that a query for one symbol of an hour skips the others within the file.
        properties={
            "write.parquet.row-group-size-bytes": str(16 << 20),
            "write.parquet.compression-level": "9",  # unlike the other tables, it is kept for ever
            **without_dictionary(*distinct),
            **({f"write.metadata.metrics.column.{id_column}": "full"} if id_column else {}),
        },
    )


def _in_gold(column: Column) -> Column:
    return replace(column, type="string", doc=f"{column.doc}, as JSON") if column.is_map else column


# In the order of time, neighbouring prices share most of their bytes; 1.7 bytes each instead of 2.1 with a dictionary.
GOLD_TABLE: Final = gold(
    "trades", TRADE_FIELDS, ("exchange", "symbol", "timestamp"), (*DISTINCT_COLUMNS, "price"), "message_id"
)
GOLD: Final = GOLD_TABLE.name

# Many quotes share a time, so that connection and ordinal order them.
QUOTE_DISTINCT_COLUMNS: Final = (
    "timestamp", "ingestion_timestamp", "bid_price", "bid_quantity", "ask_price", "ask_quantity", "sequence", "ordinal"
)  # fmt: skip
GOLD_QUOTES_TABLE: Final = gold(
    "quotes", QUOTE_FIELDS, ("exchange", "symbol", "connection", "ordinal"), QUOTE_DISTINCT_COLUMNS
)

BOOK_DISTINCT_COLUMNS: Final = (
    *("timestamp", "ingestion_timestamp", "first_id", "last_id", "previous_id", "ordinal"),
    # By their names in Iceberg: a name that it does not know is ignored with a warning in the log.
    *("bids.element.price", "bids.element.quantity", "asks.element.price", "asks.element.quantity"),
)
_BOOK: Final = gold("book", BOOK_FIELDS, ("exchange", "symbol", "connection", "ordinal"), BOOK_DISTINCT_COLUMNS)
# Pages of version 2 delta-encode numbers without a dictionary, which hides from zstd that prices and quantities repeat.
GOLD_BOOK_TABLE: Final = replace(_BOOK, properties={**_BOOK.properties, "write.parquet.page-version": "v1"})

BARS_TABLE: Final = Table(
    BARS,
    (
        Column("exchange", "string", "Name of the exchange in capitals"),
        Column("symbol", "string", "normalised: BTCUSDT"),
        Column("open_time", "timestamp", "UTC minute; minutes without trades have no row"),
        Column("open", PRICE, "price of the first trade"),
        Column("high", PRICE, "highest price"),
        Column("low", PRICE, "lowest price"),
        Column("close", PRICE, "price of the last trade"),
        Column("volume", PRICE, "sum of the quantities, in base asset; null beyond 38 digits"),
        Column("trade_count", "bigint", "number of trades"),
        Column("vwap", PRICE, "notional over volume, rounded half up to 12 places; null if either is"),
        Column("notional", NOTIONAL, "sum of price times quantity, exact; null beyond 38 digits"),
        Column("first_trade_time", "timestamp", "exchange time of the first trade"),
        Column("first_id", "string", "id of the first trade"),
        Column("last_trade_time", "timestamp", "exchange time of the last trade"),
        Column("last_id", "string", "id of the last trade"),
        Column("exchange_date", "date", "UTC day of open_time"),
    ),
    # A minute of a symbol is a row: even a thousand symbols are a million and a half rows a day, one file.
    (Partition("exchange"), Partition("exchange_date")),
    sort=("symbol", "open_time"),
)


def hour_tag(hour: datetime) -> str:
    """Return the name of Gold's tag for the state at the end of a UTC hour."""
    return f"hour-{hour:%Y-%m-%dT%H}"


def day_tag(day: date) -> str:
    """Return the name of Gold's tag for a closed UTC day."""
    return f"day-{day.isoformat()}"


def month_tag(month: date) -> str:
    """Return the name of Gold's tag for a closed UTC month."""
    return f"month-{month:%Y-%m}"
