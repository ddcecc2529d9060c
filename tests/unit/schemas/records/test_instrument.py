"""Normalising an exchange's list: names, steps, and what is rejected by name."""

from decimal import Decimal

import msgspec
import pytest

from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.records.instrument import InstrumentStatus, Listed, Rejected, instrument_list

BINANCE, KRAKEN, OKX = (EXCHANGES[name] for name in ("binance", "kraken", "okx"))
BTC = Listed("BTCUSDT", "BTC", "USDT", InstrumentStatus.TRADING, "0.01", "0.00001", "{}", "5.00")


def listed(raw_symbol: str, base: str, quote: str, **fields: object) -> Listed:
    return msgspec.structs.replace(BTC, raw_symbol=raw_symbol, base=base, quote=quote, **fields)


@pytest.mark.parametrize(
    ("spec", "raw_symbol", "base", "quote", "name", "symbol", "assets"),
    [
        (BINANCE, "BTCAEUR", "BTCA", "EUR", "BTCAEUR", "BTCAEUR", ("BTCA", "EUR")),
        (BINANCE, "BTCRLUSD", "BTC", "RLUSD", "BTCRLUSD", "BTCRLUSD", ("BTC", "RLUSD")),
        (BINANCE, "STRY", "S", "TRY", "STRY", "STRY", ("S", "TRY")),
        (BINANCE, "SBNB", "S", "BNB", "SBNB", "SBNB", ("S", "BNB")),
        (BINANCE, "BTCU", "BTC", "U", "BTCU", "BTCU", ("BTC", "U")),
        (BINANCE, "币安人生USDT", "币安人生", "USDT", "币安人生USDT", "币安人生USDT", ("币安人生", "USDT")),
        (KRAKEN, "AAPLx/USD", "AAPLx", "USD", "AAPLx/USD", "AAPLXUSD", ("AAPLX", "USD")),
        (KRAKEN, "XBT/USD", "XBT", "USD", "BTC/USD", "BTCUSD", ("BTC", "USD")),
        (KRAKEN, "XDG/XBT", "XDG", "XBT", "DOGE/BTC", "DOGEBTC", ("DOGE", "BTC")),
    ],
)
def test_assets_come_from_the_list_and_never_from_the_name(spec, raw_symbol, base, quote, name, symbol, assets):
    instruments = instrument_list(spec, [listed(raw_symbol, base, quote)]).instruments
    assert list(instruments) == [name]
    assert instruments[name].symbol == symbol
    assert (instruments[name].base_asset, instruments[name].quote_currency) == assets
    assert spec.symbol(raw_symbol) == symbol
    assert spec.canonical(raw_symbol) == name


def test_steps_are_exact_and_zero_states_none():
    entry = listed("BTCUSDT", "BTC", "USDT", tick_size="0.000000000001", lot_size="0.00000000")
    (instrument,) = instrument_list(BINANCE, [entry]).instruments.values()
    assert instrument.tick_size == Decimal(1).scaleb(-12)
    assert instrument.lot_size is None
    assert instrument.min_notional == 5


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (
            listed("BTCUSDT", "BTC", "USDT", tick_size="0.0000000000001"),
            "its tick size 0.0000000000001 is finer than 10^-12, the finest step that a trade can hold",
        ),
        (
            listed("BTCUSDT", "BTC", "USDT", lot_size="1.0000000000005"),
            "its lot size 1.0000000000005 is finer than 10^-12, the finest step that a trade can hold",
        ),
        (listed("BTCUSDT", "BTC", "USDT", tick_size="a cent"), "its tick size 'a cent' is not a number"),
        (listed("BTCUSDT", "BTC", "USDT", tick_size="-1"), "its tick size '-1' is not a positive number below 10^26"),
        (listed("BTCUSDT", "BTC", "USDT", tick_size="NaN"), "its tick size 'NaN' is not a positive number below 10^26"),
        (listed("BTCUSDT", "", "USDT"), "the exchange's list names no base or no quote asset"),
        (listed("BTCUSDT", "WBTC", "USDT"), "its name does not consist of its assets, WBTC and USDT"),
        (
            listed("BTC USDT", "BTC ", "USDT"),
            "its name has other characters than letters and digits, or too many of them",
        ),
        (Rejected("BTCUSDT", "it is no spot instrument"), "it is no spot instrument"),
    ],
)
def test_what_cannot_be_recorded_is_rejected_by_name_and_costs_no_other(entry, reason):
    result = instrument_list(BINANCE, [listed("ETHUSDT", "ETH", "USDT"), entry])
    assert list(result.instruments) == ["ETHUSDT"]
    assert result.rejected == {entry.raw_symbol: reason}


def test_instruments_whose_symbols_coincide_are_all_rejected():
    entries = [listed("A-BUSD", "A", "BUSD"), listed("AB-USD", "AB", "USD"), listed("BTC-USDT", "BTC", "USDT")]
    result = instrument_list(OKX, entries)
    assert list(result.instruments) == ["BTC-USDT"]
    assert result.rejected == {
        "A-BUSD": "its normalised symbol ABUSD is also that of AB-USD",
        "AB-USD": "its normalised symbol ABUSD is also that of A-BUSD",
    }


def test_names_that_differ_in_case_only_coincide():
    result = instrument_list(KRAKEN, [listed("AAPLx/USD", "AAPLx", "USD"), listed("AAPLX/USD", "AAPLX", "USD")])
    assert not result.instruments
    assert set(result.rejected) == {"AAPLx/USD", "AAPLX/USD"}


def test_an_instrument_that_two_responses_list_is_one():
    result = instrument_list(KRAKEN, [listed("XBT/USD", "XBT", "USD"), listed("XBT/USD", "XBT", "USD")])
    assert list(result.instruments) == ["BTC/USD"]
    assert not result.rejected
