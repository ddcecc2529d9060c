"""The hand-written encoder writes what a general Avro encoder writes."""

from io import BytesIO

import pytest
from fastavro import schemaless_writer
from hypothesis import given
from hypothesis import strategies as st

from k2.schemas.channels import BOOK
from k2.schemas.codecs import avro, wire
from k2.schemas.codecs.avro import BookEncoder, TradeEncoder
from k2.schemas.records.book import BookKind, BookUpdate
from k2.schemas.records.trade import Side, Trade
from k2.schemas.states import Verdict
from k2.schemas.values import decimal, from_micros


def record(trade: Trade) -> dict[str, object]:
    """The trade as the input of a general Avro library."""
    return {
        "message_id": str(trade.message_id),
        "trade_id": trade.trade_id,
        "symbol": trade.symbol,
        "exchange": trade.exchange,
        "base_asset": trade.base_asset,
        "quote_currency": trade.quote_currency,
        "timestamp": from_micros(trade.timestamp),
        "price": decimal(trade.price),
        "quantity": decimal(trade.quantity),
        "side": trade.side.value,
        "ingestion_timestamp": from_micros(trade.ingestion_timestamp),
        "vendor_data": dict(trade.vendor_data),
    }


def reference(trade: Trade) -> bytes:
    out = BytesIO()
    schemaless_writer(out, avro.load(), record(trade))
    return out.getvalue()


def test_every_trade_is_encoded_byte_for_byte_as_fastavro_does(trades):
    encoder = TradeEncoder(7)

    @given(st.lists(trades, max_size=4))
    def check(batch: list[Trade]) -> None:
        for trade in batch:
            assert encoder.encode(trade) == wire.header(7) + reference(trade)

    check()


def test_a_decoded_trade_is_the_trade_that_was_encoded(trades):
    @given(trades)
    def check(trade: Trade) -> None:
        _, body = wire.split(TradeEncoder(1).encode(trade))
        decoded = avro.decode(body)
        assert decoded == record(trade) | {"message_id": trade.message_id}

    check()


@pytest.mark.parametrize(
    "micros", [-1, 0, 1, (1 << 27) - 1, 1 << 27, (1 << 34) - 1, 1_723_161_255_342_000, 253_402_300_799_999_999]
)
def test_times_on_both_sides_of_a_cached_part_are_exact(micros):
    trade = Trade("1", "BTCUSDT", "BINANCE", "BTC", "USDT", micros, 1, 1, Side.BUY, micros)
    assert TradeEncoder(1).encode(trade)[5:] == reference(trade)


def test_what_is_cached_of_one_trade_does_not_leak_into_the_next():
    encoder = TradeEncoder(1)
    one = Trade("1", "BTCUSDT", "BINANCE", "BTC", "USDT", 1, 1, 1, Side.BUY, 1, (("a", "b"),))
    other = Trade("1", "BTCUSDT", "OKX", "BTC", "USDT", 1, 1, 1, Side.SELL, 1, (("a", "c"),))
    assert [encoder.encode(trade)[5:] for trade in (one, other, one)] == [reference(t) for t in (one, other, one)]


def test_more_distinct_vendor_data_than_are_cached_are_still_right():
    encoder = TradeEncoder(1)
    for number in range(5000):
        trade = Trade("1", "S", "OKX", "A", "B", number << 30, 1, 1, Side.BUY, 0, (("id", str(number)),))
        assert encoder.encode(trade)[5:] == reference(trade)


@pytest.mark.parametrize("trade_id", ["0", "1", str(2**62 - 1), str(2**62), "007", "", "KRAKEN-1-a", "9" * 40, "²"])
@pytest.mark.parametrize("listing", [1, 2])
def test_ids_below_and_above_two_to_the_62_are_as_the_trade_says(trade_id, listing):
    trade = Trade(trade_id, "BTCUSDT", "BINANCE", "BTC", "USDT", 1, 1, 1, Side.BUY, 1, listing=listing)
    assert TradeEncoder(1).encode(trade)[5:] == reference(trade)


def test_two_listings_of_one_symbol_do_not_share_what_is_cached():
    encoder = TradeEncoder(1)
    first, second = (
        Trade("1", "BTCUSDT", "BINANCE", "BTC", "USDT", 1, 1, 1, Side.BUY, 1, listing=listing) for listing in (1, 2)
    )
    assert [encoder.encode(trade)[5:] for trade in (first, second, first)] == [
        reference(trade) for trade in (first, second, first)
    ]


def test_an_exchange_that_the_schema_does_not_name_is_not_written_as_another():
    with pytest.raises(KeyError):
        TradeEncoder(1).encode(Trade("1", "S", "FTX", "A", "B", 1, 1, 1, Side.BUY, 1))


def test_the_encoder_follows_the_order_of_the_schema_file():
    assert [field["name"] for field in avro.load()["fields"]] == avro.FIELDS


LONGS = st.integers(-(2**63), 2**63 - 1)
LEVELS = st.lists(st.tuples(LONGS, LONGS), max_size=70).map(tuple)
UPDATES = st.builds(
    BookUpdate, st.text(max_size=9), st.sampled_from(["BINANCE", "OKX"]), st.none() | LONGS, LONGS,
    st.sampled_from(BookKind), LEVELS, LEVELS, st.integers(-12, 0), st.integers(-12, 0), st.text(max_size=70), LONGS,
    st.sampled_from(Verdict), st.none() | LONGS, st.none() | LONGS, st.none() | LONGS, st.integers(1, 400),
    st.integers(1, 400), st.none() | LONGS,
)  # fmt: skip


def test_every_order_book_message_is_encoded_byte_for_byte_as_fastavro_does():
    encoder, general = BookEncoder(7), avro.RecordEncoder(7, BOOK.reader_schema, lambda update: update.fields)

    @given(st.lists(UPDATES, max_size=4))
    def check(updates: list[BookUpdate]) -> None:
        for update in updates:
            assert encoder.encode(update) == general.encode(update)

    check()


def test_an_order_book_of_an_exchange_that_the_schema_lacks_is_not_encoded():
    update = BookUpdate("S", "FTX", 1, 1, BookKind.DELTA, (), (), 0, 0, "c", 1, Verdict.VERIFIED)
    with pytest.raises(KeyError):
        BookEncoder(1).encode(update)
