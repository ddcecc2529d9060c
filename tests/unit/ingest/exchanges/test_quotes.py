"""Frames of the exchanges' best bid and ask in, quotes out."""

import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from k2.ingest.exchanges import adapter, venue
from k2.ingest.exchanges.base import (
    INEXACT,
    MALFORMED_ITEM,
    UNSUBSCRIBED,
    Event,
    InvalidItem,
    MalformedFrame,
    Refused,
    SequencedRecord,
    Subscribed,
    Unknown,
)
from k2.ingest.exchanges.base_venue import Client
from k2.ingest.simulator.capture import frames
from k2.ingest.simulator.history import History
from k2.ingest.simulator.listings import pair_of
from k2.ingest.simulator.market import Market
from k2.schemas.channels import QUOTES
from k2.schemas.codecs import avro, wire
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.records.quote import Quote
from k2.schemas.states import Verdict
from k2.schemas.values import SCALE

RECEIVED = 1_723_161_255_343_123
# One frame of each exchange as its documentation shows it, and what it says: bid, ask, exchange time, sequence.
FRAMES: dict[str, tuple[dict[str, Any], tuple[str, str], tuple[str, str], int | None, int | None]] = {
    "binance": (
        {
            "stream": "btcusdt@bookTicker",
            "data": {
                "u": 50093239212, "s": "BTCUSDT", "b": "61837.63000000", "B": "3.78826000", "a": "61837.64000000",
                "A": "1.54698000",
            },
        },
        ("61837.63", "3.78826"), ("61837.64", "1.54698"), None, 50093239212,
    ),
    "kraken": (
        {
            "channel": "ticker", "type": "update",
            "data": [
                {
                    "symbol": "BTC/USD", "bid": 61837.6, "bid_qty": 3.78826, "ask": 61837.7, "ask_qty": 1.54698,
                    "last": 61837.7, "volume": 1.5, "vwap": 1.5, "low": 1, "high": 2, "change": 0, "change_pct": 0,
                    "timestamp": "2024-08-08T23:54:15.343123Z",
                }
            ],
        },
        ("61837.6", "3.78826"), ("61837.7", "1.54698"), RECEIVED, None,
    ),
    "bybit": (
        {
            "topic": "orderbook.1.BTCUSDT", "ts": 1723161255346, "type": "snapshot",
            "data": {"s": "BTCUSDT", "b": [["61837.63", "3.78826"]], "a": [["61837.64", "1.54698"]], "u": 7, "seq": 9},
            "cts": 1723161255343,
        },
        ("61837.63", "3.78826"), ("61837.64", "1.54698"), 1_723_161_255_343_000, 7,
    ),
    "okx": (
        {
            "arg": {"channel": "bbo-tbt", "instId": "BTC-USDT"},
            "data": [
                {
                    "asks": [["61837.64", "1.54698", "0", "2"]], "bids": [["61837.63", "3.78826", "0", "5"]],
                    "ts": "1723161255343", "seqId": 363996337,
                }
            ],
        },
        ("61837.63", "3.78826"), ("61837.64", "1.54698"), 1_723_161_255_343_000, 363996337,
    ),
}  # fmt: skip
TICKS = dict.fromkeys(FRAMES, SCALE)


def reader(exchange: str) -> Any:
    return adapter(exchange, QUOTES, [pair_of(EXCHANGES[exchange], EXCHANGES[exchange].symbol_example)])


def encoded(document: object) -> bytes:
    return json.dumps(document).encode()


def quote_of(events: Sequence[Event]) -> Quote:
    (event,) = events
    assert isinstance(event, SequencedRecord), event
    assert isinstance(event.record, Quote)
    return event.record


def sides(quote: Quote) -> tuple[tuple[Decimal, Decimal] | None, tuple[Decimal, Decimal] | None]:
    def side(price: int | None, quantity: int | None) -> tuple[Decimal, Decimal] | None:
        if price is None or quantity is None:
            assert price is quantity is None
            return None
        return Decimal(price).scaleb(quote.price_exponent), Decimal(quantity).scaleb(quote.quantity_exponent)

    return side(quote.bid_price, quote.bid_quantity), side(quote.ask_price, quote.ask_quantity)


