"""What can be wrong with one trade of each exchange, and what becomes of it: the same answer everywhere.

A frame that cannot be read is malformed. A trade in it that cannot be read, or whose numbers or symbol cannot be
trusted, is an invalid item with its reason. Neither is ever a trade. Fields that are not known do no harm.
"""

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from k2.ingest.exchanges import adapter
from k2.ingest.exchanges.base import (
    INEXACT,
    MALFORMED_ITEM,
    NO_ID,
    UNSUBSCRIBED,
    Adapter,
    Event,
    Gap,
    InvalidItem,
    MalformedFrame,
    Page,
    SequencedRecord,
)
from k2.ingest.simulator.listings import pair_of
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

    def value(self, field: str) -> Any:
        """What stands in a field."""
        value = self.frame
        for key in self.places[field]:
            value = value[key]
        return value

    @property
    def symbol(self) -> str:
        """The symbol of its trade, as K2 writes it."""
        return self.raw_symbol.replace("/", "").replace("-", "")

    @property
    def number(self) -> int:
        """The id of its trade, or `NO_ID` where it has none that is a number in a sequence."""
        value = str(self.value("id")) if "id" in self.places else ""
        return int(value) if value.isdigit() else NO_ID


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
        '{"arg":{"channel":"trades-all","instId":"BTC-USDT"},"data":[{"instId":"BTC-USDT","tradeId":"130639474",'
        '"px":"42219.9","sz":"0.12060306","side":"buy","ts":"1630048897897","source":"0"}]}',
        ["-1", "253402300800000", "1630048897.897", 1_630_048_897_897, None],
        price=("data", 0, "px"), quantity=("data", 0, "sz"), time=("data", 0, "ts"), id=("data", 0, "tradeId"),
        symbol=("data", 0, "instId"), side=("data", 0, "side"),
    ),
}  # fmt: skip
EXCHANGE = pytest.mark.parametrize("name", WIRES)
ITEM_FIELD = pytest.mark.parametrize(
    ("name", "field"),
    [(name, field) for name in WIRES for field in WIRES[name].places if (name, field) != ("kraken#v1", "symbol")],
)
OTHERS = {"BTCUSDT": "ETHUSDT", "BTC/USD": "ETH/USD", "BTC-USD": "ETH-USD", "BTC-USDT": "ETH-USDT"}
NUMBERS = [
    "0",
    "0.00000000",
    "-1",
    "NaN",
    "Infinity",
    "1e999",
    "9" * 40,
    "0,5",
    "0.0000000000001",
    "-0.0",
    "1" + "0" * 26,
    "1_0",
    " 1",
    "",
]


def reader(name: str) -> Adapter:
    exchange, _, protocol = name.partition("#")
    pair = pair_of(EXCHANGES[exchange], WIRES[name].raw_symbol)
    return adapter(exchange, TRADES, [pair], f"wss://host#{protocol}" if protocol else "")


def parsed(name: str, document: object) -> list[Event]:
    """What the adapter says of a frame; `MalformedFrame` stands for itself."""
    return list(reader(name).parse(json.dumps(document).encode(), 1))


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
    (event,) = parsed(name, replaced(name, field, value))
    assert isinstance(event, InvalidItem)
    assert (event.error, event.symbol) == (
        MALFORMED_ITEM if name == "kraken" else INEXACT,  # its numbers are bare: text is none
        pair_of(EXCHANGES[name.partition("#")[0]], WIRES[name].raw_symbol).symbol,
    )
    assert repr(value)[1:-1] in event.reason


EXACT = {
    "0.000000001234": 1_234,
    "0.000000000001": 1,
    "1000000000000": 10**24,
    "1.742E-5": 17_420_000,
    "1e2": 100 * 10**12,
    "99999999999999999999999999.999999999999": 10**38 - 1,
}
INEXACT_NUMBERS = ["1" + "0" * 26, "1e999", "1" * 40, "-0.0", "0.0000000000001", "0.1234567890123"]


