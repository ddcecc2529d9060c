"""Trades of every kind, and feeds with one thing changed."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import strategies as st

from k2.schemas.feed.model import API_VERSION, ExchangeFeed
from k2.schemas.records.trade import Side, Trade
from k2.schemas.values import MAX_SCALED

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
_IDS = st.integers(0, 2**64) | st.integers(2**62 - 3, 2**62 + 3)
_MICROS = st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999)  # years 1 to 9999


@pytest.fixture(scope="session")
def trades() -> st.SearchStrategy[Trade]:
    """Any trade that the schema can hold."""
    amounts = st.integers(1, MAX_SCALED)
    return st.builds(
        lambda base, quote, **rest: Trade(
            symbol=f"{len(base)}{base}{quote}", base_asset=base, quote_currency=quote, **rest
        ),
        base=_TEXT,
        quote=_TEXT,  # a symbol has one base and one quote: `_symbol_problems` keeps it so within a feed
        trade_id=st.text(st.characters(exclude_categories=["Cs"]), max_size=200) | _IDS.map(str),
        listing=st.integers(1, 3),
        exchange=st.sampled_from(["UNKNOWN", "BINANCE", "KRAKEN", "COINBASE", "BYBIT", "OKX"]),
        timestamp=_MICROS,
        price=amounts,
        quantity=amounts,
        side=st.sampled_from(Side),
        ingestion_timestamp=_MICROS,
        vendor_data=st.dictionaries(_TEXT, _TEXT, max_size=5).map(lambda pairs: tuple(pairs.items())),
    )


@pytest.fixture
def body() -> Callable[..., dict[str, Any]]:
    """An ExchangeFeed as an object, with the given parts of its spec replaced."""

    def build(name: str = "binance-spot", **spec: Any) -> dict[str, Any]:
        return {
            "apiVersion": API_VERSION,
            "kind": "ExchangeFeed",
            "metadata": {"name": name},
            "spec": {"exchange": "binance", "symbols": ["BTCUSDT"]} | spec,
        }

    return build


@pytest.fixture
def feed(body: Callable[..., dict[str, Any]]) -> Callable[..., ExchangeFeed]:
    """The same as a valid feed."""
    return lambda *args, **spec: ExchangeFeed.from_body(body(*args, **spec))
