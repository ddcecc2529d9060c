"""How exchanges spell symbols, and how K2 does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.schemas.codecs import avro
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.exchanges.spec import SequenceScheme, UnknownPair


@pytest.mark.parametrize(
    ("exchange", "raw_symbol", "symbol", "base", "quote"),
    [
        ("binance", "BTCUSDT", "BTCUSDT", "BTC", "USDT"),
        ("binance", "BTCFDUSD", "BTCFDUSD", "BTC", "FDUSD"),
        ("binance", "1000SATSUSDT", "1000SATSUSDT", "1000SATS", "USDT"),
        ("binance", "ETHBTC", "ETHBTC", "ETH", "BTC"),
        ("kraken", "BTC/USD", "BTCUSD", "BTC", "USD"),
        ("kraken", "XBT/USD", "BTCUSD", "BTC", "USD"),
        ("kraken", "XDG/XBT", "DOGEBTC", "DOGE", "BTC"),
        ("coinbase", "BTC-USD", "BTCUSD", "BTC", "USD"),
        ("bybit", "SOLUSDC", "SOLUSDC", "SOL", "USDC"),
        ("okx", "BTC-USDT", "BTCUSDT", "BTC", "USDT"),
    ],
)
def test_a_symbol_is_split_and_normalised(exchange, raw_symbol, symbol, base, quote):
    pair = EXCHANGES[exchange].pair(raw_symbol)
    assert (pair.raw_symbol, pair.symbol, pair.base, pair.quote) == (raw_symbol, symbol, base, quote)


@pytest.mark.parametrize("exchange", sorted(EXCHANGES))
def test_another_exchanges_spelling_is_refused_with_an_example(exchange):
    spec = EXCHANGES[exchange]
    for raw_symbol in ("btcusdt", "BTC_USDT", "", "BTC/", "-USD", f"{spec.symbol_example}\n", "BTC USD"):
        with pytest.raises(UnknownPair, match=spec.symbol_example):
            spec.pair(raw_symbol)


def test_a_quote_that_is_not_known_is_refused_with_those_that_are():
    with pytest.raises(UnknownPair, match="USDT"):
        EXCHANGES["binance"].pair("BTCXYZ")


@given(st.sampled_from(sorted(EXCHANGES)), st.text(max_size=30))
def test_any_text_is_a_pair_or_an_unknown_pair(exchange, text):
    try:
        pair = EXCHANGES[exchange].pair(text)
    except UnknownPair:
        return
    assert pair.symbol == pair.base + pair.quote
    assert pair.symbol == pair.symbol.upper()


def test_every_exchange_has_its_symbol_in_the_schema():
    symbols = next(field for field in avro.load()["fields"] if field["name"] == "exchange")["type"]["symbols"]
    assert {spec.label for spec in EXCHANGES.values()} == set(symbols) - {"UNKNOWN"}


def test_only_bybit_numbers_nothing():
    assert {name for name, spec in EXCHANGES.items() if spec.sequence is SequenceScheme.NONE} == {"bybit"}
