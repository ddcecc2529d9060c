"""Whatever bytes come, an adapter gives events or raises the one declared error."""

import json
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.ingest.exchanges import adapter
from k2.ingest.exchanges.base import NO_ID, Event, Gap, MalformedFrame, RestRefused, SequencedRecord
from k2.ingest.simulator.listings import pair_of
from k2.schemas.channels import TRADES
from k2.schemas.codecs.avro import TradeEncoder
from k2.schemas.exchanges.registry import EXCHANGES

NATIVE = {
    "binance": "BTCUSDT",
    "kraken": "BTC/USD",
    "kraken#v1": "BTC/USD",
    "coinbase": "BTC-USD",
    "bybit": "BTCUSDT",
    "okx": "BTC-USDT",
}
SAMPLES = {
    "binance": '{"stream":"btcusdt@trade","data":{"e":"trade","E":1723161255343,"s":"BTCUSDT","t":3735683259,'
    '"p":"61837.63000000","q":"0.02000000","T":1723161255342,"m":true,"M":true}}',
    "kraken": '{"channel":"trade","type":"update","data":[{"symbol":"BTC/USD","side":"buy","price":105944.20,'
    '"qty":0.00027625,"ord_type":"limit","trade_id":10218208,"timestamp":"2023-10-06T17:35:55.440295Z"}]}',
    "kraken#v1": '[993,[["354.04000000","0.28245396","1618678150.826417","s","m",""]],"trade","XBT/USD"]',
    "coinbase": '{"type":"match","trade_id":280232,"maker_order_id":"a","taker_order_id":"b","side":"sell",'
    '"size":"985","price":"0.00001305","product_id":"BTC-USD","sequence":177,"time":"2021-04-17T16:43:37.089723Z"}',
    "bybit": '{"topic":"publicTrade.BTCUSDT","type":"snapshot","ts":1672304486868,"data":[{"T":1672304486865,'
    '"s":"BTCUSDT","S":"Buy","v":"0.001","p":"16578.50","L":"PlusTick","i":"20f4","BT":false,"RPI":false,"seq":1}]}',
    "okx": '{"arg":{"channel":"trades-all","instId":"BTC-USDT"},"data":[{"instId":"BTC-USDT","tradeId":"130639474",'
    '"px":"42219.9","sz":"0.12060306","side":"buy","ts":"1630048897897","source":"0"}]}',
}
ROWS = {
    "binance": '[{"id":100,"price":"1.5","qty":"2","quoteQty":"3","time":5,"isBuyerMaker":true,"isBestMatch":true}]',
    "kraken": '{"error":[],"result":{"XXBTZUSD":[["1.5","2",1688669597.8277369,"b","m","",100]],"last":"16886719"}}',
    "kraken#v1": '{"error":[],"result":{"XXBTZUSD":[["1.5","2",1688669597.8277369,"b","m","",100]],"last":"168867"}}',
    "coinbase": '[{"trade_id":100,"side":"buy","size":"1","price":"2","time":"2021-04-17T16:43:37.089723Z"}]',
    "bybit": '{"retCode":0,"retMsg":"OK","result":{"list":[{"execId":"a","price":"1","size":"2",'
    '"side":"Buy","time":"5"}]}}',
    "okx": '{"code":"0","msg":"","data":[{"instId":"BTC-USDT","tradeId":"100","px":"1","sz":"2",'
    '"side":"buy","ts":"5"}]}',
}
ODD = st.sampled_from([
    None, True, -1, 0, 2**63, 10**30, 1.5, 1e308, "", "0", "-1", "NaN", "1e999999999", "x" * 5000, "\0", "٣", [], {},
    [[]], "trade", "publicTrade.", "2021-02-30T00:00:00Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59",
])  # fmt: skip
ADAPTERS = pytest.mark.parametrize("name", NATIVE)


def made(name: str):
    exchange, _, protocol = name.partition("#")
    return adapter(
        exchange, TRADES, [pair_of(EXCHANGES[exchange], NATIVE[name])], f"wss://host#{protocol}" if protocol else ""
    )


def gap(name: str) -> Gap:
    return Gap(pair_of(EXCHANGES[name.partition("#")[0]], NATIVE[name]), 1, 200, 0, 2**62)


def places(value: object, path: tuple = ()) -> Iterator[tuple]:
    """The path of every value inside a JSON document."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


def put(value: object, path: tuple, new: object) -> object:
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = put(copy[path[0]], path[1:], new)
    return copy


@st.composite
def mutated(draw: st.DrawFn, sample: str) -> bytes:
    """A real document with some values replaced, or some bytes."""
    document = json.loads(sample)
    for _ in range(draw(st.integers(0, 2))):
        document = put(document, draw(st.sampled_from(list(places(document)))), draw(ODD))
    raw = json.dumps(document).encode() if draw(st.booleans()) else sample.encode()
    if draw(st.booleans()):
        start = draw(st.integers(0, len(raw)))
        raw = raw[:start] + draw(st.binary(max_size=3)) + raw[draw(st.integers(start, min(len(raw), start + 20))) :]
    return raw


def judged(name: str, raw: bytes) -> list[Event]:
    try:
        events = list(made(name).parse(raw, 1))
    except MalformedFrame:
        return []
    encoder = TradeEncoder(1)
    for event in events:
        if isinstance(event, SequencedRecord):
            assert encoder.encode(event.record)
            assert event.record.price > 0
            assert event.record.quantity > 0
            assert NO_ID <= event.first_id <= event.last_id
    return events


@ADAPTERS
def test_the_samples_are_trades(name):
    assert [type(event) for event in judged(name, SAMPLES[name].encode())] == [SequencedRecord]


@ADAPTERS
def test_random_bytes_raise_the_declared_error_or_nothing(name):
    @given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
    def check(raw: bytes) -> None:
        judged(name, raw)

    check()


@ADAPTERS
def test_any_json_raises_the_declared_error_or_nothing(name):
    words = st.sampled_from(
        "e s t data stream channel method event type topic op arg code error result id success".split()
    )

    @given(
        st.recursive(ODD | words, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=5))
    )
    def check(document: object) -> None:
        judged(name, json.dumps(document).encode())

    check()


@ADAPTERS
def test_mutated_real_frames_raise_the_declared_error_or_nothing(name):
    @given(mutated(SAMPLES[name]))
    def check(raw: bytes) -> None:
        judged(name, raw)

    check()


@ADAPTERS
def test_mutated_rest_answers_raise_a_declared_error_or_nothing(name):
    @given(mutated(ROWS[name]))
    def check(raw: bytes) -> None:
        reader, missing = made(name), gap(name)
        for read in (
            lambda: reader.parse_page(reader.history_request(missing), raw, missing, 1),
            lambda: reader.parse_newest_id(raw),
        ):
            try:
                read()
            except (MalformedFrame, RestRefused) as error:
                assert str(error)  # noqa: PT017 - what is raised is what is judged

    check()


@ADAPTERS
@pytest.mark.parametrize(
    "raw",
    [
        b"", b"\xff\xfe", b'{"a":', b"[" * 100_000, b'{"a":' * 100_000, b"null", b"1", b'"text"', b"\0",
        b'"' + b"x" * 5_000_000 + b'"',
    ],
    ids=["empty", "not-utf-8", "truncated", "deep-lists", "deep-objects", "null", "number", "string", "nul", "5-MB"],
)  # fmt: skip
def test_hostile_frames_are_malformed(name, raw):
    with pytest.raises(MalformedFrame):
        made(name).parse(raw, 1)