def bare(name: str, document: object, value: str) -> bytes:
    """The frame with the text `value` where the document has "VALUE": without quotes where the exchange has none."""
    return json.dumps(document).replace('"VALUE"', value if name == "kraken" else f'"{value}"').encode()


@EXCHANGE
@pytest.mark.parametrize("field", ["price", "quantity"])
@pytest.mark.parametrize("value", EXACT)
def test_a_number_of_twelve_decimals_or_twenty_six_digits_goes_through_exactly(name: str, field: str, value: str):
    (event,) = reader(name).parse(bare(name, replaced(name, field, "VALUE"), value), 1)
    assert isinstance(event, SequencedRecord)
    assert getattr(event.record, field) == EXACT[value]


@pytest.mark.parametrize("name", ["kraken", "kraken#v1", "bybit", "okx"])  # whose frames hold several trades
@pytest.mark.parametrize("field", ["price", "quantity"])
@pytest.mark.parametrize("value", INEXACT_NUMBERS)
def test_a_number_that_does_not_fit_leaves_the_other_trades_of_the_frame_alone(name: str, field: str, value: str):
    document, wrong = WIRES[name].frame, replaced(name, field, "VALUE")
    key = 1 if name == "kraken#v1" else "data"
    several = json.loads(json.dumps(document))
    several[key] = [document[key][0], wrong[key][0], document[key][0]]
    events = list(reader(name).parse(bare(name, several, value), 1))
    assert [type(event) for event in events] == [SequencedRecord, InvalidItem, SequencedRecord]
    assert events[1].error == INEXACT
    assert value in events[1].reason


PAGES = {
    "binance": (1, ('[{"id":100,"price":PRICE,"qty":"2","quoteQty":"3","time":5,"isBuyerMaker":true},'
     '{"id":101,"price":"7","qty":"2","quoteQty":"3","time":5,"isBuyerMaker":true}]')),
    "kraken": (1, ('{"error":[],"result":{"XXBTZUSD":[[PRICE,"2",1688669597.8277369,"b","m","",100],'
     '["7","2",1688669597.8277369,"b","m","",101]],"last":"16886719"}}')),
    "kraken#v1": (NO_ID, ('{"error":[],"result":{"XXBTZUSD":[[PRICE,"2",1688669597.8277369,"b","m","",100],'
     '["7","2",1688669597.8277369,"b","m","",101]],"last":"16886719"}}')),
    "coinbase": (1, ('[{"trade_id":100,"side":"buy","size":"1","price":PRICE,"time":"2021-04-17T16:43:37.089723Z"},'
     '{"trade_id":101,"side":"buy","size":"1","price":"7","time":"2021-04-17T16:43:37.089723Z"}]')),
    "bybit": (NO_ID, ('{"retCode":0,"result":{"list":[{"execId":"a","price":PRICE,"size":"2","side":"Buy","time":"5"},'
     '{"execId":"b","price":"7","size":"2","side":"Buy","time":"5"}]}}')),
    "okx": (1, ('{"code":"0","data":[{"instId":"BTC-USDT","tradeId":"100","px":PRICE,"sz":"2","side":"buy","ts":"5"},'
     '{"instId":"BTC-USDT","tradeId":"101","px":"7","sz":"2","side":"buy","ts":"5"}]}')),
}  # fmt: skip


def page(name: str, price: str) -> Page:
    first, text = PAGES[name]
    pair = pair_of(EXCHANGES[name.partition("#")[0]], WIRES[name].raw_symbol)
    missing = Gap(pair, first, 200 if first > 0 else NO_ID, 0, 2**62)
    api = reader(name)
    return api.parse_page(api.history_request(missing), text.replace("PRICE", f'"{price}"').encode(), missing, 1)


@EXCHANGE
@pytest.mark.parametrize("value", EXACT)
def test_a_page_of_the_history_is_as_exact(name: str, value: str):
    assert [entry.record.price for entry in page(name, value).records] == [EXACT[value], 7 * 10**12]


