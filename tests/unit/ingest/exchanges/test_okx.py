"""OKX v5: real frames in, trades out, aggregates with the ids they cover."""

import json

import pytest

from k2.ingest.exchanges.base import (
    NO_ID,
    UNSUBSCRIBED,
    Closing,
    Gap,
    MalformedFrame,
    Refusal,
    Refused,
    RestRefused,
    SequencedRecord,
    Subscribed,
    Unknown,
    Unsubscribed,
)
from k2.ingest.exchanges.okx.parse import Okx
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.records.trade import Side

USD, USDT = (EXCHANGES["okx"].pair(raw_symbol) for raw_symbol in ("BTC-USD", "BTC-USDT"))
TRADE = {
    "instId": "BTC-USDT", "tradeId": "130639474", "px": "42219.9", "sz": "0.12060306", "side": "buy",
    "ts": "1630048897897", "count": "3", "source": "0", "seqId": 1234,
}  # fmt: skip


def frame(**fields: object) -> bytes:
    return json.dumps({"arg": {"channel": "trades", "instId": "BTC-USDT"}, "data": [TRADE | fields]}).encode()


def rows(newest: int, oldest: int) -> bytes:
    items = [TRADE | {"tradeId": str(n), "count": "1"} for n in range(newest, oldest - 1, -1)]
    return json.dumps({"code": "0", "msg": "", "data": items}).encode()


def test_the_recordings_spot_trades_are_read_and_its_derivatives_are_not_trusted(recorded):
    events = [event for raw in recorded("okx_v5.gz") for event in Okx([USDT]).parse(raw, 7)]
    trades = [event for event in events if isinstance(event, SequencedRecord)]
    invalid = [event for event in events if getattr(event, "error", "") == UNSUBSCRIBED]
    assert len(trades) + len(invalid) == 74
    assert len(trades) > 0
    assert all(event.first_id == event.last_id for event in trades)  # recorded before `count` existed
    kinds = {event.kind for event in events if isinstance(event, Unknown)}
    assert kinds >= {"tickers"}
    assert {type(event) for event in events} <= {SequencedRecord, Subscribed, Unknown} | {
        type(event) for event in invalid
    }


def test_an_aggregate_stands_for_all_the_ids_it_covers(recorded):
    (event,) = Okx([USD]).parse(recorded("okx_v5_trades.json")[0], 7)
    assert (event.first_id, event.last_id, event.record.trade_id) == (130_639_472, 130_639_474, "130639474")
    assert event.record.symbol == "BTCUSD"


def test_a_trade_holds_what_the_frame_says():
    (event,) = Okx([USDT]).parse(frame(), 7)
    trade = event.record
    assert (trade.symbol, trade.exchange, trade.price, trade.quantity) == (
        "BTCUSDT",
        "OKX",
        42_219_900_000_000_000,
        120_603_060_000,
    )
    assert (trade.timestamp, trade.side, trade.ingestion_timestamp) == (1_630_048_897_897_000, Side.BUY, 7)
    assert dict(trade.vendor_data) == {
        "pair": "BTC-USDT", "count": "3", "sequence": "1234", "order_source": "0", "source": "live",
    }  # fmt: skip


def test_a_sell_is_a_sell_and_a_first_trade_has_no_id_below_zero():
    (event,) = Okx([USDT]).parse(frame(side="sell", tradeId="2", count="5"), 0)
    assert (event.record.side, event.first_id, event.last_id) == (Side.SELL, 0, 2)


def test_subscriptions_name_every_instrument_in_one_message():
    assert json.loads(Okx([USD, USDT]).subscribe([USD, USDT], 1)) == {
        "id": "1",
        "op": "subscribe",
        "args": [{"channel": "trades", "instId": "BTC-USD"}, {"channel": "trades", "instId": "BTC-USDT"}],
    }


