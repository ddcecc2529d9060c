"""Kraken v1: arrays without ids in, trades out under ids of their own."""

import json

import pytest

from k2.ingest.exchanges import adapter
from k2.ingest.exchanges.base import (
    MALFORMED_ITEM,
    NO_ID,
    UNSUBSCRIBED,
    Gap,
    MalformedFrame,
    Refused,
    SequencedRecord,
    Subscribed,
    Unknown,
)
from k2.ingest.exchanges.kraken.parse_v1 import KrakenV1
from k2.ingest.simulator.listings import pair_of
from k2.schemas.channels import TRADES
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.records.trade import Side

PAIRS = [
    pair_of(EXCHANGES["kraken"], raw_symbol)
    for raw_symbol in (
        "WAVES/EUR", "XMR/USD", "KSM/BTC", "GRT/ETH", "SC/EUR", "ETH/CHF", "OCEAN/BTC", "OMG/USD", "BTC/CHF", "ADA/BTC",
    )
]  # fmt: skip
XMR = next(pair for pair in PAIRS if pair.symbol == "XMRUSD")
FILLS = [
    ["354.04000000", "0.28245396", "1618678150.826417", "s", "m", ""],
    ["353.81000000", "1.71754604", "1618678150.827816", "s", "l", ""],
]


def frame(fills: object, name: str = "XMR/USD") -> bytes:
    return json.dumps([993, fills, "trade", name]).encode()


def test_the_recording_holds_ten_trades_and_ten_subscriptions(recorded):
    events = [event for raw in recorded("kraken_v1.gz") for event in KrakenV1(PAIRS).parse(raw, 7)]
    assert sum(isinstance(event, SequencedRecord) for event in events) == 10
    assert {raw_symbol for event in events if isinstance(event, Subscribed) for raw_symbol in event.raw_symbols} == {
        pair.raw_symbol for pair in PAIRS
    }
    assert {type(event) for event in events} == {SequencedRecord, Subscribed}


def test_a_trade_holds_what_the_frame_says():
    first, second = KrakenV1(PAIRS).parse(frame(FILLS), 7)
    trade = first.record
    assert (trade.symbol, trade.exchange, trade.price, trade.quantity) == (
        "XMRUSD",
        "KRAKEN",
        354_040_000_000_000,
        282_453_960_000,
    )
    assert (trade.timestamp, trade.side, trade.ingestion_timestamp) == (1_618_678_150_826_417, Side.SELL, 7)
    assert trade.trade_id.startswith("KRAKEN-1618678150826417-")
    assert dict(trade.vendor_data) == {"pair": "XMR/USD", "order_type": "market", "misc": "", "source": "live"}
    assert dict(second.record.vendor_data)["order_type"] == "limit"
    assert (first.first_id, first.last_id) == (NO_ID, NO_ID)


def test_a_buy_is_a_buy():
    assert KrakenV1(PAIRS).parse(frame([[*FILLS[0][:3], "b", "m", ""]]), 0)[0].record.side is Side.BUY


def test_krakens_own_names_are_used_on_the_wire_and_ours_in_trades():
    asked = json.loads(KrakenV1(PAIRS).subscribe(PAIRS, 1))
    assert "KSM/XBT" in asked["pair"]
    assert (asked["subscription"], asked["reqid"]) == ({"name": "trade"}, 1)
    (event, _) = KrakenV1(PAIRS).parse(frame(FILLS, "XBT/CHF"), 0)
    assert event.record.symbol == "BTCCHF"


def test_the_same_trade_twice_has_the_same_id_and_a_longer_spelling_changes_nothing():
    short = [["354.04", "0.28245396", "1618678150.826417", "s", "m", ""]]
    ids = {KrakenV1(PAIRS).parse(frame(fills), at)[0].record.trade_id for at, fills in enumerate((FILLS, FILLS, short))}
    assert len(ids) == 1


