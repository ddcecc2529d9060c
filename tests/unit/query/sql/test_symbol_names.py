"""Symbols in any spelling, and the sentences for unknown ones."""

import pytest

from k2.query.engine import Engine
from k2.query.errors import BadQuery
from k2.query.sql.symbol_names import never_stored, normalize
from k2.schemas.channels import QUOTES, TRADES
from tests.unit.query.conftest import Append, trade

WRITTEN = [
    ("BTCUSDT", None, "BTCUSDT"),
    ("btcusdt", None, "BTCUSDT"),
    ("btc-usdt", None, "BTCUSDT"),
    ("BTC/USDT", "BINANCE", "BTCUSDT"),
    ("Btc_Usdt", "OKX", "BTCUSDT"),
    (" BTC / USDT ", None, "BTCUSDT"),
    ("XBT/USD", "KRAKEN", "BTCUSD"),
    ("xbtusd", "KRAKEN", "BTCUSD"),
    ("ETH/XBT", "KRAKEN", "ETHBTC"),
    ("ETHXBT", "KRAKEN", "ETHBTC"),
    ("XDG/XBT", "KRAKEN", "DOGEBTC"),
    ("AAPLx/USD", "KRAKEN", "AAPLXUSD"),
    ("XBT/USD", "COINBASE", "XBTUSD"),
    ("XBT", "KRAKEN", "XBT"),
    ("币安人生USDT", "BINANCE", "币安人生USDT"),
]
TRADED = [
    {"symbol": "BTCUSDT", "base_asset": "BTC"},
    {"symbol": "BTCUSD", "base_asset": "BTC"},
    {"symbol": "ETHUSDT", "base_asset": "ETH"},
]
LISTED = [{"exchange": "OKX", "symbol": "SOLUSDT"}]


@pytest.mark.parametrize(("text", "exchange", "symbol"), WRITTEN)
def test_a_symbol_is_read_in_any_spelling(text: str, exchange: str | None, symbol: str) -> None:
    assert normalize(text, exchange) == symbol


@pytest.mark.parametrize("text", ["", "/", "' OR 1=1--", "BTC$USDT", "B" * 41, "BTC%USDT"])
def test_what_is_no_symbol_is_refused(text: str) -> None:
    with pytest.raises(BadQuery, match="is not a symbol; write its two assets"):
        normalize(text, None)


@pytest.mark.parametrize(
    ("symbol", "sentence"),
    [
        ("BTC", '"BTC" is an asset and not a symbol; choose BTCUSD, BTCUSDT'),
        ("SOLUSDT", 'no trade of "SOLUSDT" is stored, though OKX lists it; add it to a feed'),
        ("ETHUSTD", 'no trade of "ETHUSTD" is stored; did you mean ETHUSDT?'),
        ("XBTUSD", 'no trade of "XBTUSD" is stored; did you mean BTCUSD?'),
        ("ZZZ", 'no trade of "ZZZ" is stored; available symbols: BTCUSD, BTCUSDT, ETHUSDT'),
    ],
)
def test_a_symbol_without_trades_is_explained(symbol: str, sentence: str) -> None:
    assert str(never_stored(symbol, TRADED, LISTED, TRADES, "trade")) == sentence


def test_a_traded_symbol_and_an_empty_table_are_no_error() -> None:
    assert never_stored("BTCUSDT", TRADED, [], TRADES, "trade") is None
    assert never_stored("BTCUSDT", [], LISTED, TRADES, "trade") is None


def test_every_spelling_finds_the_same_trades(engine: Engine, append: Append) -> None:
    append([trade(1), trade(2, exchange="KRAKEN", symbol="BTCUSD", quote_currency="USD")])
    for written in ("btc/usdt", "BTC-USDT"):
        assert engine.trades(symbol=written).column("trade_id").to_pylist() == ["1"]
    assert engine.trades(symbol="XBT/USD", exchange="kraken").column("trade_id").to_pylist() == ["2"]
    with pytest.raises(BadQuery, match="choose BTCUSD, BTCUSDT"):
        engine.trades(symbol="BTC")


@pytest.mark.parametrize(
    ("symbol", "sentence"),
    [
        ("BTC", '"BTC" is an asset and not a symbol; choose BTCUSD, BTCUSDT'),
        ("SOLUSDT", 'no quote of "SOLUSDT" is stored, though OKX lists it; add it to a feed with the channel quotes'),
        ("ETHUSTD", 'no quote of "ETHUSTD" is stored; did you mean ETHUSDT?'),
    ],
)
def test_a_symbol_without_quotes_is_explained(symbol: str, sentence: str) -> None:
    assert str(never_stored(symbol, TRADED, LISTED, QUOTES, "quote")) == sentence
