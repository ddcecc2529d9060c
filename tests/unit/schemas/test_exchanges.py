"""How exchanges spell symbols, and how K2 does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.schemas.codecs import avro
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.exchanges.spec import SequenceScheme, UnknownPair


@pytest.mark.parametrize(
    ("exchange", "raw_symbol", "symbol"),
    [
        ("binance", "BTCUSDT", "BTCUSDT"),
        ("binance", "1000SATSUSDT", "1000SATSUSDT"),
        ("binance", "SBNB", "SBNB"),
        ("binance", "币安人生USDT", "币安人生USDT"),
        ("kraken", "BTC/USD", "BTCUSD"),
        ("kraken", "XBT/USD", "BTCUSD"),
        ("kraken", "XDG/XBT", "DOGEBTC"),
        ("kraken", "AAPLx/USD", "AAPLXUSD"),
        ("coinbase", "BTC-USD", "BTCUSD"),
        ("bybit", "SOLUSDC", "SOLUSDC"),
        ("okx", "BTC-USDT", "BTCUSDT"),
    ],
)
def test_a_symbol_is_normalised(exchange, raw_symbol, symbol):
    assert EXCHANGES[exchange].symbol(raw_symbol) == symbol


@pytest.mark.parametrize("exchange", sorted(EXCHANGES))
def test_another_exchanges_spelling_is_refused_with_an_example(exchange):
    spec = EXCHANGES[exchange]
    for raw_symbol in ("btcusdt", "BTC_USDT", "", "BTC/", "-USD", f"{spec.symbol_example}\n", "BTC USD"):
        with pytest.raises(UnknownPair, match=spec.symbol_example):
            spec.symbol(raw_symbol)


@given(st.sampled_from(sorted(EXCHANGES)), st.text(max_size=30))
def test_any_text_is_a_symbol_or_an_unknown_pair(exchange, text):
    try:
        symbol = EXCHANGES[exchange].symbol(text)
    except UnknownPair:
        return
    assert symbol == symbol.upper()


def test_every_exchange_has_its_symbol_in_the_schema():
    symbols = next(field for field in avro.load()["fields"] if field["name"] == "exchange")["type"]["symbols"]
    assert {spec.label for spec in EXCHANGES.values()} == set(symbols) - {"UNKNOWN"}


def test_only_bybit_numbers_nothing():
    assert {name for name, spec in EXCHANGES.items() if spec.sequence is SequenceScheme.NONE} == {"bybit"}
