"""Frames that are judged again: which records they hold, and which of them are sent."""

import json

from k2.ingest.exchanges import adapter
from k2.ingest.redrive import StoredFrame, judge, unsent
from k2.schemas.channels import TRADES
from k2.schemas.exchanges.spec import Pair

PAIR = Pair("BTCUSDT", "BTCUSDT", "BTC", "USDT")


def _frame(number: int, price: str = "1.5", symbol: str = "BTCUSDT") -> bytes:
    data = {"e": "trade", "s": symbol, "t": number, "p": price, "q": "2", "T": 1_700_000_000_000, "m": True}
    return json.dumps({"stream": "x", "data": data}).encode()


def _judge(*bodies: bytes):
    frames = [StoredFrame(f"topic/0/{offset}", body, 1_700_000_000_500_000) for offset, body in enumerate(bodies)]
    return judge(adapter("binance", TRADES, (PAIR,)), frames)


def test_a_frame_that_parses_gives_its_records_with_their_origin():
    judged = _judge(_frame(7), _frame(8))
    assert [record.trade_id for record in judged.records] == ["7", "8"]
    assert [dict(record.vendor_data)["dead_letter"] for record in judged.records] == ["topic/0/0", "topic/0/1"]
    assert {record.ingestion_timestamp for record in judged.records} == {1_700_000_000_500_000}
    assert (judged.frames, judged.came_back) == (2, {})


def test_frames_whose_cause_is_still_there_are_counted_by_what_is_wrong():
    judged = _judge(b"{", _frame(7, "x"), _frame(8, symbol="ETHUSDT"), _frame(9), b'{"result": null, "id": 1}')
    assert [record.trade_id for record in judged.records] == ["9"]
    assert judged.frames == 5
    assert judged.came_back == {"MALFORMED_FRAME": 2, "INEXACT_VALUE": 1, "UNSUBSCRIBED_SYMBOL": 1}


def test_a_frame_with_several_invalid_items_comes_back_once_by_the_first():
    item = {"T": 1, "s": "BTCUSDT", "S": "Buy", "v": "1", "p": "2", "i": "a", "seq": 1}
    items = [item, item | {"i": "b", "p": "x"}, item | {"i": "c", "S": "None"}, item | {"i": "d"}]
    body = json.dumps({"topic": "publicTrade.BTCUSDT", "type": "snapshot", "ts": 1, "data": items}).encode()
    judged = judge(adapter("bybit", TRADES, (PAIR,)), [StoredFrame("topic/0/0", body, 1)])
    assert [record.trade_id for record in judged.records] == ["a", "d"]
    assert judged.came_back == {"INEXACT_VALUE": 1}


def test_what_is_stored_is_not_sent_and_nothing_is_sent_twice():
    records = _judge(_frame(7), _frame(8), _frame(8), _frame(9)).records
    stored = {str(records[0].message_id)}
    assert [record.trade_id for record in unsent(records, stored)] == ["8", "9"]
    assert [dict(record.vendor_data)["dead_letter"] for record in unsent(records, stored)] == ["topic/0/1", "topic/0/3"]
