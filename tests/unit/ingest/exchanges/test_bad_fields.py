"""What can be wrong with one trade of each exchange, and what becomes of it: the same answer everywhere.

A frame that cannot be read is malformed. One whose numbers or symbol cannot be trusted is an invalid item with its
reason. Neither is ever a trade. Fields that are not known do no harm.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from k2.ingest.exchanges import adapter
from k2.ingest.exchanges.base import INEXACT, UNSUBSCRIBED, Event, InvalidItem, MalformedFrame, SequencedRecord
from k2.schemas.channels import TRADES
from k2.schemas.exchanges.registry import EXCHANGES

Place = tuple[str | int, ...]

LAST_MICROS = 253_402_300_799_999_999


class Wire:
    """One exchange's trade on the wire: a real frame, and where its price, quantity, time, id and symbol stand."""

    def __init__(self, raw_symbol: str, frame: str, times: Sequence[object], **places: Place) -> None:
        self.raw_symbol = raw_symbol
        self.frame = json.loads(frame)
        self.times = times  # wrong ones, in this exchange's own unit
        self.places = places


WIRES = {
    "binance": Wire(
        "BTCUSDT",
        '{"stream":"btcusdt@trade","data":{"e":"trade","E":1723161255343,"s":"BTCUSDT","t":3735683259,'
        '"p":"61837.63000000","q":"0.02000000","T":1723161255342,"m":true,"M":true}}',
        [-1, 253_402_300_800_000, 1723161255.342, "1723161255342", None],
        price=("data", "p"), quantity=("data", "q"), time=("data", "T"), id=("data", "t"), symbol=("data", "s"),
        side=("data", "m"),
    ),
    "kraken": Wire(
        "BTC/USD",
        '{"channel":"trade","type":"update","data":[{"symbol":"BTC/USD","side":"buy","price":105944.20,'
        '"qty":0.00027625,"ord_type":"limit","trade_id":10218208,"timestamp":"2023-10-06T17:35:55.440295Z"}]}',
        ["2023-10-06T17:35:55.440295", "2023-13-06T17:35:55Z", 1_696_613_755, None],
        price=("data", 0, "price"), quantity=("data", 0, "qty"), time=("data", 0, "timestamp"),
        id=("data", 0, "trade_id"), symbol=("data", 0, "symbol"), side=("data", 0, "side"),
    ),
    "kraken#v1": Wire(
        "BTC/USD",
        '[993,[["354.04000000","0.28245396","1618678150.826417","s","m",""]],"trade","XBT/USD"]',
        ["-1.0", "253402300800.0", "1618678150826417", "2023-10-06T17:35:55Z", 1_618_678_150, None],
        price=(1, 0, 0), quantity=(1, 0, 1), time=(1, 0, 2), symbol=(3,), side=(1, 0, 3),
    ),
    "coinbase": Wire(
        "BTC-USD",
        '{"type":"match","trade_id":280232,"maker_order_id":"a","taker_order_id":"b","side":"sell",'
        '"size":"985","price":"0.00001305","product_id":"BTC-USD","sequence":177,"time":"2021-04-17T16:43:37.089723Z"}',
        ["2021-04-17T16:43:37.089723", "2021-02-30T00:00:00Z", 1_618_677_817, None],
        price=("price",), quantity=("size",), time=("time",), id=("trade_id",), symbol=("product_id",), side=("side",),
    ),
    "bybit": Wire(
        "BTCUSDT",
        '{"topic":"publicTrade.BTCUSDT","type":"snapshot","ts":1672304486868,"data":[{"T":1672304486865,'
        '"s":"BTCUSDT","S":"Buy","v":"0.001","p":"16578.50","L":"PlusTick","i":"20f4","BT":false,"RPI":false,"seq":1}]}',
        [-1, 253_402_300_800_000, 1672304486.865, "1672304486865", None],
        price=("data", 0, "p"), quantity=("data", 0, "v"), time=("data", 0, "T"), id=("data", 0, "i"),
        symbol=("data", 0, "s"), side=("data", 0, "S"),
    ),
    "okx": Wire(
        "BTC-USDT",
        '{"arg":{"channel":"trades","instId":"BTC-USDT"},"data":[{"instId":"BTC-USDT","tradeId":"130639474",'
        '"px":"42219.9","sz":"0.12060306","side":"buy","ts":"1630048897897","count":"3","source":"0","seqId":1234}]}',
        ["-1", "253402300800000", "1630048897.897", 1_630_048_897_897, None],
        price=("data", 0, "px"), quantity=("data", 0, "sz"), time=("data", 0, "ts"), id=("data", 0, "tradeId"),
        symbol=("data", 0, "instId"), side=("data", 0, "side"),
    ),
}  # fmt: skip
EXCHANGE = pytest.mark.parametrize("name", WIRES)
FIELD = pytest.mark.parametrize(("name", "field"), [(name, field) for name in WIRES for field in WIRES[name].places])
OTHERS = {"BTCUSDT": "ETHUSDT", "BTC/USD": "ETH/USD", "BTC-USD": "ETH-USD", "BTC-USDT": "ETH-USDT"}
NUMBERS = ["0", "0.00000000", "-1", "NaN", "Infinity", "1e999", "9" * 40, "0,5", "0.000000001", "1_0", " 1", ""]


