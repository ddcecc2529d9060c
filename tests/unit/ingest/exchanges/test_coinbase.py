"""Coinbase Exchange: real frames in, trades out, the maker's side turned round."""

import json

import pytest

from k2.ingest.exchanges.base import (
    MALFORMED_ITEM,
    NO_ID,
    UNSUBSCRIBED,
    Closing,
    Gap,
    Heartbeat,
    MalformedFrame,
    Refusal,
    Refused,
    SequencedRecord,
    Subscribed,
    Unknown,
)
from k2.ingest.exchanges.coinbase.parse import Coinbase
from k2.ingest.simulator.listings import pair_of
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.records.trade import Side

PRODUCTS = "SKL-USD SKL-BTC BAND-GBP NMR-EUR BAND-BTC YFI-BTC DASH-BTC NU-GBP CRV-EUR SKL-GBP".split()
PAIRS = [pair_of(EXCHANGES["coinbase"], raw_symbol) for raw_symbol in PRODUCTS]
BTC = pair_of(EXCHANGES["coinbase"], "BTC-USD")
MATCH = {
    "type": "match", "trade_id": 280232, "maker_order_id": "a", "taker_order_id": "b", "side": "sell", "size": "985",
    "price": "0.00001305", "product_id": "SKL-BTC", "sequence": 177100030, "time": "2021-04-17T16:43:37.089723Z",
}  # fmt: skip


def frame(**fields: object) -> bytes:
    return json.dumps(MATCH | fields).encode()


def rows(newest: int, oldest: int) -> bytes:
    return json.dumps(
        [
            {"trade_id": n, "side": "buy", "size": "1", "price": "2", "time": "2021-04-17T16:43:37.089723Z"}
            for n in range(newest, oldest - 1, -1)
        ]
    ).encode()


def test_the_recording_holds_97_matches_and_a_last_match_for_each_of_ten_products(recorded):
    sources, others = [], set()
    for raw in recorded("coinbase_exchange.gz"):
        for event in Coinbase(PAIRS).parse(raw, 7):
            if isinstance(event, SequencedRecord):
                sources.append(dict(event.record.vendor_data)["source"])
            else:
                others.add(event.kind if isinstance(event, Unknown) else type(event))
    assert (sources.count("live"), sources.count("snapshot")) == (97, 10)
    assert others == {Subscribed, "snapshot", "ticker", "l2update"}


def test_recorded_ids_are_consecutive_for_each_product(recorded):
    newest: dict[str, int] = {}
    for raw in recorded("coinbase_exchange.gz"):
        for event in Coinbase(PAIRS).parse(raw, 7):
            if isinstance(event, SequencedRecord):
                assert newest.get(event.record.symbol, event.first_id - 1) == event.first_id - 1
                newest[event.record.symbol] = event.last_id
    assert len(newest) == 10


def test_a_trade_holds_what_the_frame_says():
    (event,) = Coinbase(PAIRS).parse(frame(), 7)
    trade = event.record
    assert (event.first_id, event.last_id, trade.symbol, trade.exchange) == (280_232, 280_232, "SKLBTC", "COINBASE")
    assert (trade.price, trade.quantity, trade.timestamp) == (13_050_000, 985_000_000_000_000, 1_618_677_817_089_723)
    assert dict(trade.vendor_data) == {
        "pair": "SKL-BTC", "maker_side": "sell", "sequence": "177100030", "maker_order_id": "a", "taker_order_id": "b",
        "source": "live",
    }  # fmt: skip


@pytest.mark.parametrize(("maker", "side"), [("sell", Side.BUY), ("buy", Side.SELL)])
def test_the_side_is_the_takers_who_is_opposite_the_maker(maker, side):
    assert Coinbase(PAIRS).parse(frame(side=maker), 0)[0].record.side is side


def test_subscriptions_ask_for_matches_and_heartbeats():
    asked = {"type": "subscribe", "product_ids": PRODUCTS, "channels": ["matches", "heartbeat"]}
    assert json.loads(Coinbase(PAIRS).subscribe(PAIRS, 1)) == asked
    assert json.loads(Coinbase(PAIRS).unsubscribe(PAIRS, 2)) == asked | {"type": "unsubscribe"}


