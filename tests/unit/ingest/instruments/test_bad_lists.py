"""Instrument lists with bad entries, errors of the exchange, and statuses."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.ingest.exchanges import instrument_source
from k2.ingest.exchanges.base import MalformedFrame, RestRefused
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.records.instrument import InstrumentStatus, Listed, Rejected

GOOD = {
    "binance": {"symbol": "BTCUSDT", "status": "TRADING", "baseAsset": "BTC", "quoteAsset": "USDT", "filters": []},
    "kraken": {"altname": "XBTUSD", "wsname": "XBT/USD", "pair_decimals": 1, "lot_decimals": 8, "status": "online"},
    "coinbase": {"id": "BTC-USD", "base_currency": "BTC", "quote_currency": "USD", "status": "online"},
    "bybit": {"symbol": "BTCUSDT", "baseCoin": "BTC", "quoteCoin": "USDT", "status": "Trading"},
    "okx": {"instId": "BTC-USDT", "instType": "SPOT", "baseCcy": "BTC", "quoteCcy": "USDT", "state": "live"},
}
NAME_AT = {"binance": "symbol", "kraken": "altname", "coinbase": "id", "bybit": "symbol", "okx": "instId"}
STATUS_AT = dict.fromkeys(GOOD, "status") | {"okx": "state"}
ERRORS = {
    "binance": {"code": -1003, "msg": "Too many requests"},
    "kraken": {"error": ["EGeneral:Internal error"]},
    "coinbase": {"message": "Internal server error"},
    "bybit": {"retCode": 10016, "retMsg": "Server error", "result": {}},
    "okx": {"code": "50001", "msg": "Service temporarily unavailable", "data": []},
}


def response(exchange: str, *entries: object) -> bytes:
    wrapped = {
        "binance": lambda: {"symbols": entries},
        "kraken": lambda: {"error": [], "result": {f"pair{index}": entry for index, entry in enumerate(entries)}},
        "coinbase": lambda: entries,
        "bybit": lambda: {"retCode": 0, "retMsg": "OK", "result": {"list": entries}},
        "okx": lambda: {"code": "0", "msg": "", "data": entries},
    }
    return json.dumps(wrapped[exchange]()).encode()


@pytest.mark.parametrize("exchange", GOOD)
def test_an_entry_that_cannot_be_read_is_rejected_and_costs_no_other(exchange):
    good = GOOD[exchange]
    bad = good | {NAME_AT[exchange]: "BAD", STATUS_AT[exchange]: 7}
    first, second, third = instrument_source(exchange).read(response(exchange, bad, 7, good | {"unknown": [1]}))
    assert isinstance(first, Rejected)
    assert first.raw_symbol == "BAD"
    assert "not readable" in first.reason
    assert isinstance(second, Rejected)
    assert isinstance(third, Listed)


@pytest.mark.parametrize("exchange", GOOD)
def test_an_error_of_the_exchange_is_no_empty_list(exchange):
    with pytest.raises(RestRefused):
        instrument_source(exchange).read(json.dumps(ERRORS[exchange]).encode())


@pytest.mark.parametrize("exchange", GOOD)
@given(body=st.binary() | st.sampled_from([b"<html>", b"7", b"[", b"null", b"{}"]))
def test_a_body_that_is_no_list_is_malformed(exchange, body):
    try:
        entries = instrument_source(exchange).read(body)
    except (MalformedFrame, RestRefused):
        return
    assert entries == []


@pytest.mark.parametrize("exchange", GOOD)
def test_a_status_that_is_not_known_is_not_taken_for_a_halt(exchange):
    (entry,) = instrument_source(exchange).read(response(exchange, GOOD[exchange] | {STATUS_AT[exchange]: "new"}))
    assert entry.status is InstrumentStatus.UNKNOWN


@pytest.mark.parametrize(
    ("exchange", "fields", "status"),
    [
        ("binance", {"status": "BREAK"}, InstrumentStatus.HALTED),
        ("binance", {"status": "HALT"}, InstrumentStatus.HALTED),
        ("kraken", {"status": "cancel_only"}, InstrumentStatus.HALTED),
        ("kraken", {"status": "limit_only"}, InstrumentStatus.TRADING),
        ("kraken", {"status": "delisted"}, InstrumentStatus.DELISTED),
        ("coinbase", {"status": "delisted"}, InstrumentStatus.DELISTED),
        ("coinbase", {"trading_disabled": True}, InstrumentStatus.HALTED),
        ("bybit", {"status": "PreLaunch"}, InstrumentStatus.ANNOUNCED),
        ("bybit", {"status": "Closed"}, InstrumentStatus.DELISTED),
        ("okx", {"state": "suspend"}, InstrumentStatus.HALTED),
        ("okx", {"state": "preopen"}, InstrumentStatus.ANNOUNCED),
    ],
)
def test_statuses(exchange, fields, status):
    (entry,) = instrument_source(exchange).read(response(exchange, GOOD[exchange] | fields))
    assert entry.status is status


def test_other_kinds_and_tests_of_okx_are_rejected_by_name():
    source = instrument_source("okx")
    entries = source.read(
        response("okx", GOOD["okx"] | {"instType": "SWAP", "instId": "BTC-USDT-SWAP"}, GOOD["okx"] | {"state": "test"})
    )
    assert [entry.raw_symbol for entry in entries] == ["BTC-USDT-SWAP", "BTC-USDT"]
    assert all(isinstance(entry, Rejected) for entry in entries)


def test_every_exchange_is_here():
    assert set(GOOD) == set(EXCHANGES)
