"""One bad item never decides for its frame: any subset of the items of a frame may be spoilt, in any way.

What an adapter returns for a spoilt frame are the trades of its good items, as they are alone, and one invalid item
with the index of each bad one.
"""

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.ingest.exchanges import adapter
from k2.ingest.exchanges.base import NO_ID, Adapter, InvalidItem, MalformedFrame, SequencedRecord
from k2.ingest.simulator.listings import pair_of
from k2.schemas.channels import TRADES
from k2.schemas.exchanges.registry import EXCHANGES

Key = str | int
FIRST = 130_639_474


@dataclass(frozen=True)
class Wire:
    """How an exchange writes trades: `frame` around the list of items, or around the only one."""

    raw_symbol: str
    frame: Callable[[list[Any]], Any]
    item: Callable[[int], Any]
    price: Key
    quantity: Key
    side: Key
    time: Key
    id: Key | None
    single: bool = False  # a frame is one item
    bare: bool = False  # prices are JSON numbers

    def alone(self, item: Any) -> Any:
        """A frame with one item."""
        return self.frame([item])


WIRES = {
    "binance": Wire(
        "BTCUSDT",
        lambda items: {"stream": "btcusdt@trade", "data": items[0]},
        lambda n: {"e": "trade", "E": 1723161255343, "s": "BTCUSDT", "t": FIRST + n, "p": f"{n + 1}.5", "q": "0.25",
                   "T": 1723161255342, "m": True, "M": True},
        "p", "q", "m", "T", "t", single=True,
    ),
    "kraken": Wire(
        "BTC/USD",
        lambda items: {"channel": "trade", "type": "update", "data": items},
        lambda n: {"symbol": "BTC/USD", "side": "buy", "price": n + 1.5, "qty": 0.25, "ord_type": "limit",
                   "trade_id": FIRST + n, "timestamp": "2023-10-06T17:35:55.440295Z"},
        "price", "qty", "side", "timestamp", "trade_id", bare=True,
    ),
    "kraken#v1": Wire(
        "BTC/USD",
        lambda items: [993, items, "trade", "XBT/USD"],
        lambda n: [f"{n + 1}.5", "0.25", "1618678150.826417", "s", "m", ""],
        0, 1, 3, 2, None,
    ),
    "coinbase": Wire(
        "BTC-USD",
        lambda items: items[0],
        lambda n: {"type": "match", "trade_id": FIRST + n, "maker_order_id": "a", "taker_order_id": "b", "side": "sell",
                   "size": "0.25", "price": f"{n + 1}.5", "product_id": "BTC-USD", "sequence": 177,
                   "time": "2021-04-17T16:43:37.089723Z"},
        "price", "size", "side", "time", "trade_id", single=True,
    ),
    "bybit": Wire(
        "BTCUSDT",
        lambda items: {"topic": "publicTrade.BTCUSDT", "type": "snapshot", "ts": 1672304486868, "data": items},
        lambda n: {"T": 1672304486865, "s": "BTCUSDT", "S": "Buy", "v": "0.25", "p": f"{n + 1}.5", "L": "PlusTick",
                   "i": f"22900000000{n:04d}", "BT": False, "RPI": False, "seq": 7},
        "p", "v", "S", "T", "i",
    ),
    "okx": Wire(
        "BTC-USDT",
        lambda items: {"arg": {"channel": "trades-all", "instId": "BTC-USDT"}, "data": items},
        lambda n: {"instId": "BTC-USDT", "tradeId": str(FIRST + n), "px": f"{n + 1}.5", "sz": "0.25", "side": "buy",
                   "ts": "1630048897897", "source": "0"},
        "px", "sz", "side", "ts", "tradeId",
    ),
}  # fmt: skip
EACH = pytest.mark.parametrize("name", WIRES)

NUMBERS = ["NaN", "None", "0", "0.0", "-1", "61837,63", "1e999", "9" * 40, "1_0", "", "0x1", "Infinity"]
JUNK = [None, True, [], {}, {"value": "1"}, [[["x"]]], "yesterday", -1, 1.5e300, "\x00", "ä"]
ITEMS = [None, 7, "text", [], {}, [1, 2], {"a": {"b": [{"c": None}]}}, True, -0.5, [[[[[[]]]]]]]
IDS = [None, -1, 2**63, 10**39, "-1", "1.5", "9" * 40, [], {}, True, 1.5]
TIMES = [None, -1, 10**18, "yesterday", "-1", "9" * 30, [], {}, True]

Change = Callable[[Wire, Any], Any]


def another(value: object) -> Change:
    """Something else in the item's place."""
    return lambda *_: copy.deepcopy(value)


def replaced(key: Callable[[Wire], Key | None], value: object) -> Change:
    """Another value in a field."""

    def change(wire: Wire, item: Any) -> Any:
        place = key(wire)
        if place is None:
            return None  # no such field: no item at all
        item[place] = value
        return item

    return change


def removed(key: Callable[[Wire], Key | None]) -> Change:
    """A field less; in an array, it and those behind it."""

    def change(wire: Wire, item: Any) -> Any:
        place = key(wire)
        if place is None:
            return {}
        if isinstance(item, list):
            return item[:place]
        del item[place]
        return item

    return change


