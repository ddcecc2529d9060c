"""Tables and topics under the names that users' queries and consumers rely on."""

import pytest

from k2.schemas import tables, topics
from k2.schemas.channels import BOOK, CHANNELS, TRADES, exchange_tables
from k2.schemas.codecs import avro
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.formats import FORMAT, TABLE_PROPERTY

TRADE = [
    "message_id", "trade_id", "symbol", "exchange", "base_asset", "quote_currency", "timestamp", "price", "quantity",
    "side", "ingestion_timestamp", "vendor_data",
]  # fmt: skip
EXPECTED = {
    "bronze_kraken_trades": (
        ["value", "key", "topic", "partition", "offset", "kafka_timestamp", "bronze_timestamp"],
        [("kafka_timestamp", "day")],
    ),
    "silver_kraken_trades": (
        [*TRADE, "schema_id", "topic", "partition", "offset", "bronze_timestamp", "validation_timestamp"],
        [("timestamp", "day")],
    ),
    "silver_dlq_trades": (
        [
            "value", "exchange", "channel", "topic", "partition", "offset", "schema_id", "error_category",
            "error_message", "dead_lettered_at",
        ],
        [("dead_lettered_at", "day")],
    ),
    "gold_crypto_trades": (
        [*TRADE, "gold_ingestion_timestamp", "exchange_date", "exchange_hour"],
        [("exchange_date", "identity"), ("exchange_hour", "identity")],
    ),
    "gold_ohlcv_1m": (
        [
            "exchange", "symbol", "open_time", "open", "high", "low", "close", "volume", "trade_count", "vwap",
            "notional", "first_trade_time", "first_id", "last_trade_time", "last_id", "exchange_date",
        ],
        [("exchange", "identity"), ("exchange_date", "identity")],
    ),
    "gold_instruments": (
        [
            "exchange", "raw_symbol", "symbol", "kind", "listing", "base_asset", "quote_currency", "settle_asset",
            "contract_size", "expiry", "status", "tick_size", "lot_size", "min_notional", "listed_at", "delisted_at",
            "valid_from", "valid_to", "definition",
        ],
        [("exchange", "identity")],
    ),
    "audit_gaps": (
        [
            "gap_id", "exchange", "channel", "feed", "symbol", "first_id", "last_id", "detected_at", "resolved_at",
            "resolution", "state", "missing", "evidence",
        ],
        [("detected_at", "day")],
    ),
    "audit_evidence": (
        ["evidence_id", "exchange", "request", "status", "received_at", "body"],
        [("received_at", "month")],
    ),
    "audit_completeness": (
        [
            "exchange", "symbol", "channel", "hour", "first_id", "last_id", "expected", "actual", "missing",
            "never_issued", "by_source", "state", "gold_snapshot_id", "checked_at", "revision", "cause", "offsets",
            "digest_bronze", "digest_silver", "digest_gold", "digest_leaves", "previous_digest",
            "seconds",
        ],
        [("hour", "month")],
    ),
    "audit_batches": (
        [
            "layer", "exchange", "channel", "query_id", "epoch", "offset_ranges", "rows_in", "rows_out", "dead_letters",
            "duplicates_dropped", "snapshot_id", "started_at", "committed_at", "topic_id",
        ],
        [("committed_at", "day")],
    ),
}  # fmt: skip
OF_KRAKEN = {table.name: table for table in exchange_tables("kraken")}


def test_an_exchange_has_exactly_the_published_tables():
    assert set(OF_KRAKEN) == set(EXPECTED)
    assert tables.NAMESPACE == "market_data"


@pytest.mark.parametrize("name", EXPECTED)
def test_a_table_has_exactly_the_published_columns_and_partitions(name):
    columns, partitions = EXPECTED[name]
    table = OF_KRAKEN[name]
    assert [column.name for column in table.columns] == columns
    assert [(part.column, part.transform) for part in table.partitions] == partitions


@pytest.mark.parametrize("name", EXPECTED)
def test_every_table_is_format_2_zstd_parquet_and_explains_its_columns(name):
    table = OF_KRAKEN[name]
    assert table.all_properties["format-version"] == "2"
    assert table.all_properties["write.format.default"] == "parquet"
    assert table.all_properties["write.parquet.compression-codec"] == "zstd"
    assert table.all_properties["write.parquet.page-version"] == "v2"
    assert table.all_properties["k2.format"] == "2"
    assert all(column.doc for column in table.columns)
    assert {part.column for part in table.partitions} <= {column.name for column in table.columns}