@pytest.mark.parametrize(
    ("raw", "events"),
    [
        (b'{"type":"heartbeat","sequence":90,"last_trade_id":20,"product_id":"SKL-BTC"}', [Heartbeat("SKLBTC", 20)]),
        (b'{"type":"heartbeat","last_trade_id":0,"product_id":"SKL-BTC"}', [Heartbeat("SKLBTC", 0)]),
        (b'{"type":"heartbeat","last_trade_id":7,"product_id":"BTC-USD"}', []),
        (
            b'{"type":"subscriptions","channels":[{"name":"ticker"},{"name":"matches","product_ids":["SKL-BTC",1]}]}',
            [Subscribed(("SKL-BTC",))],
        ),
        (b'{"type":"subscriptions","channels":[]}', [Subscribed(())]),
        (
            b'{"type":"error","message":"Failed to subscribe","reason":"SKL-BTC is not a valid product"}',
            [Refused("Failed to subscribe: SKL-BTC is not a valid product", ("SKL-BTC",), whole=True)],
        ),
        (
            b'{"type":"error","message":"Failed to subscribe","reason":"KSKL-BTC is delisted"}',
            [Refused("Failed to subscribe: KSKL-BTC is delisted", whole=True)],
        ),
        (
            b'{"type":"error","message":"rate limit exceeded"}',
            [Refused("rate limit exceeded: ", kind=Refusal.BUSY, whole=True)],
        ),
        (b'{"type":"maintenance","message":"Scheduled"}', [Closing("maintenance: Scheduled")]),
        (b'{"type":"auction"}', [Unknown("auction")]),
    ],
)
def test_other_messages_become_their_events(raw, events):
    assert list(Coinbase(PAIRS).parse(raw, 0)) == events


@pytest.mark.parametrize("name", ["coinbase_advanced_market_trades.json", "coinbase_advanced_heartbeats.json"])
def test_frames_of_coinbases_other_api_are_not_taken_for_trades(recorded, name):
    with pytest.raises(MalformedFrame, match="no type"):
        Coinbase([BTC]).parse(recorded(name)[0], 0)


@pytest.mark.parametrize(
    "fields",
    [
        {"time": "2021-04-17T16:43:37"},
        {"side": "SELL"},
        {"trade_id": "1"},
        {"trade_id": -1},
        {"size": 1},
        {"price": None},
    ],
)
def test_a_trade_with_a_wrong_field_is_an_invalid_item(fields):
    (event,) = Coinbase(PAIRS).parse(frame(**fields), 0)
    assert event.error == MALFORMED_ITEM


def test_invalid_items_carry_their_reason():
    assert Coinbase(PAIRS).parse(frame(product_id="BTC-USD"), 0)[0].error == UNSUBSCRIBED
    inexact = Coinbase(PAIRS).parse(frame(price="0.0000000000001"), 0)[0]
    assert (inexact.error, inexact.symbol, inexact.last_id) == ("INEXACT_VALUE", "SKLBTC", 280_232)


def test_repair_pages_from_the_newest_missing_id_down():
    coinbase, gap = Coinbase([BTC]), Gap(BTC, 100, 1350, 0, 1)
    first = coinbase.history_request(gap)
    assert (first.path, dict(first.params)) == ("/products/BTC-USD/trades", {"after": "1351", "limit": "1000"})
    page = coinbase.parse_page(first, rows(1350, 351), gap, 7)
    assert [entry.last_id for entry in page.records] == list(range(1350, 350, -1))
    assert dict(page.next_request.params) == {"after": "351", "limit": "251"}
    last = coinbase.parse_page(page.next_request, rows(350, 100), gap, 7)
    assert last.next_request is None
    assert last.records[-1].last_id == 100
    trade = last.records[-1].record
    assert (trade.side, dict(trade.vendor_data)["source"]) == (Side.SELL, "backfill")


def test_an_empty_history_ends_the_repair():
    gap = Gap(BTC, 100, 110, 0, 1)
    assert Coinbase([BTC]).parse_page(Coinbase([BTC]).history_request(gap), b"[]", gap, 0).next_request is None


def test_the_newest_trade_is_asked_for_by_product():
    coinbase = Coinbase([BTC])
    assert (coinbase.newest_request(BTC).path, dict(coinbase.newest_request(BTC).params)) == (
        "/products/BTC-USD/trades",
        {"limit": "1"},
    )
    assert coinbase.parse_newest_id(rows(9, 8)) == 9
    assert coinbase.parse_newest_id(b"[]") == NO_ID
    with pytest.raises(MalformedFrame):
        coinbase.parse_newest_id(b'{"message":"NotFound"}')
