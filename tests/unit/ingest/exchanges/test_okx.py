"""OKX v5: real frames in, trades out; never an aggregate of several fills."""

import json

import pytest

from k2.ingest.exchanges.base import (
    AGGREGATE,
    MALFORMED_ITEM,
    NO_ID,
    UNSUBSCRIBED,
    Closing,
    Gap,
    Refusal,
    Refused,
    RestRefused,
    SequencedRecord,
    Subscribed,
    Unknown,
    Unsubscribed,
)
from k2.ingest.exchanges.okx.parse import Okx
from k2.ingest.simulator.listings import pair_of
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.records.trade import Side

USD, USDT = (pair_of(EXCHANGES["okx"], raw_symbol) for raw_symbol in ("BTC-USD", "BTC-USDT"))
TRADE = {
    "instId": "BTC-USDT", "tradeId": "130639474", "px": "42219.9", "sz": "0.12060306", "side": "buy",
    "ts": "1630048897897", "source": "0",
}  # fmt: skip


def frame(**fields: object) -> bytes:
    return json.dumps({"arg": {"channel": "trades-all", "instId": "BTC-USDT"}, "data": [TRADE | fields]}).encode()


def rows(newest: int, oldest: int) -> bytes:
    items = [TRADE | {"tradeId": str(n)} for n in range(newest, oldest - 1, -1)]
    return json.dumps({"code": "0", "msg": "", "data": items}).encode()


def of_fills(raw: bytes) -> bytes:
    """A recorded frame of the channel of aggregates, as the channel of fills would have sent it."""
    return raw.replace(b'"channel":"trades"', b'"channel":"trades-all"')


def test_the_recordings_spot_trades_are_read_and_its_derivatives_are_not_trusted(recorded):
    # Recorded before `count` existed, when an item of both channels had the same fields.
    events = [event for raw in recorded("okx_v5.gz") for event in Okx([USDT]).parse(of_fills(raw), 7)]
    trades = [event for event in events if isinstance(event, SequencedRecord)]
    invalid = [event for event in events if getattr(event, "error", "") == UNSUBSCRIBED]
    assert len(trades) + len(invalid) == 74
    assert len(trades) > 0
    assert all(event.first_id == event.last_id for event in trades)
    kinds = {event.kind for event in events if isinstance(event, Unknown)}
    assert kinds >= {"tickers"}
    assert {type(event) for event in events} <= {SequencedRecord, Subscribed, Unknown} | {
        type(event) for event in invalid
    }


def test_the_channel_of_aggregates_is_never_taken_for_trades(recorded):
    events = [event for raw in recorded("okx_v5.gz") for event in Okx([USDT]).parse(raw, 7)]
    assert {type(event) for event in events} == {Subscribed, Unknown}
    assert Okx([USD]).parse(recorded("okx_v5_trades.json")[0], 7) == [Unknown("trades")]


@pytest.mark.parametrize("count", ["3", "2", 2, "0", "-1", "x", [], {}, 1.5])
def test_an_aggregate_on_the_channel_of_fills_is_no_trade_and_its_ids_count_as_missing(count, recorded):
    (event,) = Okx([USDT]).parse(frame(count=count), 7)
    assert (event.error, event.symbol, event.last_id) == (AGGREGATE, "BTCUSDT", NO_ID)
    assert "130639474" in event.reason
    (real,) = Okx([USD]).parse(of_fills(recorded("okx_v5_trades.json")[0].replace(b" ", b"")), 7)
    assert real.error == AGGREGATE


@pytest.mark.parametrize("count", ["1", 1, None, ""])
def test_an_item_that_counts_one_fill_is_a_trade(count):
    (event,) = Okx([USDT]).parse(frame(count=count), 7)
    assert (event.first_id, event.last_id) == (130_639_474, 130_639_474)


def test_an_aggregate_in_the_history_is_no_trade():
    body = json.dumps({"code": "0", "data": [TRADE | {"count": "3"}]}).encode()
    gap = Gap(USDT, 130_639_472, 130_639_474, 0, 1)
    page = Okx([USDT]).parse_page(Okx([USDT]).history_request(gap), body, gap, 7)
    assert (list(page.records), [item.error for item in page.invalid]) == ([], [AGGREGATE])


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
        "pair": "BTC-USDT", "order_source": "0", "source": "live",
    }  # fmt: skip


def test_a_sell_is_a_sell():
    (event,) = Okx([USDT]).parse(frame(side="sell", tradeId="2"), 0)
    assert (event.record.side, event.first_id, event.last_id) == (Side.SELL, 2, 2)


def test_subscriptions_name_every_instrument_in_one_message():
    assert json.loads(Okx([USD, USDT]).subscribe([USD, USDT], 1)) == {
        "id": "1",
        "op": "subscribe",
        "args": [{"channel": "trades-all", "instId": "BTC-USD"}, {"channel": "trades-all", "instId": "BTC-USDT"}],
    }


@pytest.mark.parametrize(
    ("raw", "events"),
    [
        (b"pong", []),
        (b'{"event":"subscribe","arg":{"channel":"trades-all","instId":"BTC-USDT"}}', [Subscribed(("BTC-USDT",))]),
        (
            b'{"event":"error","code":"60018","msg":"channel:trades-all,instId:BTC-USDT doesn\'t exist."}',
            [Refused("60018: channel:trades-all,instId:BTC-USDT doesn't exist.", ("BTC-USDT",))],
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
            b'{"id":"2","event":"unsubscribe","arg":{"channel":"trades-all","instId":"BTC-USDT"}}',
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
        {"tradeId": "x"}, {"tradeId": "-1"}, {"tradeId": 1}, {"ts": "1.5"},
        {"ts": "-1"}, {"ts": "9" * 16}, {"side": "BUY"}, {"px": 1},
    ],
)  # fmt: skip
def test_a_trade_with_a_wrong_field_is_an_invalid_item(fields):
    (event,) = Okx([USDT]).parse(frame(**fields), 0)
    assert event.error == MALFORMED_ITEM


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