FIELDS: list[Callable[[Wire], Key | None]] = [
    lambda wire: wire.price, lambda wire: wire.quantity, lambda wire: wire.side, lambda wire: wire.time,
    lambda wire: wire.id,
]  # fmt: skip
CHANGES = st.one_of(
    st.builds(another, st.sampled_from(ITEMS)),
    st.sampled_from(FIELDS).map(removed),
    st.builds(replaced, st.sampled_from(FIELDS[:2]), st.sampled_from(NUMBERS + JUNK)),
    st.builds(replaced, st.just(FIELDS[2]), st.sampled_from(["None", None, "", "BOTH", 1, [], {}])),
    st.builds(replaced, st.just(FIELDS[3]), st.sampled_from(TIMES)),
    st.builds(replaced, st.just(FIELDS[4]), st.sampled_from(IDS)),
)
EXTRA = st.dictionaries(st.sampled_from(["zz", "new", "extra"]), st.sampled_from([None, 1, "x", {"a": [1]}, []]))


def reader(name: str) -> Adapter:
    exchange, _, protocol = name.partition("#")
    pair = pair_of(EXCHANGES[exchange], WIRES[name].raw_symbol)
    return adapter(exchange, TRADES, [pair], f"wss://host#{protocol}" if protocol else "")


def spoil(wire: Wire, index: int, change: Change) -> Any:
    item = change(wire, wire.item(index))
    if name_of_id_is_text(wire, item):
        return None
    return item


def name_of_id_is_text(wire: Wire, item: Any) -> bool:
    """Whether Bybit's id, which may be any short text, is still one after the change."""
    return wire.id == "i" and isinstance(item, dict) and len(item) == 10 and item["i"] in ("-1", "1.5", "9" * 40)


def parse(name: str, document: object) -> list[object]:
    return list(reader(name).parse(json.dumps(document).encode(), 1))


@EACH
def test_any_subset_of_bad_items_costs_exactly_these(name: str):
    wire = WIRES[name]
    count = st.just(1) if wire.single else st.integers(1, 6)

    @given(count.flatmap(lambda n: st.lists(st.none() | CHANGES, min_size=n, max_size=n)), EXTRA)
    def check(changes: list[Change | None], extra: dict[str, Any]) -> None:
        bad = {index for index, change in enumerate(changes) if change is not None}
        items = [
            wire.item(index) if change is None else spoil(wire, index, change) for index, change in enumerate(changes)
        ]
        for item in items:
            if isinstance(item, dict) and item:
                item.update(extra)
            elif isinstance(item, list) and len(item) == 6:
                item.extend(extra.values())
        try:
            events = parse(name, wire.frame(items))
        except MalformedFrame:
            # A frame that is its only item, of which nothing is left that says what it is.
            assert wire.single
            assert not isinstance(items[0], dict) or not items[0].keys() & {"e", "type"}
            return
        assert [type(event) for event in events] == [
            InvalidItem if index in bad else SequencedRecord for index in range(len(items))
        ]
        for index, event in enumerate(events):
            if index in bad:
                assert event.index == index
                assert event.reason
            else:
                (alone,) = parse(name, wire.alone(wire.item(index)))
                assert event == alone

    check()


@pytest.mark.parametrize("name", ["kraken", "okx", "binance", "coinbase"])  # whose ids are a sequence
@pytest.mark.parametrize("field", ["price", "quantity", "side", "time"])
def test_the_id_of_a_bad_item_is_read_where_it_can_be(name: str, field: str):
    wire = WIRES[name]
    item = wire.item(3)
    item[getattr(wire, field)] = "None"
    (event,) = parse(name, wire.alone(item))
    assert (event.last_id, event.symbol) == (FIRST + 3, wire.raw_symbol.replace("/", "").replace("-", ""))
    item[wire.id] = None
    (event,) = parse(name, wire.alone(item))
    assert event.last_id == NO_ID


@EACH
@pytest.mark.parametrize("junk", [b"", b"[", b'"', b"{]", b"nul"], ids=["empty", "list", "text", "object", "word"])
def test_a_frame_that_is_no_json_is_malformed_as_a_whole(name: str, junk: bytes):
    frame = json.dumps(WIRES[name].alone(WIRES[name].item(0))).encode()
    with pytest.raises(MalformedFrame):
        reader(name).parse(frame[:-2] + junk, 1)


@pytest.mark.parametrize("name", [name for name in WIRES if not WIRES[name].single])
@pytest.mark.parametrize("data", [None, {}, "x", 1, True])
def test_a_frame_without_a_list_is_malformed_as_a_whole(name: str, data: object):
    with pytest.raises(MalformedFrame):
        parse(name, WIRES[name].frame(data))


@pytest.mark.parametrize("name", [name for name in WIRES if not WIRES[name].single])
def test_a_frame_of_no_items_is_no_trade_and_no_dead_letter(name: str):
    assert parse(name, WIRES[name].frame([])) == []


@EACH
def test_numbers_in_exponent_form_are_exact(name: str):
    wire = WIRES[name]
    item = wire.item(0)
    item[wire.price], item[wire.quantity] = "PRICE", "QUANTITY"
    text = json.dumps(wire.alone(item))
    for key, value in (("PRICE", "1.742E-5"), ("QUANTITY", "2.5e+3")):
        text = text.replace(f'"{key}"', value if wire.bare else f'"{value}"')
    (event,) = reader(name).parse(text.encode(), 1)
    assert (event.record.price, event.record.quantity) == (17_420_000, 2_500 * 10**12)
