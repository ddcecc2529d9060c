"""Ids: the same trade has the same one, two trades never share one."""

import json
from decimal import Decimal
from hashlib import sha256
from uuid import NAMESPACE_DNS, RFC_4122, UUID, uuid5

import pytest
from hypothesis import given

from k2.ingest.exchanges.kraken.parse import Kraken
from k2.ingest.exchanges.kraken.parse_v1 import KrakenV1
from k2.ingest.simulator.listings import pair_of
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.records.trade import MESSAGE_NAMESPACE, Side, Source, Trade, derived_trade_id, listing_of, message_id

PAIR = pair_of(EXCHANGES["kraken"], "BTC/USDT")
NAME = "XBT/USDT"


def version_8(instrument: str, number: int) -> UUID:
    """The id of a numbered trade, computed bit by bit as RFC 9562 names the fields."""
    bits = int.from_bytes(sha256(instrument.encode()).digest()) >> (256 - 60)
    custom_a, custom_b = bits >> 12, bits & 0xFFF
    return UUID(int=custom_a << 80 | 8 << 76 | custom_b << 64 | 2 << 62 | number)


def version_5(text: str) -> UUID:
    return uuid5(uuid5(NAMESPACE_DNS, "k2.marketdata.io"), text)


@pytest.mark.parametrize("number", [0, 1, 7, 3_735_683_259, 10**18, 2**62 - 1])
def test_anybody_can_compute_the_id_of_a_numbered_trade(number):
    actual = message_id("BINANCE", "BTCUSDT", str(number))
    assert actual == version_8("BINANCE|BTCUSDT", number)
    assert (actual.version, actual.variant) == (8, RFC_4122)


@pytest.mark.parametrize(
    "trade_id",
    [
        str(2**62), str(2**63), "007", "00", "+1", "-1", " 1", "1_0", "1.0", "", "²", "٣", "9" * 5000,
        "KRAKEN-1618678150826417-0123456789abcdef", "20f43950-d8dd-5b31-9112-a178eb6023af",
    ],
)  # fmt: skip
def test_any_other_id_is_hashed_as_the_text_it_is(trade_id):
    assert message_id("BINANCE", "BTCUSDT", trade_id) == version_5(f"BINANCE|BTCUSDT|{trade_id}")


def test_the_next_listing_has_other_ids_of_both_kinds():
    assert message_id("BINANCE", "BTCUSDT", "7", 2) == version_8("BINANCE|BTCUSDT|2", 7)
    assert message_id("BINANCE", "BTCUSDT", "a", 2) == version_5("BINANCE|BTCUSDT|2|a")
    assert len({message_id("BINANCE", "BTCUSDT", "7", listing) for listing in (1, 2, 3)}) == 3


@pytest.mark.parametrize(
    ("trade_id", "text"),
    [
        ("0", "14089b46-a9cf-8bed-8000-000000000000"),
        ("3735683259", "14089b46-a9cf-8bed-8000-0000deaa00bb"),
    ],
)
def test_the_published_examples_hold(trade_id, text):
    assert str(message_id("BINANCE", "BTCUSDT", trade_id)) == text


def test_ids_of_one_symbol_are_ordered_as_the_numbers_are():
    ids = [str(message_id("BINANCE", "BTCUSDT", str(number))) for number in (0, 9, 10, 10**6, 2**40, 2**62 - 1)]
    assert ids == sorted(ids)


def test_a_trade_of_another_listing_says_so_in_its_vendor_data():
    trade = Trade("9", "BTCUSDT", "BINANCE", "BTC", "USDT", 1, 2, 3, Side.BUY, 4, (("source", "live"),))
    second = trade.in_listing(2)
    assert (second.listing, second.vendor_data) == (2, (("source", "live"), ("listing", "2")))
    assert second.message_id == message_id("BINANCE", "BTCUSDT", "9", 2)
    assert listing_of(dict(second.vendor_data)) == 2
    assert second.in_listing(3).vendor_data == (("source", "live"), ("listing", "3"))
    assert second.in_listing(1) == trade
    assert listing_of(dict(trade.vendor_data)) == 1


