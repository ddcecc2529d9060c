"""Instruments of all exchanges: each version of what an exchange lists, with the time in which it is valid."""

from typing import Final

from k2.schemas.tables.spec import PRICE, Column, Partition, Table

INSTRUMENTS: Final = "gold_instruments"

# The columns of which a change makes a version.
DEFINITION: Final = (
    Column("symbol", "string", "normalised: BTCUSDT"),
    Column("kind", "string", "spot"),
    Column("listing", "int", "number of the listing to which the ids of its trades belong, from 1"),
    Column("base_asset", "string", "BTC"),
    Column("quote_currency", "string", "USDT"),
    Column("settle_asset", "string", "asset of settlement; null for spot"),
    Column("contract_size", PRICE, "size of a contract; null for spot"),
    Column("expiry", "timestamp", "when the instrument expires; null for spot"),
    Column("status", "string", "announced, trading, halted, delisted; unknown if K2 does not know the exchange's word"),
    Column("tick_size", PRICE, "step of prices; null if the exchange states none"),
    Column("lot_size", PRICE, "step of quantities; null if the exchange states none"),
    Column("min_notional", PRICE, "least value of an order, in quote currency; null if the exchange states none"),
    Column("listed_at", "timestamp", "when trading began, by the exchange; null if it does not say"),
)

INSTRUMENTS_TABLE: Final = Table(
    INSTRUMENTS,
    (
        Column("exchange", "string", "Name of the exchange in capitals"),
        Column("raw_symbol", "string", "the exchange's own spelling: BTC/USD"),
        *DEFINITION,
        Column("delisted_at", "timestamp", "when K2 first read that it is listed no more; null if it is listed"),
        Column("valid_from", "timestamp", "when K2 first read this version"),
        Column("valid_to", "timestamp", "when K2 first read the next version; null for the newest"),
        Column("definition", "string", "the entry of the exchange's list, as received"),
    ),
    # A few thousand instruments are one file, which each change replaces.
    (Partition("exchange"),),
    sort=("raw_symbol", "valid_from"),
    properties={"write.parquet.compression-level": "9"},
)