@EXCHANGE
@pytest.mark.parametrize("value", [*INEXACT_NUMBERS, "NaN"])
def test_a_number_that_does_not_fit_leaves_the_other_trades_of_a_page_alone(name: str, value: str):
    answer = page(name, value)
    assert [entry.record.price for entry in answer.records] == [7 * 10**12]
    (invalid,) = answer.invalid
    assert (invalid.error, invalid.last_id) == (INEXACT, 100 if PAGES[name][0] > 0 else NO_ID)
    assert value in invalid.reason


@pytest.mark.parametrize("name", ["binance", "kraken", "coinbase", "okx"])
def test_id_0_is_a_trade_and_a_negative_id_is_none(name: str):
    text = name == "okx"
    document = replaced(name, "id", "0" if text else 0)
    (event,) = parsed(name, document)
    assert isinstance(event, SequencedRecord)
    assert (event.first_id, event.last_id, event.record.record_id) == (0, 0, "0")
    (event,) = parsed(name, replaced(name, "id", "-1" if text else -1))
    assert (event.error, event.last_id) == (MALFORMED_ITEM, NO_ID)
    assert re.search(r"'?-1'? is not a whole number from 0 to 2\*\*63 - 1", event.reason)


@pytest.mark.parametrize("name", ["binance", "kraken", "coinbase", "okx"])
def test_a_gap_from_id_0_on_is_fetched(name: str):
    api, (_, text) = reader(name), PAGES[name]
    pair = pair_of(EXCHANGES[name], WIRES[name].raw_symbol)
    missing = Gap(pair, 0, 1, 10**9, 2**62)
    body = text.replace("PRICE", '"1"').replace("100", "0").replace("101", "1").encode()
    answer = api.parse_page(api.history_request(missing), body, missing, 1)
    assert (sorted(entry.last_id for entry in answer.records), answer.next_request) == ([0, 1], None)


@EXCHANGE
def test_a_time_that_is_none_is_an_invalid_item_whose_id_is_accounted_for(name: str):
    for value in WIRES[name].times:
        (event,) = parsed(name, replaced(name, "time", value))
        assert (event.error, event.symbol) == (MALFORMED_ITEM, WIRES[name].symbol)
        assert event.last_id == WIRES[name].number


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
    (event,) = parsed(name, document)
    assert isinstance(event, InvalidItem)
    assert event.error == UNSUBSCRIBED


def untrusted(name: str, field: str, document: object) -> None:
    """Check that the trade is an invalid item, with its symbol and id unless these are what is wrong."""
    (event,) = parsed(name, document)
    assert (event.error, event.index) == (MALFORMED_ITEM, 0)
    assert event.reason
    assert event.symbol == ("" if field == "symbol" else WIRES[name].symbol)
    assert event.last_id == (NO_ID if field in ("symbol", "id") else WIRES[name].number)


@ITEM_FIELD
def test_a_trade_without_a_field_is_an_invalid_item(name: str, field: str):
    untrusted(name, field, changed(name, field, lambda holder, key: holder.pop(key)))


@ITEM_FIELD
@pytest.mark.parametrize("value", [None, [], {}, [1]], ids=["null", "list", "mapping", "full list"])
def test_a_field_of_another_type_makes_an_invalid_item(name: str, field: str, value: object):
    untrusted(name, field, replaced(name, field, value))


@pytest.mark.parametrize("value", [None, [], {}, [1]], ids=["null", "list", "mapping", "full list"])
def test_a_frame_of_kraken_v1_without_its_pair_is_malformed(value: object):
    with pytest.raises(MalformedFrame):
        parsed("kraken#v1", replaced("kraken#v1", "symbol", value))
    with pytest.raises(MalformedFrame):
        parsed("kraken#v1", changed("kraken#v1", "symbol", lambda holder, key: holder.pop(key)))


@pytest.mark.parametrize("name", [name for name in WIRES if name != "kraken#v1"])  # its rows have places, not names
def test_a_field_that_is_not_known_does_no_harm(name: str):
    document = changed(name, "price", lambda holder, _: holder.update(brand_new={"a": [1]}))
    assert [type(event) for event in parsed(name, document | {"new": None})] == [SequencedRecord]