@pytest.mark.parametrize("text", ["0", "", "-1", "+2", "x", "1.5", "²", "9" * 10])
def test_a_listing_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match="is not a number from 1 on"):
        listing_of({"listing": text})


def test_the_id_does_not_depend_on_how_the_trade_came():
    live = Trade("9", "BTCUSDT", "BINANCE", "BTC", "USDT", 1, 2, 3, Side.BUY, 4, (("source", Source.LIVE.value),))
    again = Trade("9", "BTCUSDT", "BINANCE", "BTC", "USDT", 1, 2, 3, Side.BUY, 99, (("source", "backfill"),))
    assert live.message_id == again.message_id


def test_the_encoder_writes_the_same_id_as_the_trade_says(trades):
    from k2.schemas.codecs.avro import TradeEncoder, decode

    @given(trades)
    def check(trade):
        assert decode(TradeEncoder(1).encode(trade)[5:])["message_id"] == trade.message_id

    check()


@pytest.mark.parametrize(
    "changed", [("KRAKEN", "BTCUSDT", "9"), ("BINANCE", "ETHUSDT", "9"), ("BINANCE", "BTCUSDT", "8")]
)
def test_another_exchange_symbol_or_number_is_another_id(changed):
    assert message_id(*changed) != message_id("BINANCE", "BTCUSDT", "9")


def test_the_namespace_is_the_published_one():
    assert str(MESSAGE_NAMESPACE) == str(uuid5(NAMESPACE_DNS, "k2.marketdata.io"))


def rows(captures) -> list[list]:
    page = json.loads((captures / "kraken_rest_trades.json").read_text(), parse_float=Decimal)
    return page["result"]["XBTUSDT"]


def frame_v1(rows: list[list]) -> bytes:
    """One v1 frame of REST rows: eight decimals, six digits of a second."""
    fills = [
        [
            f"{Decimal(price):.8f}",
            f"{Decimal(volume):.8f}",
            f"{int(time * 10**6) / Decimal(10**6):.6f}",
            side,
            kind,
            misc,
        ]
        for price, volume, time, side, kind, misc, _ in rows
    ]
    return json.dumps([1, fills, "trade", NAME]).encode()


def test_a_thousand_real_trades_have_a_thousand_ids_by_their_numbers(captures):
    ids = {message_id("KRAKEN", PAIR.symbol, str(row[6])) for row in rows(captures)}
    assert len(ids) == 1000


def test_a_thousand_real_trades_have_a_thousand_derived_ids(captures):
    events = KrakenV1([PAIR]).parse(frame_v1(rows(captures)), 0)
    assert len({event.record.message_id for event in events}) == len(events) == 1000


def test_a_derived_id_is_the_same_over_rest_and_the_websocket(captures):
    from k2.ingest.exchanges.base import NO_ID, Gap

    adapter = KrakenV1([PAIR])
    live = adapter.parse(frame_v1(rows(captures)), 0)
    window = Gap(PAIR, NO_ID, NO_ID, 0, 2**62, "anchor")
    page = adapter.parse_page(
        Kraken([PAIR]).history_request(window), (captures / "kraken_rest_trades.json").read_bytes(), window, 0
    )
    assert [entry.record.message_id for entry in page.records] == [event.record.message_id for event in live]


def test_equal_fills_of_one_microsecond_are_as_many_trades():
    fill = ["60000.00000000", "0.10000000", "1618678150.826417", "b", "l", ""]
    events = KrakenV1([PAIR]).parse(json.dumps([1, [fill] * 10, "trade", NAME]).encode(), 0)
    assert len({event.record.trade_id for event in events}) == 10


def test_a_derived_id_says_exchange_and_time():
    trade_id = derived_trade_id("KRAKEN", 1_618_678_150_826_417, ("BTCUSD", "1", "2", "BUY", "l"), 0)
    assert trade_id == "KRAKEN-1618678150826417-" + trade_id[-16:]
    assert int(trade_id[-16:], 16) >= 0
    assert trade_id != derived_trade_id("KRAKEN", 1_618_678_150_826_417, ("BTCUSD", "1", "2", "BUY", "l"), 1)