def parsed(name: str, document: object) -> list[Event]:
    """What the adapter says of a frame; `MalformedFrame` stands for itself."""
    exchange, _, protocol = name.partition("#")
    pair = EXCHANGES[exchange].pair(WIRES[name].raw_symbol)
    parser = adapter(exchange, TRADES, [pair], f"wss://host#{protocol}" if protocol else "")
    return list(parser.parse(json.dumps(document).encode(), 1))


def changed(name: str, field: str, change: Callable[[Any, Any], None]) -> Any:
    """The frame with a change made to the holder of a field, under its key."""
    document = json.loads(json.dumps(WIRES[name].frame))
    *path, last = WIRES[name].places[field]
    holder = document
    for key in path:
        holder = holder[key]
    change(holder, last)
    return document


def replaced(name: str, field: str, value: object) -> Any:
    return changed(name, field, lambda holder, key: holder.__setitem__(key, value))


@EXCHANGE
def test_the_frame_as_it_is_is_a_trade(name: str):
    assert [type(event) for event in parsed(name, WIRES[name].frame)] == [SequencedRecord]


@EXCHANGE
@pytest.mark.parametrize("field", ["price", "quantity"])
@pytest.mark.parametrize("value", NUMBERS)
def test_a_number_that_cannot_be_held_exactly_is_never_a_trade(name: str, field: str, value: str):
    if name == "kraken":  # its numbers are bare: what JSON cannot say at all is malformed, as is text
        with pytest.raises(MalformedFrame):
            parsed(name, replaced(name, field, value))
        return
    (event,) = parsed(name, replaced(name, field, value))
    assert isinstance(event, InvalidItem)
    assert (event.error, event.symbol) == (
        INEXACT,
        EXCHANGES[name.partition("#")[0]].pair(WIRES[name].raw_symbol).symbol,
    )
    assert event.reason


@EXCHANGE
def test_a_time_that_is_none_is_malformed(name: str):
    for value in WIRES[name].times:
        with pytest.raises(MalformedFrame):
            parsed(name, replaced(name, "time", value))


@pytest.mark.parametrize(
    ("name", "value"),
    [("binance", 1), ("binance", LAST_MICROS // 1000), ("bybit", 1), ("okx", "1"), ("kraken#v1", "0.000001")],
)
def test_a_time_that_a_table_can_hold_is_passed_on_for_silver_to_judge(name: str, value: object):
    (event,) = parsed(name, replaced(name, "time", value))
    assert isinstance(event, SequencedRecord)
    assert 0 < event.record.timestamp <= LAST_MICROS


@EXCHANGE
def test_an_unsubscribed_symbol_is_an_invalid_item(name: str):
    document = replaced(name, "symbol", OTHERS[WIRES[name].raw_symbol])
    if name == "okx":
        document["arg"]["instId"] = OTHERS[WIRES[name].raw_symbol]
    (event,) = parsed(name, document)
    assert isinstance(event, InvalidItem)
    assert event.error == UNSUBSCRIBED


@FIELD
def test_a_trade_without_a_field_is_malformed(name: str, field: str):
    with pytest.raises(MalformedFrame):
        parsed(name, changed(name, field, lambda holder, key: holder.pop(key)))


@FIELD
@pytest.mark.parametrize("value", [None, [], {}, [1]], ids=["null", "list", "mapping", "full list"])
def test_a_field_of_another_type_is_malformed(name: str, field: str, value: object):
    with pytest.raises(MalformedFrame):
        parsed(name, replaced(name, field, value))


@pytest.mark.parametrize("name", [name for name in WIRES if name != "kraken#v1"])  # its rows have places, not names
def test_a_field_that_is_not_known_does_no_harm(name: str):
    document = changed(name, "price", lambda holder, _: holder.update(brand_new={"a": [1]}))
    assert [type(event) for event in parsed(name, document | {"new": None})] == [SequencedRecord]
