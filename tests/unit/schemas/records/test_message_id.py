"""Ids: the same trade has the same one, two trades never share one."""

import json
from decimal import Decimal
from uuid import NAMESPACE_DNS, UUID, uuid5

import pytest
from hypothesis import given

from k2.ingest.exchanges.kraken.parse import Kraken
from k2.ingest.exchanges.kraken.parse_v1 import KrakenV1
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.records.trade import MESSAGE_NAMESPACE, Side, Source, Trade, derived_trade_id, message_id

PAIR = EXCHANGES["kraken"].pair("BTC/USDT")
NAME = "XBT/USDT"


def test_anybody_can_compute_the_id_of_a_trade():
    assert message_id("BINANCE", "BTCUSDT", "3735683259") == uuid5(
        uuid5(NAMESPACE_DNS, "k2.marketdata.io"), "BINANCE|BTCUSDT|3735683259"
    )
    assert message_id("BINANCE", "BTCUSDT", "3735683259") == UUID("9f32038f-b6bc-5dcd-b06d-12a2229ec5e1")


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
    from k2.ingest.exchanges.base import Gap

    adapter = KrakenV1([PAIR])
    live = adapter.parse(frame_v1(rows(captures)), 0)
    window = Gap(PAIR, 0, 0, 0, 2**62, "anchor")
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
