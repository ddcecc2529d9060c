"""Bybit v5: frames in, trades out; ids that say nothing about what is missing."""

import json

import pytest

from k2.ingest.exchanges.base import (
    MALFORMED_ITEM,
    NO_ID,
    UNSUBSCRIBED,
    Closing,
    Gap,
    Refusal,
    Refused,
    RestRefused,
    Subscribed,
    Unknown,
    Unsubscribed,
)
from k2.ingest.exchanges.bybit.parse import Bybit
from k2.ingest.simulator.listings import pair_of
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.records.trade import Side

AGAIN = Refusal.SUBSCRIBED
BTC = pair_of(EXCHANGES["bybit"], "BTCUSDT")
TRADE = {
    "T": 1672304486865, "s": "BTCUSDT", "S": "Buy", "v": "0.001", "p": "16578.50", "L": "PlusTick",
    "i": "20f43950-d8dd-5b31-9112-a178eb6023af", "BT": False, "RPI": False, "seq": 1783284617,
}  # fmt: skip


def frame(**fields: object) -> bytes:
    return json.dumps({"topic": "publicTrade.BTCUSDT", "type": "snapshot", "ts": 1, "data": [TRADE | fields]}).encode()


def rows(*trades: tuple[str, int]) -> bytes:
    listed = [{"execId": i, "price": "1", "size": "2", "side": "Sell", "time": str(at)} for i, at in trades]
    return json.dumps({"retCode": 0, "retMsg": "OK", "result": {"category": "spot", "list": listed}}).encode()


def test_a_trade_holds_what_the_frame_says():
    (event,) = Bybit([BTC]).parse(frame(), 7)
    trade = event.record
    assert (trade.trade_id, event.first_id, event.last_id) == ("20f43950-d8dd-5b31-9112-a178eb6023af", NO_ID, NO_ID)
    assert (trade.symbol, trade.exchange, trade.price, trade.quantity) == (
        "BTCUSDT",
        "BYBIT",
        16_578_500_000_000_000,
        1_000_000_000,
    )
    assert (trade.timestamp, trade.ingestion_timestamp) == (1_672_304_486_865_000, 7)
    assert dict(trade.vendor_data) == {
        "pair": "BTCUSDT", "sequence": "1783284617", "block_trade": "false", "rpi": "false",
        "tick_direction": "PlusTick", "source": "live",
    }  # fmt: skip


@pytest.mark.parametrize(("expected", "side"), [("Buy", Side.BUY), ("Sell", Side.SELL)])
def test_the_side_is_the_takers(expected, side):
    assert Bybit([BTC]).parse(frame(S=expected), 0)[0].record.side is side


def test_requests_name_topics_and_carry_a_number():
    assert json.loads(Bybit([BTC]).subscribe([BTC], 3)) == {
        "req_id": "3", "op": "subscribe", "args": ["publicTrade.BTCUSDT"],
    }  # fmt: skip
    assert json.loads(Bybit([BTC]).unsubscribe([BTC], 4))["op"] == "unsubscribe"
    assert Bybit([BTC]).limits.symbols_per_message == 10


def test_the_recorded_acknowledgement_names_no_pair_of_ours(recorded):
    assert Bybit([BTC]).parse(recorded("bybit_ws_subscription_ack.json")[0], 0) == [Subscribed(())]


def test_the_recorded_refusal_keeps_the_exchanges_message(recorded):
    raw = recorded("bybit_ws_subscription_failure.json")[0]
    assert Bybit([BTC]).parse(raw, 0) == [Refused("Invalid topic: invalid.topic.BTCUSDT", ("BTCUSDT",), whole=True)]


@pytest.mark.parametrize(
    ("raw", "events"),
    [
        (
            b'{"success":false,"ret_msg":"Invalid topic: publicTrade.BTCUSDT","op":"subscribe"}',
            [Refused("Invalid topic: publicTrade.BTCUSDT", ("BTCUSDT",), whole=True)],
        ),
        (
            b'{"success":false,"ret_msg":"Invalid symbol :[publicTrade.WBTCUSDT]","req_id":"7","op":"subscribe"}',
            [Refused("Invalid symbol :[publicTrade.WBTCUSDT]", number=7, whole=True)],
        ),
        (
            b'{"success":false,"ret_msg":"error:already subscribed,topic:publicTrade.BTCUSDT","op":"subscribe"}',
            [
                Refused(
                    "error:already subscribed,topic:publicTrade.BTCUSDT",
                    ("BTCUSDT",),
                    0,
                    Refusal.SUBSCRIBED,
                    whole=True,
                )
            ],
        ),
        (
            b'{"success":false,"ret_msg":"args size >10","req_id":"1","op":"subscribe"}',
            [Refused("args size >10", (), 1, Refusal.CAPACITY, whole=True)],
        ),
        (
            b'{"success":false,"ret_msg":"Too many visits!","req_id":"1","op":"subscribe"}',
            [Refused("Too many visits!", (), 1, Refusal.BUSY, whole=True)],
        ),
        (b'{"success":true,"ret_msg":"","req_id":"3","op":"subscribe"}', [Subscribed((), 3)]),
        (b'{"success":true,"ret_msg":"","req_id":"4","op":"unsubscribe"}', [Unsubscribed((), 4)]),
        (
            b'{"topic":"system.status","data":[{"title":"Upgrade","state":"scheduled","begin":"1751596902000"}]}',
            [Closing("maintenance: Upgrade", 1_751_596_902_000_000)],
        ),
        (
            b'{"topic":"system.status","ts":1751596862000,"data":[{"title":"Upgrade","begin":"1751596902000"}]}',
            [Closing("maintenance: Upgrade", 1_751_596_902_000_000, 1_751_596_862_000_000)],
        ),
        (b'{"topic":"system.status","data":[{"title":"Upgrade","state":"completed","begin":"1751596902000"}]}', []),
        (b'{"success":true,"ret_msg":"pong","conn_id":"x","op":"ping"}', []),
        (b'{"op":"pong"}', []),
        (b'{"op":"auth"}', [Unknown("auth")]),
        (b'{"topic":"orderbook.1.BTCUSDT","data":{}}', [Unknown("orderbook.1.BTCUSDT")]),
        (b'{"topic":"orderbook.1.BTCUSDT","data":[]}', [Unknown("orderbook.1.BTCUSDT")]),
    ],
)
def test_other_messages_become_their_events(raw, events):
    assert list(Bybit([BTC]).parse(raw, 0)) == events


