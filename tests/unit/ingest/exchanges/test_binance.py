"""Binance spot: real frames in, trades out."""

import json
from itertools import pairwise

import pytest

from k2.ingest.exchanges import adapter
from k2.ingest.exchanges.base import (
    INEXACT,
    MALFORMED_ITEM,
    NO_ID,
    UNSUBSCRIBED,
    Closing,
    Gap,
    InvalidItem,
    MalformedFrame,
    Refusal,
    Refused,
    RestRefused,
    SequencedRecord,
    Subscribed,
    Unknown,
)
from k2.ingest.exchanges.binance.parse import Binance
from k2.ingest.simulator.listings import pair_of
from k2.schemas.channels import TRADES
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.records.trade import Side

BTC, ETH = (pair_of(EXCHANGES["binance"], raw_symbol) for raw_symbol in ("BTCUSDT", "ETHUSDT"))
FRAME = (
    '{"stream":"btcusdt@trade","data":{"e":"trade","E":1723161255343,"s":"BTCUSDT","t":3735683259,'
    '"p":"61837.63000000","q":"0.02000000","T":1723161255342,"m":true,"M":true}}'
)


def changed(**fields: object) -> bytes:
    message = json.loads(FRAME)
    message["data"] |= fields
    return json.dumps(message).encode()


def rows(first: int, last: int) -> bytes:
    return json.dumps(
        [
            {
                "id": n,
                "price": "1.5",
                "qty": "2",
                "quoteQty": "3",
                "time": n,
                "isBuyerMaker": n % 2 == 0,
                "isBestMatch": True,
            }
            for n in range(first, last + 1)
        ]
    ).encode()


@pytest.mark.parametrize(
    ("name", "pair", "count"), [("binance_spot_btcusdt.gz", BTC, 9757), ("binance_spot_ethusdt.gz", ETH, 6106)]
)
def test_every_recorded_trade_is_read_and_no_other_frame_is_one(recorded, name, pair, count):
    binance = Binance([pair])
    trades, others = [], set()
    for frame in recorded(name):
        if frame.startswith(b'{"lastUpdateId"'):  # the recorder asked REST for a snapshot of the book
            continue
        for event in binance.parse(frame, 7):
            if isinstance(event, SequencedRecord):
                trades.append(event)
            else:
                others.add(event)
    assert len(trades) == count
    assert all(after.first_id == before.last_id + 1 for before, after in pairwise(trades))
    assert {event.record.symbol for event in trades} == {pair.symbol}
    assert {event.record.ingestion_timestamp for event in trades} == {7}
    assert others == {Unknown("depthUpdate"), Unknown("bookTicker")}


def test_a_trade_holds_what_the_frame_says():
    (event,) = Binance([BTC]).parse(FRAME.encode(), 1_723_161_255_343_123)
    trade = event.record
    assert (event.first_id, event.last_id, trade.trade_id) == (3_735_683_259, 3_735_683_259, "3735683259")
    assert (trade.symbol, trade.exchange, trade.base_asset, trade.quote_currency) == (
        "BTCUSDT",
        "BINANCE",
        "BTC",
        "USDT",
    )
    assert (trade.price, trade.quantity) == (61_837_630_000_000_000, 20_000_000_000)
    assert (trade.timestamp, trade.ingestion_timestamp) == (1_723_161_255_342_000, 1_723_161_255_343_123)
    assert trade.vendor_data == (("pair", "BTCUSDT"), ("buyer_maker", "true"), ("source", "live"))


@pytest.mark.parametrize(("maker", "side"), [(True, Side.SELL), (False, Side.BUY)])
def test_the_side_is_the_aggressors(maker, side):
    (event,) = Binance([BTC]).parse(changed(m=maker), 0)
    assert event.record.side is side


def test_order_ids_of_older_frames_do_no_harm():
    assert isinstance(Binance([BTC]).parse(changed(b=1, a=2), 0)[0], SequencedRecord)


def test_requests_name_streams_and_carry_a_number():
    assert json.loads(Binance([BTC]).subscribe([BTC], 3)) == {
        "method": "SUBSCRIBE", "params": ["btcusdt@trade"], "id": 3,
    }  # fmt: skip
    assert json.loads(Binance([BTC]).unsubscribe([BTC], 4))["method"] == "UNSUBSCRIBE"