def test_prices_are_decimals_of_thirty_eight_digits_wherever_they_are_stored():
    for name in ("silver_kraken_trades", "gold_crypto_trades"):
        types = {column.name: column.type for column in OF_KRAKEN[name].columns}
        assert types["price"] == types["quantity"] == "decimal(38,12)"
        assert types["timestamp"] == "timestamp"


def test_bars_hold_exact_products_and_prices_of_the_same_scale():
    types = {column.name: column.type for column in OF_KRAKEN["gold_ohlcv_1m"].columns}
    assert types["notional"] == "decimal(38,24)"
    assert {types[name] for name in ("open", "high", "low", "close", "volume", "vwap")} == {"decimal(38,12)"}


def test_vendor_data_is_a_map_in_silver_and_json_in_gold():
    types = {name: {c.name: c.type for c in table.columns} for name, table in OF_KRAKEN.items()}
    assert types["silver_kraken_trades"]["vendor_data"] == "map<string,string>"
    assert types["gold_crypto_trades"]["vendor_data"] == "string"


def test_gold_files_are_ordered_by_exchange_symbol_and_time():
    assert OF_KRAKEN["gold_crypto_trades"].sort == ("exchange", "symbol", "timestamp")


@pytest.mark.parametrize("name", EXPECTED)
def test_every_table_carries_the_number_of_its_format(name):
    assert OF_KRAKEN[name].all_properties[TABLE_PROPERTY] == str(FORMAT) == "2"


def test_a_table_is_addressed_in_the_one_catalog():
    assert TRADES.bronze("okx").identifier == "lake.market_data.bronze_okx_trades"


@pytest.mark.parametrize("channel", CHANNELS, ids=repr)
def test_a_channels_columns_exist_and_its_identity_and_last_time_are_never_null(channel):
    named = {*channel.identity, *channel.time_columns, *channel.text_columns, channel.id_column, channel.verdict_column}
    assert named - {""} <= set(channel.column_names)
    assert {"symbol", "exchange", "ingestion_timestamp"} <= set(channel.required_columns)
    assert {*channel.identity, channel.time_columns[-1]} <= set(channel.required_columns)
    assert {column.name: column.type for column in channel.columns}[channel.time_columns[-1]] == "timestamp"


@pytest.mark.parametrize("channel", CHANNELS, ids=repr)
def test_the_schema_of_a_channel_has_the_number_of_the_format(channel):
    assert avro.format_of(channel.schema) == FORMAT  # without it the layers refuse the topic


def test_topics_have_the_published_names():
    assert topics.trades("binance") == "market.crypto.trades.binance"
    assert topics.gaps("binance") == "market.crypto.gaps.binance"
    assert topics.evidence("binance") == "market.crypto.evidence.binance"
    assert topics.instruments("binance") == "market.crypto.instruments.binance"
    assert topics.dead_letters("binance") == "market.crypto.deadletter.binance"
    assert topics.subject(topics.trades("binance")) == "market.crypto.trades.binance-value"
    headers = (topics.DEAD_LETTER_ERROR, topics.DEAD_LETTER_REASON, topics.DEAD_LETTER_FEED, topics.DEAD_LETTER_ITEMS)
    assert headers == ("k2-error", "k2-reason", "k2-feed", "k2-items")


def test_topics_have_the_published_numbers_of_partitions():
    assert {name: facts.partitions for name, facts in EXCHANGES.items()} == {
        "binance": 40, "kraken": 20, "coinbase": 20, "bybit": 20, "okx": 20,
    }  # fmt: skip
    assert {channel.name: channel.partitions for channel in CHANNELS} == {"trades": 0, "quotes": 20, "book": 20}


def test_levels_of_books_are_stored_without_dictionary_and_delta_encoding():
    fields = {f"{side}.element.{name}" for side in ("bids", "asks") for name in ("price", "quantity")}
    for table in (BOOK.gold, BOOK.silver("binance")):
        off = {key.partition(".column.")[2] for key, value in table.properties.items() if value == "false"}
        assert fields <= off
    assert BOOK.gold.all_properties["write.parquet.page-version"] == "v1"