@pytest.mark.parametrize(
    "fields", [{"i": ""}, {"i": "a\n"}, {"i": "ä"}, {"i": "x" * 65}, {"T": -1}, {"T": "1"}, {"S": "buy"}, {"p": 1.5}]
)
def test_a_trade_with_a_wrong_field_is_an_invalid_item(fields):
    (event,) = Bybit([BTC]).parse(frame(**fields), 0)
    assert event.error == MALFORMED_ITEM


def test_invalid_items_carry_their_reason():
    assert Bybit([BTC]).parse(frame(s="ETHUSDT"), 0)[0].error == UNSUBSCRIBED
    assert Bybit([BTC]).parse(frame(p="NaN"), 0)[0].error == "INEXACT_VALUE"


def test_the_recorded_answer_holds_one_trade(captures):
    bybit, gap = Bybit([BTC]), Gap(BTC, NO_ID, NO_ID, 0, 2**60, "anchor")
    page = bybit.parse_page(
        bybit.history_request(gap), (captures / "bybit_rest_recent_trade.json").read_bytes(), gap, 7
    )
    (entry,) = page.records
    assert (entry.record.trade_id, entry.record.side) == ("a905d5c3-1ed0-4f37-83e4-9c73a2fe2f01", Side.BUY)
    assert (entry.record.price, entry.record.quantity, entry.record.timestamp) == (
        27_450_500_000_000_000,
        5_000_000_000,
        1_709_891_679_000_000,
    )
    assert not page.overlaps


@pytest.mark.parametrize(
    ("trades", "overlaps", "ids"),
    [
        ([("c", 30), ("b", 20), ("anchor", 10)], True, ["c", "b"]),
        ([("c", 30), ("b", 20), ("older", 5)], False, ["c", "b", "older"]),
        ([("c", 30), ("b", 20)], False, ["c", "b"]),
        ([("later", 50), ("c", 30), ("anchor", 10)], True, ["later", "c"]),
        ([("c", 30), ("late", 5), ("anchor", 10), ("older", 20)], True, ["c", "late"]),
        ([("c", 30), ("late", 5)], False, ["c", "late"]),
        ([], False, []),
    ],
)
def test_a_window_is_proved_only_if_the_history_reaches_back_to_it(trades, overlaps, ids):
    bybit, gap = Bybit([BTC]), Gap(BTC, NO_ID, NO_ID, 10_000, 40_000, "anchor")
    request = bybit.history_request(gap)
    assert (request.path, dict(request.params)) == (
        "/v5/market/recent-trade", {"category": "spot", "symbol": "BTCUSDT", "limit": "60"},
    )  # fmt: skip
    page = bybit.parse_page(request, rows(*trades), gap, 7)
    assert (page.overlaps, [entry.record.trade_id for entry in page.records], page.next_request) == (
        overlaps,
        ids,
        None,
    )
    assert {dict(entry.record.vendor_data)["source"] for entry in page.records} <= {"backfill"}


def test_a_window_without_a_last_trade_is_proved_by_time():
    bybit, gap = Bybit([BTC]), Gap(BTC, NO_ID, NO_ID, 10_000, 40_000)
    page = bybit.parse_page(bybit.history_request(gap), rows(("c", 40), ("b", 20), ("older", 5)), gap, 7)
    assert (page.overlaps, [entry.record.trade_id for entry in page.records]) == (True, ["c", "b"])
    page = bybit.parse_page(bybit.history_request(gap), rows(("c", 40), ("b", 20)), gap, 7)
    assert not page.overlaps


def test_one_late_trade_does_not_make_a_page_unbelievable_and_no_order_does():
    bybit, gap = Bybit([BTC]), Gap(BTC, NO_ID, NO_ID, 10_000, 40_000, "anchor")
    request = bybit.history_request(gap)
    assert bybit.parse_page(request, rows(("c", 40), ("late", 5), ("b", 20), ("anchor", 10)), gap, 7).consistent
    assert not bybit.parse_page(request, rows(("b", 20), ("d", 30), ("e", 35), ("c", 40)), gap, 7).consistent


@pytest.mark.parametrize(
    ("code", "retry_after", "unknown"), [(10006, 5.0, False), (10001, None, True), (1, None, False)]
)
def test_a_refusal_over_rest_says_when_to_ask_again(code, retry_after, unknown):
    with pytest.raises(RestRefused, match=f"{code}: no") as refusal:
        Bybit([BTC]).parse_newest_id(json.dumps({"retCode": code, "retMsg": "no", "result": {}}).encode())
    assert (refusal.value.retry_after, refusal.value.unknown_symbol) == (retry_after, unknown)


def test_ids_cannot_be_compared_so_the_newest_is_none():
    assert Bybit([BTC]).parse_newest_id(rows(("a", 1))) == NO_ID
