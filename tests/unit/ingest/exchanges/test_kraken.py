"""Kraken v2: real frames in, trades out, exact although prices are JSON numbers."""

import json

import pytest

from k2.ingest.exchanges.base import (
    MALFORMED_ITEM,
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
from k2.ingest.exchanges.kraken.parse import Kraken
from k2.ingest.simulator.listings import pair_of
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.records.trade import Side

BTC = pair_of(EXCHANGES["kraken"], "BTC/USD")
USDT = pair_of(EXCHANGES["kraken"], "BTC/USDT")


def frame(**fields: object) -> bytes:
    fill = {
        "symbol": "BTC/USD", "side": "buy", "price": 105944.2, "qty": 0.00027625, "ord_type": "limit",
        "trade_id": 10218208, "timestamp": "2023-10-06T17:35:55.440295Z",
    }  # fmt: skip
    return json.dumps({"channel": "trade", "type": "update", "data": [fill | fields]}).encode()


def test_the_recorded_message_holds_two_exact_trades(recorded):
    events = Kraken([BTC]).parse(recorded("kraken_v2_trade.json")[0], 7)
    assert [(e.first_id, e.last_id, e.record.price, e.record.quantity, e.record.side) for e in events] == [
        (10_218_208, 10_218_208, 105_944_200_000_000_000, 276_250_000, Side.BUY),
        (10_218_209, 10_218_209, 105_910_500_000_000_000, 124_600_000, Side.SELL),
    ]
    assert events[0].record.timestamp == 1_696_613_755_440_295
    assert (events[0].record.symbol, events[0].record.exchange, events[0].record.ingestion_timestamp) == (
        "BTCUSD",
        "KRAKEN",
        7,
    )
    assert events[1].record.vendor_data == (("pair", "BTC/USD"), ("order_type", "market"), ("source", "live"))


def test_a_price_that_no_float_can_hold_is_exact():
    raw = frame().replace(b"105944.2", b"9007199254.74099312")
    (event,) = Kraken([BTC]).parse(raw, 0)
    assert event.record.price == 9_007_199_254_740_993_120_000


def test_a_snapshots_trades_say_so():
    raw = frame().replace(b'"update"', b'"snapshot"')
    assert dict(Kraken([BTC]).parse(raw, 0)[0].record.vendor_data)["source"] == "snapshot"


def test_subscriptions_always_ask_for_the_snapshot():
    pairs = [pair_of(EXCHANGES["kraken"], f"A{n}/USD") for n in range(101)]
    first = json.loads(Kraken(pairs).subscribe(pairs[:100], 7))
    assert first["method"] == "subscribe"
    assert first["params"]["channel"] == "trade"
    assert first["params"]["snapshot"] is True
    assert first["params"]["symbol"][0] == "A0/USD"
    assert (first["req_id"], len(first["params"]["symbol"])) == (7, 100)
    last = json.loads(Kraken(pairs).unsubscribe(pairs[100:], 8))
    assert (last["method"], last["params"]) == ("unsubscribe", {"channel": "trade", "symbol": ["A100/USD"]})


@pytest.mark.parametrize(
    ("raw", "events"),
    [
        (b'{"channel":"heartbeat"}', []),
        (b'{"channel":"status","type":"update","data":[{"system":"online"}]}', []),
        (b'{"method":"pong","req_id":101}', []),
        (
            b'{"method":"subscribe","result":{"channel":"trade","snapshot":true,"symbol":"BTC/USD"},"success":true}',
            [Subscribed(("BTC/USD",))],
        ),
        (
            b'{"error":"Currency pair not supported X/Y","method":"subscribe","success":false,"symbol":"X/Y"}',
            [Refused("Currency pair not supported X/Y", ("X/Y",))],
        ),
        (
            b'{"error":"Already subscribed","success":false}',
            [Refused("Already subscribed", kind=Refusal.SUBSCRIBED, whole=True)],
        ),
        (
            b'{"error":"Exceeded msg rate","method":"subscribe","success":false,"req_id":2}',
            [Refused("Exceeded msg rate", (), 2, Refusal.BUSY, whole=True)],
        ),
        (b'{"Error":"Exceeded msg rate"}', [Refused("Exceeded msg rate", kind=Refusal.BUSY, whole=True)]),
        (
            b'{"method":"unsubscribe","result":{"channel":"trade","symbol":"BTC/USD"},"success":true,"req_id":3}',
            [Unsubscribed(("BTC/USD",), 3)],
        ),
        (
            b'{"channel":"status","data":[{"upcoming_maintenance":[{"phase":"final","begins_at":"2026-01-01T00:00:00Z"}]}]}',
            [Closing("maintenance: final", 1_767_225_600_000_000)],
        ),
        (b'{"channel":"book","type":"snapshot","data":[]}', [Unknown("book")]),
    ],
)
def test_other_messages_become_their_events(raw, events):
    assert list(Kraken([BTC]).parse(raw, 0)) == events


def test_a_connection_is_left_when_its_engine_goes_into_maintenance_but_not_when_it_began_there():
    status = b'{"channel":"status","type":"update","data":[{"system":"%s"}]}'
    adapter = Kraken([BTC])
    assert [list(adapter.parse(status % system, 0)) for system in (b"online", b"maintenance", b"online")] == [
        [], [Closing("status: maintenance")], [],
    ]  # fmt: skip
    assert list(Kraken([BTC]).parse(status % b"maintenance", 0)) == []


@pytest.mark.parametrize(
    "fields",
    [
        {"timestamp": "2023-10-06T17:35:55.440295"},
        {"timestamp": "yesterday"},
        {"trade_id": -1},
        {"trade_id": 2**63},
        {"side": "b"},
        {"price": None},
        {"qty": []},
    ],
)
def test_a_trade_with_a_wrong_field_is_an_invalid_item(fields):
    (event,) = Kraken([BTC]).parse(frame(**fields), 0)
    assert event.error == MALFORMED_ITEM


@pytest.mark.parametrize("number", [b"0", b"-1", b"1e999999", b"1e-20", b"0.0000000000001", b"1" * 40])
def test_a_price_that_would_need_rounding_is_not_trusted(number):
    (event,) = Kraken([BTC]).parse(frame().replace(b"105944.2", number), 0)
    assert (event.error, event.last_id) == ("INEXACT_VALUE", 10_218_208)


def test_one_wrong_trade_does_not_spoil_its_neighbours():
    message = json.loads(frame())
    message["data"] += [message["data"][0] | {"symbol": "ETH/USD"}, message["data"][0] | {"trade_id": 10_218_209}]
    events = Kraken([BTC]).parse(json.dumps(message).encode(), 0)
    assert [isinstance(event, SequencedRecord) for event in events] == [True, False, True]
    assert events[1].error == UNSUBSCRIBED


def test_a_gap_in_the_recorded_page_is_repaired_from_it(captures):
    kraken, body = Kraken([USDT]), (captures / "kraken_rest_trades.json").read_bytes()
    gap = Gap(USDT, 10_218_300, 10_218_399, 1_762_795_433_971_744, 0)
    page = kraken.parse_page(kraken.history_request(gap), body, gap, 7)
    assert [entry.last_id for entry in page.records] == list(range(10_218_300, 10_218_400))
    assert page.next_request is None
    assert {dict(entry.record.vendor_data)["source"] for entry in page.records} == {"backfill"}


def test_rests_seventh_decimal_is_cut_so_that_both_paths_agree(captures):
    kraken, body = Kraken([USDT]), (captures / "kraken_rest_trades.json").read_bytes()
    gap = Gap(USDT, 10_218_208, 10_218_208, 0, 0)
    (entry,) = kraken.parse_page(kraken.history_request(gap), body, gap, 7).records
    assert (entry.record.timestamp, entry.record.price, entry.record.side) == (
        1_762_795_433_971_744,
        105_433_600_000_000_000,
        Side.BUY,
    )
    assert dict(entry.record.vendor_data)["order_type"] == "limit"


def test_repair_asks_by_time_and_goes_on_from_the_cursor(captures):
    kraken, body = Kraken([USDT]), (captures / "kraken_rest_trades.json").read_bytes()
    gap = Gap(USDT, 10_219_200, 10_219_300, 1_762_795_433_971_744, 0)
    first = kraken.history_request(gap)
    assert first.path == "/0/public/Trades"
    assert dict(first.params) == {"pair": "XBTUSDT", "since": "1762795433971743999", "count": "1000"}
    page = kraken.parse_page(first, body, gap, 7)
    assert [entry.last_id for entry in page.records] == list(range(10_219_200, 10_219_208))
    cursor = int(json.loads(body)["result"]["last"])
    assert page.next_request.params["since"] == str(cursor - 1)
    again = kraken.parse_page(page.next_request, body, gap, 7)
    assert again.next_request is None  # the cursor stands still: there is no more


def test_the_newest_id_is_the_largest_of_the_page(captures):
    kraken = Kraken([USDT])
    assert kraken.parse_newest_id((captures / "kraken_rest_trades.json").read_bytes()) == 10_219_207
    assert dict(kraken.newest_request(BTC).params) == {"pair": "XBTUSD", "count": "1"}


@pytest.mark.parametrize(
    ("error", "retry_after", "unknown"),
    [
        ("EAPI:Rate limit exceeded", 5.0, False),
        ("EService:Unavailable", 10.0, False),
        ("EQuery:Unknown asset pair", None, True),
        ("EGeneral:Invalid arguments", None, False),
    ],
)
def test_a_refusal_over_rest_says_when_to_ask_again(error, retry_after, unknown):
    with pytest.raises(RestRefused, match=error) as refusal:
        Kraken([BTC]).parse_newest_id(json.dumps({"error": [error]}).encode())
    assert (refusal.value.retry_after, refusal.value.unknown_symbol) == (retry_after, unknown)