@pytest.mark.parametrize(
    ("frame", "event"),
    [
        (b'{"result":null,"id":1}', Subscribed((), 1)),
        (b'{"result":null,"id":null}', Subscribed(())),
        (b'{"code":2,"msg":"Invalid request: x"}', Refused("2: Invalid request: x", whole=True)),
        (b'{"code":0,"msg":"Unknown property","id":5}', Refused("0: Unknown property", number=5, whole=True)),
        (b'{"error":{"code":3,"msg":"Invalid JSON"}}', Refused("3: Invalid JSON", whole=True)),
        (
            b'{"error":{"code":-1003,"msg":"Too many requests"},"id":2}',
            Refused("-1003: Too many requests", number=2, kind=Refusal.BUSY, whole=True),
        ),
        (b'{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1}}', Closing("serverShutdown")),
        (b'{"e":"serverShutdown","E":1}', Closing("serverShutdown")),
        (b'{"stream":"btcusdt@bookTicker","data":{"u":1,"s":"BTCUSDT"}}', Unknown("bookTicker")),
        (b'{"stream":"btcusdt@aggTrade","data":{"e":"aggTrade"}}', Unknown("aggTrade")),
    ],
)
def test_other_messages_become_their_events(frame, event):
    assert Binance([BTC]).parse(frame, 0) == [event]


def test_a_symbol_that_was_not_subscribed_is_not_trusted():
    (event,) = Binance([BTC]).parse(changed(s="ETHUSDT"), 0)
    assert (event.error, event.reason) == (UNSUBSCRIBED, "'ETHUSDT' was not subscribed")


@pytest.mark.parametrize("value", ["0", "-1", "NaN", "1e999", "9" * 40, "0,5", "0.0000000000001", ""])
@pytest.mark.parametrize("field", ["p", "q"])
def test_a_value_that_would_need_rounding_is_not_trusted_but_its_id_is_accounted_for(field, value):
    (event,) = Binance([BTC]).parse(changed(**{field: value}), 0)
    assert isinstance(event, InvalidItem)
    assert (event.error, event.symbol, event.last_id) == (INEXACT, "BTCUSDT", 3_735_683_259)


@pytest.mark.parametrize(
    "fields",
    [{"t": -1}, {"t": 2**63}, {"t": "1"}, {"T": -1}, {"T": 10**18}, {"p": 1.5}, {"m": "true"}, {"T": None}],
)
def test_a_trade_with_a_wrong_field_is_an_invalid_item(fields):
    (event,) = Binance([BTC]).parse(changed(**fields), 0)
    assert event.error == MALFORMED_ITEM


def test_repair_asks_by_id_a_thousand_at_a_time():
    binance, gap = Binance([BTC]), Gap(BTC, 100, 1350, 0, 1)
    first = binance.history_request(gap)
    assert (first.path, first.weight) == ("/api/v3/historicalTrades", 25)
    assert dict(first.params) == {"symbol": "BTCUSDT", "fromId": "100", "limit": "1000"}
    page = binance.parse_page(first, rows(100, 1099), gap, 9)
    assert [entry.last_id for entry in page.records] == list(range(100, 1100))
    assert dict(page.next_request.params) == {"symbol": "BTCUSDT", "fromId": "1100", "limit": "251"}
    last = binance.parse_page(page.next_request, rows(1100, 1350), gap, 9)
    assert last.next_request is None
    trade = last.records[0].record
    assert (trade.side, trade.price, trade.quantity, trade.timestamp) == (
        Side.SELL,
        1_500_000_000_000,
        2_000_000_000_000,
        1_100_000,
    )
    assert dict(trade.vendor_data)["source"] == "backfill"


def test_rows_outside_the_gap_are_left_alone_and_an_empty_page_ends_it():
    binance, gap = Binance([BTC]), Gap(BTC, 5, 6, 0, 1)
    page = binance.parse_page(binance.history_request(gap), rows(4, 9), gap, 0)
    assert [entry.last_id for entry in page.records] == [5, 6]
    assert binance.parse_page(binance.history_request(gap), b"[]", gap, 0).next_request is None


def test_the_newest_trade_is_the_last_of_the_newest_aggregate():
    binance = Binance([BTC])
    assert binance.newest_request(BTC).path == "/api/v3/aggTrades"
    assert binance.parse_newest_id(b'[{"a":1,"f":5,"l":9,"p":"1"}]') == 9
    assert binance.parse_newest_id(b"[]") == NO_ID


def test_a_refusal_over_rest_says_whether_the_symbol_is_unknown():
    binance, gap = Binance([BTC]), Gap(BTC, 1, 2, 0, 1)
    with pytest.raises(RestRefused, match="-1121: Invalid symbol") as unknown:
        binance.parse_page(binance.history_request(gap), b'{"code":-1121,"msg":"Invalid symbol."}', gap, 0)
    assert unknown.value.unknown_symbol
    with pytest.raises(RestRefused) as other:
        binance.parse_newest_id(b'{"code":-1003,"msg":"TOO_MANY_REQUESTS"}')
    assert not other.value.unknown_symbol
    with pytest.raises(MalformedFrame):
        binance.parse_newest_id(b"<html>")


def test_a_fragment_that_names_no_protocol_is_refused_with_those_that_do():
    with pytest.raises(ValueError, match="binance has no protocol 'v9'; endpoints may end in: none"):
        adapter("binance", TRADES, [BTC], "wss://host#v9")
