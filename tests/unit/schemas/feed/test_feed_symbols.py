"""Symbols that a feed refuses, each with its path, the value, and what is allowed."""

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from k2.common.validation_errors import InvalidSpec
from k2.schemas.feed.model import ExchangeFeed


def refusal(body: dict) -> str:
    """What a user reads, whether the feed came from a file or from the API server."""
    with pytest.raises(InvalidSpec) as by_body:
        ExchangeFeed.from_body(body)
    with pytest.raises(InvalidSpec) as by_file:
        ExchangeFeed.from_yaml(yaml.safe_dump(body))
    assert str(by_body.value) == str(by_file.value)
    assert "\n" not in str(by_body.value)
    return str(by_body.value)


@pytest.mark.parametrize(
    "symbol",
    [
        "btcusdt",
        "BtcUsdt",
        "BTC/USD\n",
        "BTCUSDT\n",
        "\nBTCUSDT",
        " BTCUSDT",
        "../..",
        "a;b",
        "${jndi}",
        "${jndi:ldap://x/a}",
        "BTCUSDT\u200b",
        "BTC\0USDT",
        "BTCUSDT@trade",
        "",
        "A" * 200,
    ],
)
def test_a_symbol_that_is_not_the_exchanges_spelling_is_refused(body, symbol):
    text = refusal(body(symbols=["ETHUSDT", symbol]))
    shown = symbol if len(symbol) <= 80 else symbol[:77] + "..."
    assert text == (
        f"spec.symbols[1]: {json.dumps(shown)} is not allowed: "
        "binance spells symbols like BTCUSDT: capital letters and digits"
    )


def test_symbols_in_any_script_are_accepted(feed):
    assert feed(symbols=["币安人生USDT"]).spec.symbols == ("币安人生USDT",)
    assert feed(exchange="kraken", symbols=["AAPLx/USD"]).names[0].symbol == "AAPLXUSD"


@pytest.mark.parametrize(
    ("exchange", "symbol", "example"),
    [
        ("kraken", "BTCUSD", "BTC/USD"),
        ("kraken", "BTC/USD\n", "BTC/USD"),
        ("coinbase", "BTC/USD", "BTC-USD"),
        ("okx", "BTC-USD-SWAP", "BTC-USDT"),
        ("bybit", "BTC-USDT", "BTCUSDT"),
    ],
)
def test_each_exchange_is_held_to_its_own_spelling(body, exchange, symbol, example):
    text = refusal(body(exchange=exchange, symbols=[symbol]))
    assert text.startswith(
        f"spec.symbols[0]: {json.dumps(symbol)} is not allowed: {exchange} spells symbols like {example}"
    )


def test_no_symbols_are_refused(body):
    assert refusal(body(symbols=[])).startswith("spec.symbols: [] is not allowed: must hold at least 1 item")


def test_ten_thousand_symbols_are_refused_in_one_short_line(body):
    text = refusal(body(symbols=[f"A{number:05}USDT" for number in range(10_000)]))
    assert text.startswith("spec.symbols: ['A00000USDT', 'A00001USDT', 'A00002USDT', ...] is not allowed: ")
    assert "at most 1000 items" in text
    assert len(text) < 250


def test_a_thousand_symbols_are_accepted(feed):
    assert len(feed(symbols=[f"A{number:05}USDT" for number in range(1000)]).names) == 1000


def test_a_symbol_twice_is_refused_with_the_place_of_the_first(body):
    text = refusal(body(symbols=["ETHUSDT", "BTCUSDT", "ETHUSDT"]))
    assert (
        text == 'spec.symbols[2]: "ETHUSDT" is not allowed: each symbol may be listed once; spec.symbols[0] is the same'
    )


def test_two_names_of_one_symbol_are_the_same_symbol_twice(body):
    text = refusal(body(exchange="kraken", symbols=["XBT/USD", "BTC/USD"]))
    assert (
        text == 'spec.symbols[1]: "BTC/USD" is not allowed: each symbol may be listed once; spec.symbols[0] is the same'
    )


def test_every_invalid_symbol_is_reported_at_once(body):
    text = refusal(body(symbols=["a;b", "BTCUSDT", "../.."]))
    assert "spec.symbols[0]" in text
    assert "spec.symbols[2]" in text


def test_neither_symbols_nor_a_selector_is_refused(body):
    assert refusal(body(symbols=None)).endswith("write either symbols or symbolSelector")
    assert refusal(body(symbolSelector={"quotes": ["USDT"]})).endswith("write either symbols or symbolSelector")


@pytest.mark.parametrize("symbols", ["BTCUSDT", {"a": 1}, [1], [None], [["BTCUSDT"]]])
def test_symbols_that_are_no_list_of_texts_are_refused(body, symbols):
    text = refusal(body(symbols=symbols))
    assert text.startswith("spec.symbols")
    assert text.endswith(("must be a list", "must be text"))
    assert text.count(" is not allowed: ") == 1


@given(st.text(max_size=30))
def test_any_symbol_is_accepted_or_refused_in_one_printable_line(symbol):
    body = {
        "apiVersion": "k2.marketdata.io/v1alpha1", "kind": "ExchangeFeed", "metadata": {"name": "a"},
        "spec": {"exchange": "binance", "symbols": [symbol]},
    }  # fmt: skip
    try:
        words = ""
        parsed = ExchangeFeed.from_body(body)
    except InvalidSpec as error:
        words = str(error)
    if words:
        assert words.isprintable()
        assert words.startswith("spec.symbols[0]: ")
    else:
        assert parsed.names[0].symbol == symbol