def items(document: dict[str, Any]) -> Any:
    """Return the object of a frame that has the quote's fields."""
    data = document["data"]
    return data[0] if isinstance(data, list) else data


def changed(exchange: str, change: dict[str, Any]) -> bytes:
    document = json.loads(json.dumps(FRAMES[exchange][0]))
    items(document).update(change)
    return encoded(document)


@pytest.mark.parametrize("exchange", FRAMES)
def test_a_frame_is_a_quote(exchange: str):
    document, bid, ask, time, sequence = FRAMES[exchange]
    quote = quote_of(reader(exchange).parse(encoded(document), RECEIVED))
    assert sides(quote) == (tuple(map(Decimal, bid)), tuple(map(Decimal, ask)))
    assert (quote.exchange, quote.exchange_timestamp, quote.sequence) == (exchange.upper(), time, sequence)
    assert quote.symbol in {"BTCUSDT", "BTCUSD"}
    assert quote.ingestion_timestamp == RECEIVED
    assert quote.timestamp == (RECEIVED if time is None else time)
    assert (quote.ordinal, quote.verdict) == (1, Verdict.UNVERIFIABLE)


@pytest.mark.parametrize("exchange", FRAMES)
def test_the_quotes_of_a_connection_are_numbered_and_those_of_another_have_another_name(exchange: str):
    first, second = reader(exchange), reader(exchange)
    frame = encoded(FRAMES[exchange][0])
    quotes = [quote_of(first.parse(frame, RECEIVED + n)) for n in range(3)]
    assert [quote.ordinal for quote in quotes] == [1, 2, 3]
    assert len({quote.connection for quote in quotes}) == 1
    assert quote_of(second.parse(frame, RECEIVED)).connection != quotes[0].connection


@pytest.mark.parametrize("exchange", FRAMES)
def test_a_side_without_orders_is_null(exchange: str):
    empty = {
        "binance": {"b": "0.00000000", "B": "0.00000000"}, "kraken": {"bid": 0, "bid_qty": 0}, "bybit": {"b": []},
        "okx": {"bids": []},
    }  # fmt: skip
    bid, ask = sides(quote_of(reader(exchange).parse(changed(exchange, empty[exchange]), RECEIVED)))
    assert bid is None
    assert ask is not None


@pytest.mark.parametrize("exchange", FRAMES)
def test_a_crossed_quote_is_suspect(exchange: str):
    crossed = {
        "binance": {"b": "61837.65"}, "kraken": {"bid": 61837.8}, "bybit": {"b": [["61837.64", "1"]]},
        "okx": {"bids": [["61838", "1", "0", "1"]]},
    }  # fmt: skip
    assert quote_of(reader(exchange).parse(changed(exchange, crossed[exchange]), RECEIVED)).verdict is Verdict.SUSPECT


@pytest.mark.parametrize(("exchange", "field"), [("binance", "u"), ("bybit", "u"), ("okx", "seqId")])
def test_a_sequence_that_falls_is_suspect_and_one_that_repeats_is_not(exchange: str, field: str):
    quotes = reader(exchange)
    numbers = (50, 50, 49, 51, 60, 55)
    received = [quote_of(quotes.parse(changed(exchange, {field: n}), RECEIVED)) for n in numbers]
    assert [n for n, quote in zip(numbers, received, strict=True) if quote.verdict is Verdict.SUSPECT] == [49, 55]


def test_update_1_of_bybit_is_a_restart_of_its_numbers():
    quotes = reader("bybit")
    verdicts = [quote_of(quotes.parse(changed("bybit", {"u": n}), RECEIVED)).verdict for n in (50, 1, 2)]
    assert set(verdicts) == {Verdict.UNVERIFIABLE}


