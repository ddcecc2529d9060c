"""Gold tables: deduplicated records of all exchanges, a table for each channel, and the 1-minute bars of trades."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import date
from typing import Final

from k2.schemas.tables.spec import DISTINCT_COLUMNS, TRADE_FIELDS, Column, Partition, Table, without_dictionary

BARS: Final = "gold_ohlcv_1m"


def gold(channel: str, columns: Iterable[Column], sort: tuple[str, ...], distinct: Iterable[str]) -> Table:
    """Return the table of all exchanges' records of a channel, each once.

    Maps are stored as JSON texts. `distinct` are columns whose values are mostly distinct.
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
        properties={"write.parquet.row-group-size-bytes": str(16 << 20), **without_dictionary(*distinct)},
    )


def _in_gold(column: Column) -> Column:
    return replace(column, type="string", doc=f"{column.doc}, as JSON") if column.is_map else column


GOLD_TABLE: Final = gold("trades", TRADE_FIELDS, ("symbol", "timestamp"), DISTINCT_COLUMNS)
GOLD: Final = GOLD_TABLE.name

BARS_TABLE: Final = Table(
    BARS,
    (
        Column("exchange", "string", "Name of the exchange in capitals"),
        Column("symbol", "string", "normalised: BTCUSDT"),
        Column("start", "timestamp", "UTC minute; minutes without trades have no row"),
        Column("open", "decimal(18,8)", "price of the first trade"),
        Column("high", "decimal(18,8)", "highest price"),
        Column("low", "decimal(18,8)", "lowest price"),
        Column("close", "decimal(18,8)", "price of the last trade"),
        Column("volume", "decimal(38,8)", "sum of the quantities, in base asset"),
        Column("trades", "bigint", "number of trades"),
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


def day_tag(day: date) -> str:
    """Return the name of Gold's tag for a closed UTC day."""
    return f"day-{day.isoformat()}"
