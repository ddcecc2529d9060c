"""Whole recorded lists: every entry has its true base, quote and steps, or is rejected by name with a true reason."""

import gzip
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from k2.ingest.exchanges import instrument_source
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.records.instrument import InstrumentList, InstrumentStatus, instrument_list

FILES = {
    "binance": ("binance.gz",),
    "kraken": ("kraken.gz", "kraken_tokenized.json"),
    "coinbase": ("coinbase.gz",),
    "bybit": ("bybit_spot.json",),
    "okx": ("okx.gz",),
}
# Kraken's codes of assets from before it dropped their prefixes (X: crypto, Z: fiat), by which pairs are checked here.
PREFIXED = {
    *("XETC", "XETH", "XLTC", "XMLN", "XREP", "XXBT", "XXDG", "XXLM", "XXMR", "XXRP", "XZEC"),
    *("ZAUD", "ZCAD", "ZEUR", "ZGBP", "ZJPY", "ZUSD"),
}
COMMON = {"XBT": "BTC", "XDG": "DOGE"}


def body(path: Path) -> bytes:
    """Return the first recorded response; a recording's lines begin with the URL and the time."""
    if path.suffix == ".json":
        return path.read_bytes()
    with gzip.open(path) as lines:
        return lines.readline().partition(b": ")[2]


@pytest.fixture(params=FILES)
def recorded(request, captures) -> tuple[str, list[dict], InstrumentList]:
    """An exchange, its entries as sent, and what K2 reads of them."""
    exchange = request.param
    bodies = [body(captures / "instruments" / name) for name in FILES[exchange]]
    entries = [entry for text in bodies for entry in ENTRIES[exchange](msgspec.json.decode(text))]
    source = instrument_source(exchange)
    listed = instrument_list(EXCHANGES[exchange], [each for text in bodies for each in source.read(text)])
    return exchange, entries, listed


ENTRIES = {
    "binance": lambda response: response["symbols"],
    "kraken": lambda response: list(response["result"].values()),
    "coinbase": lambda response: response,
    "bybit": lambda response: response["result"]["list"],
    "okx": lambda response: response["data"],
}


def binance_facts(entry: dict) -> tuple:
    filters = {each["filterType"]: each for each in entry["filters"]}
    tick, lot = filters["PRICE_FILTER"]["tickSize"], filters["LOT_SIZE"]["stepSize"]
    return entry["symbol"], entry["baseAsset"], entry["quoteAsset"], tick, lot, entry["status"] == "TRADING"


def kraken_facts(entry: dict) -> tuple:
    assets = [code[1:] if code in PREFIXED else code for code in (entry["base"], entry["quote"])]
    base, quote = (COMMON.get(asset, asset) for asset in assets)
    tick, lot = entry.get("tick_size") or f"1E-{entry['pair_decimals']}", f"1E-{entry['lot_decimals']}"
    return f"{base}/{quote}", base.upper(), quote.upper(), tick, lot, entry.get("status", "online") == "online"


def coinbase_facts(entry: dict) -> tuple:
    base, quote = entry["base_currency"], entry["quote_currency"]
    trades = entry["status"] == "online" and not entry["trading_disabled"]
    return entry["id"], base, quote, entry["quote_increment"], entry["base_increment"], trades


def bybit_facts(entry: dict) -> tuple:
    tick, lot = entry["priceFilter"]["tickSize"], entry["lotSizeFilter"]["basePrecision"]
    return entry["symbol"], entry["baseCoin"], entry["quoteCoin"], tick, lot, entry["status"] == "Trading"


def okx_facts(entry: dict) -> tuple:
    tick, lot = entry["tickSz"], entry["lotSz"]
    return entry["instId"], entry["baseCcy"], entry["quoteCcy"], tick, lot, entry["state"] == "live"


FACTS = {
    "binance": binance_facts,
    "kraken": kraken_facts,
    "coinbase": coinbase_facts,
    "bybit": bybit_facts,
    "okx": okx_facts,
}


def is_rejected(exchange: str, entry: dict) -> bool:
    """Return whether an entry cannot be recorded: Kraken's dark pool, and its staked asset with a dot in its name."""
    return exchange == "kraken" and ("wsname" not in entry or "." in entry["wsname"])


def test_every_entry_has_its_true_assets_and_steps(recorded):
    exchange, entries, listed = recorded
    expected = {}
    for entry in entries:
        if not is_rejected(exchange, entry):
            raw_symbol, base, quote, tick, lot, trades = FACTS[exchange](entry)
            expected[raw_symbol] = (base + quote, base, quote, Decimal(tick), Decimal(lot), trades)
    assert expected == {
        name: (
            each.symbol, each.base_asset, each.quote_currency, each.tick_size, each.lot_size,
            each.status is InstrumentStatus.TRADING,
        )
        for name, each in listed.instruments.items()
    }  # fmt: skip


def test_what_is_not_recorded_is_rejected_by_name(recorded):
    exchange, entries, listed = recorded
    expected = {
        entry.get("wsname", entry["altname"]): "websocket name" if "wsname" not in entry else "other characters"
        for entry in entries
        if is_rejected(exchange, entry)
    }
    assert listed.rejected.keys() == expected.keys()
    assert all(reason in listed.rejected[name] for name, reason in expected.items())


def test_definitions_are_kept_as_received(recorded):
    exchange, entries, listed = recorded
    definitions = [msgspec.json.decode(each.definition) for each in listed.instruments.values()]
    assert definitions == [entry for entry in entries if not is_rejected(exchange, entry)]


def test_lists_of_several_years_have_no_two_instruments_of_one_symbol(recorded):
    _, _, listed = recorded
    symbols = [each.symbol for each in listed.instruments.values()]
    assert len(set(symbols)) == len(symbols) > 0