@pytest.mark.parametrize(
    ("raw", "events"),
    [
        (b"pong", []),
        (b'{"event":"subscribe","arg":{"channel":"trades","instId":"BTC-USDT"}}', [Subscribed(("BTC-USDT",))]),
        (
            b'{"event":"error","code":"60018","msg":"channel:trades,instId:BTC-USDT doesn\'t exist."}',
            [Refused("60018: channel:trades,instId:BTC-USDT doesn't exist.", ("BTC-USDT",))],
        ),
        (b'{"event":"error","code":"60012","msg":"Invalid request"}', [Refused("60012: Invalid request", whole=True)]),
        (
            b'{"id":"3","event":"error","code":"60018","msg":"Subscribe failed, instId:WBTC-USDT doesn\'t exist."}',
            [Refused("60018: Subscribe failed, instId:WBTC-USDT doesn't exist.", number=3, whole=True)],
        ),
        (
            b'{"id":"3","event":"error","code":"60014","msg":"Requests too frequent"}',
            [Refused("60014: Requests too frequent", (), 3, Refusal.BUSY)],
        ),
        (
            b'{"id":"2","event":"unsubscribe","arg":{"channel":"trades","instId":"BTC-USDT"}}',
            [Unsubscribed(("BTC-USDT",), 2)],
        ),
        (
            b'{"event":"notice","code":"64008","msg":"The connection will soon be closed for a service upgrade."}',
            [Closing("64008: The connection will soon be closed for a service upgrade.")],
        ),
        (b'{"event":"notice","code":"1","msg":"hello"}', [Unknown("notice 1: hello")]),
        (b'{"event":"channel-conn-count"}', [Unknown("channel-conn-count")]),
        (b'{"arg":{"channel":"tickers"},"data":[]}', [Unknown("tickers")]),
    ],
)
def test_other_messages_become_their_events(raw, events):
    assert list(Okx([USDT]).parse(raw, 0)) == events


@pytest.mark.parametrize(
    "fields",
    [
        {"tradeId": "x"}, {"tradeId": "-1"}, {"tradeId": 1}, {"count": "0"}, {"count": "-1"}, {"ts": "1.5"},
        {"ts": "-1"}, {"ts": "9" * 16}, {"side": "BUY"}, {"px": 1},
    ],
)  # fmt: skip
def test_a_trade_with_a_wrong_field_is_malformed(fields):
    with pytest.raises(MalformedFrame):
        Okx([USDT]).parse(frame(**fields), 0)


def test_an_inexact_price_is_not_trusted_but_its_id_is_accounted_for():
    (event,) = Okx([USDT]).parse(frame(px="1e999"), 0)
    assert (event.error, event.symbol, event.last_id) == ("INEXACT_VALUE", "BTCUSDT", 130_639_474)


def test_repair_pages_single_fills_from_the_newest_missing_id_down():
    okx, gap = Okx([USDT]), Gap(USDT, 100, 250, 0, 1)
    first = okx.history_request(gap)
    assert first.path == "/api/v5/market/history-trades"
    assert dict(first.params) == {"instId": "BTC-USDT", "type": "1", "after": "251", "limit": "100"}
    page = okx.parse_page(first, rows(250, 151), gap, 7)
    assert [entry.last_id for entry in page.records] == list(range(250, 150, -1))
    assert page.next_request.params["after"] == "151"
    last = okx.parse_page(page.next_request, rows(150, 51), gap, 7)
    assert last.next_request is None
    assert [entry.last_id for entry in last.records] == list(range(150, 99, -1))
    assert dict(last.records[0].record.vendor_data)["source"] == "backfill"


def test_the_newest_id_is_the_largest_of_the_answer():
    okx = Okx([USDT])
    assert okx.newest_request(USDT).path == "/api/v5/market/trades"
    assert okx.parse_newest_id(rows(9, 8)) == 9
    assert okx.parse_newest_id(b'{"code":"0","data":[]}') == NO_ID


@pytest.mark.parametrize(
    ("code", "retry_after", "unknown"), [("50011", 2.0, False), ("51001", None, True), ("51000", None, False)]
)
def test_a_refusal_over_rest_says_when_to_ask_again(code, retry_after, unknown):
    with pytest.raises(RestRefused, match=f"{code}: no") as refusal:
        Okx([USDT]).parse_newest_id(json.dumps({"code": code, "msg": "no", "data": []}).encode())
    assert (refusal.value.retry_after, refusal.value.unknown_symbol) == (retry_after, unknown)