@pytest.mark.parametrize("exchange", FRAMES)
@pytest.mark.parametrize("value", ["nonsense", "-1", "1e999", "NaN", "1" * 30])
def test_a_price_that_is_no_number_costs_the_quote_alone(exchange: str, value: str):
    if exchange == "kraken" and value in {"nonsense", "NaN"}:
        value = f'"{value}"'  # a JSON text instead of a number
    spoiled = {
        "binance": {"b": value}, "kraken": {"bid": "PRICE"}, "bybit": {"b": [[value, "1"]]},
        "okx": {"bids": [[value, "1", "0", "1"]]},
    }  # fmt: skip
    quotes = reader(exchange)
    frame = changed(exchange, spoiled[exchange]).replace(b'"PRICE"', value.encode())
    (item,) = quotes.parse(frame, RECEIVED)
    assert isinstance(item, InvalidItem)
    assert item.error in {INEXACT, MALFORMED_ITEM}
    assert item.symbol in {"BTCUSDT", "BTCUSD"}
    assert quote_of(quotes.parse(encoded(FRAMES[exchange][0]), RECEIVED)).ordinal == 1


@pytest.mark.parametrize(
    ("exchange", "change"),
    [
        ("binance", {"u": -1}), ("binance", {"B": 5}), ("kraken", {"timestamp": "2024-08-08T23:54:15"}),
        ("kraken", {"ask": None}), ("bybit", {"u": 2**63}), ("bybit", {"b": [["1", "1"], ["0.5", "1"]]}),
        ("bybit", {"a": [["1"]]}), ("okx", {"ts": "now"}), ("okx", {"seqId": -1}), ("okx", {"seqId": "1"}),
        ("okx", {"bids": [["1", "1"], ["0.5", "1"]]}), ("okx", {"asks": [["1"]]}),
    ],
)  # fmt: skip
def test_a_quote_with_an_impossible_field_is_invalid_and_its_symbol_is_named(exchange: str, change: dict[str, Any]):
    (item,) = reader(exchange).parse(changed(exchange, change), RECEIVED)
    assert isinstance(item, InvalidItem)
    assert (item.error, item.symbol[:3]) == (MALFORMED_ITEM, "BTC")
    assert item.reason


@pytest.mark.parametrize("exchange", FRAMES)
def test_a_quote_of_a_symbol_that_was_not_subscribed_is_invalid(exchange: str):
    text = encoded(FRAMES[exchange][0]).replace(b"BTC", b"XYZ")
    (item,) = reader(exchange).parse(text, RECEIVED)
    assert isinstance(item, InvalidItem)
    assert item.error == UNSUBSCRIBED


@pytest.mark.parametrize("exchange", FRAMES)
def test_a_frame_cut_anywhere_is_malformed_and_nothing_else_is_raised(exchange: str):
    frame = encoded(FRAMES[exchange][0])
    for end in range(1, len(frame)):
        with pytest.raises(MalformedFrame):
            reader(exchange).parse(frame[:end], RECEIVED)


@pytest.mark.parametrize("exchange", FRAMES)
def test_fields_that_the_exchange_adds_change_nothing(exchange: str):
    quote = quote_of(reader(exchange).parse(changed(exchange, {"added": [1]}), RECEIVED))
    assert sides(quote) == sides(quote_of(reader(exchange).parse(encoded(FRAMES[exchange][0]), RECEIVED)))


def test_trades_on_a_connection_of_quotes_are_of_an_unknown_kind():
    frame = (
        '{"stream":"btcusdt@trade","data":{"e":"trade","E":1723161255343,"s":"BTCUSDT","t":3735683259,'
        '"p":"61837.63000000","q":"0.02000000","T":1723161255342,"m":true,"M":true}}'
    )
    assert reader("binance").parse(frame.encode(), RECEIVED) == [Unknown("trade")]