@pytest.mark.parametrize(
    ("raw", "events"),
    [
        (b'{"event":"heartbeat"}', []),
        (b'{"event":"pong","reqid":42}', []),
        (b'{"connectionID":1,"event":"systemStatus","status":"online","version":"1.8.3"}', []),
        (
            b'{"event":"subscriptionStatus","pair":"A/B","status":"error","errorMessage":"not supported A/B"}',
            [Refused("not supported A/B", whole=True)],
        ),
        (
            b'{"event":"subscriptionStatus","pair":"XMR/USD","status":"error","errorMessage":"no"}',
            [Refused("no", ("XMR/USD",))],
        ),
        (b'{"event":"addOrderStatus"}', [Unknown("addOrderStatus")]),
    ],
)
def test_other_messages_become_their_events(raw, events):
    assert list(KrakenV1(PAIRS).parse(raw, 0)) == events


@pytest.mark.parametrize(
    "fill",
    [
        ["1", "1", "x", "s", "m", ""],
        ["1", "1", "1618678150.8", "x", "m", ""],
        ["1", "1", "1618678150.8", "s"],
        ["1", "1", "9999999999999", "s", "m", ""],
        ["1", "1", "-1.0", "s", "m", ""],
    ],
)
def test_a_wrong_fill_is_an_invalid_item(fill):
    (event,) = KrakenV1(PAIRS).parse(frame([fill]), 0)
    assert (event.error, event.symbol) == (MALFORMED_ITEM, "XMRUSD")


def test_further_columns_are_ignored():
    fill = ["1", "1", "1618678150.8", "s", "m", ""]
    plain, wide = (KrakenV1(PAIRS).parse(frame([columns]), 0) for columns in (fill, [*fill, 77, {"new": 1}]))
    assert plain == wide


@pytest.mark.parametrize(
    "raw",
    [
        frame("trades"),
        b'[1,[],"book","XMR/USD"]',
        b"[]",
        b'{"a":1}',
    ],
)
def test_a_wrong_frame_is_malformed(raw):
    with pytest.raises(MalformedFrame):
        KrakenV1(PAIRS).parse(raw, 0)


def test_a_pair_that_was_not_subscribed_is_not_trusted():
    assert KrakenV1(PAIRS).parse(frame(FILLS, "DOT/USD"), 0)[0].error == UNSUBSCRIBED


def test_an_inexact_price_is_not_trusted():
    assert KrakenV1(PAIRS).parse(frame([["0,5", *FILLS[0][1:]]]), 0)[0].error == "INEXACT_VALUE"


def test_a_window_is_closed_by_rest_under_the_ids_of_the_websocket():
    v1 = KrakenV1(PAIRS)
    live = v1.parse(frame(FILLS), 0)
    body = (
        b'{"error":[],"result":{"XXMRZUSD":[["354.04","0.28245396",1618678150.8264171,"s","m","",1],'
        b'["353.81","1.71754604",1618678150.8278169,"s","l","",2]],"last":"1618678150827816900"}}'
    )
    gap = Gap(XMR, NO_ID, NO_ID, 1_618_678_150_826_417, 1_618_678_150_827_000, "anchor")
    page = v1.parse_page(v1.history_request(gap), body, gap, 0)
    assert [entry.record.trade_id for entry in page.records] == [live[0].record.trade_id]
    assert page.next_request is None
    assert v1.parse_newest_id(body) == NO_ID


@pytest.mark.parametrize(("first", "overlaps"), [("1618678150.8264171", True), ("1618678150.8264191", False)])
def test_a_late_trade_belongs_to_a_window_and_proves_nothing(first, overlaps):
    v1 = KrakenV1(PAIRS)
    times = (first, "1618678100.5", "1618678150.8278169")
    rows = ",".join(f'["{place + 1}","1",{time},"s","m","",1]' for place, time in enumerate(times))
    body = f'{{"error":[],"result":{{"XXMRZUSD":[{rows}],"last":"1618678150827816900"}}}}'.encode()
    gap = Gap(XMR, NO_ID, NO_ID, 1_618_678_150_826_417, 1_618_678_150_827_816, "anchor")
    page = v1.parse_page(v1.history_request(gap), body, gap, 0)
    assert [entry.record.price // 10**12 for entry in page.records] == [1, 2, 3]
    assert (page.overlaps, page.reaches, page.consistent) == (overlaps, True, True)


def test_an_endpoints_fragment_chooses_this_protocol():
    assert isinstance(adapter("kraken", TRADES, PAIRS, "wss://ws.kraken.com#v1"), KrakenV1)
    with pytest.raises(ValueError, match="kraken#v1"):
        adapter("kraken", TRADES, PAIRS, "wss://ws.kraken.com#v3")