@pytest.mark.parametrize("exchange", FRAMES)
def test_the_simulated_exchange_sends_the_quotes_of_its_book(exchange: str):
    simulated = venue(exchange)
    pair = pair_of(EXCHANGES[exchange], simulated.default_symbols[0])
    quotes, side = adapter(exchange, QUOTES, [pair]), simulated([pair])
    history, client = History("7"), Client(protocol=quotes.path)
    market, opened = Market(pair, "7", 50.0, RECEIVED), RECEIVED
    batches: list[list[Any]] = []
    for trade in market.until(opened + 20_000_000):
        if batches and batches[-1][-1].time == trade.time:
            batches[-1].append(trade)
        else:
            batches.append([trade])
    history.books.follow(batches[0])
    answers = side.handle(quotes.subscribe([pair], 1).decode(), client, history, 0.0)
    events = [event for answer in answers for event in quotes.parse(str(answer).encode(), RECEIVED)]
    assert any(isinstance(event, Subscribed) for event in events)
    assert client.quotes == {pair.raw_symbol}
    assert client.subscribed == set()
    for batch in batches[1:]:
        if (sim_quote := history.books.follow(batch).quote) is not None:
            events += [event for frame in side.quote_frames(sim_quote) for event in quotes.parse(frame.encode(), 0)]
    received = [event.record for event in events if isinstance(event, SequencedRecord)]
    sent = history.books.quotes[pair.raw_symbol]
    expected = sent[1:] if exchange == "binance" else sent  # Binance sends nothing before the next change
    assert len(received) > 100
    for quote, sim_quote in zip(received, expected, strict=True):
        exact = [
            None if level is None else tuple(Decimal(value).scaleb(-SCALE) for value in level)
            for level in (sim_quote.bid, sim_quote.ask)
        ]
        assert list(sides(quote)) == exact
        assert quote.verdict is Verdict.UNVERIFIABLE
    side.handle(quotes.unsubscribe([pair], 2).decode(), client, history, 0.0)
    assert client.quotes == set()


@pytest.mark.parametrize("exchange", ["kraken", "bybit", "okx"])  # Binance acknowledges streams that do not exist
def test_the_simulated_exchange_refuses_the_quotes_of_a_symbol_that_it_does_not_list(exchange: str):
    simulated = venue(exchange)
    pair = pair_of(EXCHANGES[exchange], simulated.default_symbols[0])
    other = pair_of(EXCHANGES[exchange], simulated.new_symbol)
    quotes, client = adapter(exchange, QUOTES, [other]), Client(protocol=adapter(exchange, QUOTES, []).path)
    answers = simulated([pair]).handle(quotes.subscribe([other], 1).decode(), client, History(), 0.0)
    events = [event for answer in answers for event in quotes.parse(str(answer).encode(), RECEIVED)]
    assert any(isinstance(event, Refused) and event.raw_symbols == (other.raw_symbol,) for event in events)


@pytest.mark.skipif("K2_CAPTURES" not in os.environ, reason="K2_CAPTURES names no folder of recorded frames")
def test_every_recorded_quote_of_binance_is_exact():
    pair = pair_of(EXCHANGES["binance"], "BTCUSDT")
    quotes, recorded = adapter("binance", QUOTES, [pair]), []
    for _, frame in frames(Path(os.environ["K2_CAPTURES"]) / "binance_spot_btcusdt.gz"):
        if b"@bookTicker" in frame:
            data = json.loads(frame)["data"]
            recorded.append((quote_of(quotes.parse(frame, RECEIVED)), data))
    assert len(recorded) == 28_040
    for quote, data in recorded:
        assert sides(quote) == (
            (Decimal(data["b"]), Decimal(data["B"])), (Decimal(data["a"]), Decimal(data["A"]))
        )  # fmt: skip
        assert quote.sequence == data["u"]
    assert {quote.verdict for quote, _ in recorded} == {Verdict.UNVERIFIABLE}
    assert all(later.ordinal == earlier.ordinal + 1 for (earlier, _), (later, _) in pairwise(recorded))
    assert {quote.price_exponent for quote, _ in recorded} == {-2}


@pytest.mark.parametrize("offset", [None, 1500])
def test_a_quote_survives_avro(offset: int | None):
    quote = quote_of(reader("okx").parse(encoded(FRAMES["okx"][0]), RECEIVED))
    if offset is not None:
        quote = quote.with_clock_offset(offset)
    schema_id, body = wire.split(QUOTES.encoder(9).encode(quote))
    assert schema_id == 9
    decoded = avro.decode(body, QUOTES.reader_schema, QUOTES.reader_schema)
    assert decoded["timestamp"] == datetime(2024, 8, 8, 23, 54, 15, 343000, tzinfo=UTC)
    assert decoded["clock_offset_ms"] == offset
    assert {name: decoded[name] for name in ("bid_price", "ask_price", "price_exponent", "sequence", "verdict")} == {
        "bid_price": 6183763, "ask_price": 6183764, "price_exponent": -2, "sequence": 363996337,
        "verdict": "unverifiable",
    }  # fmt: skip
    assert list(decoded) == list(QUOTES.column_names)
