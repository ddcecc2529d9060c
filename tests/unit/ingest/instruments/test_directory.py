"""What a process knows of its exchange's list, and what has changed since the list before."""

import msgspec
import pytest

from k2.ingest.instruments.directory import NOT_LISTED, Directory, EmptyList
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.exchanges.spec import Pair, SymbolName
from k2.schemas.feed.model import API_VERSION, ExchangeFeed
from k2.schemas.records.instrument import (
    InstrumentList,
    InstrumentStatus,
    InstrumentVersion,
    Listed,
    Rejected,
    instrument_list,
)

KRAKEN = EXCHANGES["kraken"]
TRADING, HALTED, DELISTED = InstrumentStatus.TRADING, InstrumentStatus.HALTED, InstrumentStatus.DELISTED


def listed(*names: str, status: InstrumentStatus = TRADING, tick: str = "0.1") -> InstrumentList:
    """A list of Kraken's pairs; a name that ends in `?` has steps that K2 cannot record."""
    entries = []
    for name in names:
        base, _, quote = name.rstrip("?").partition("/")
        step = "1E-13" if name.endswith("?") else tick
        entries.append(Listed(name.rstrip("?"), base, quote, status, step, "1E-8", '{"a": 1}'))
    return instrument_list(KRAKEN, entries)


def changes(versions: list[InstrumentVersion]) -> list[tuple[str, InstrumentStatus]]:
    return [(each.instrument.raw_symbol, each.instrument.status) for each in versions]


def test_each_version_is_returned_once():
    directory = Directory(KRAKEN)
    assert changes(directory.take(listed("XBT/USD", "ETH/USD"), 5)) == [("BTC/USD", TRADING), ("ETH/USD", TRADING)]
    assert directory.take(listed("XBT/USD", "ETH/USD"), 6) == []
    assert directory.version == 1
    assert directory.read_at == 6
    finer = InstrumentList(listed("XBT/USD").instruments | listed("ETH/USD", tick="0.01").instruments)
    (changed,) = directory.take(finer, 7)
    assert (changed.instrument.raw_symbol, changed.valid_from) == ("ETH/USD", 7)
    assert directory.version == 2


def test_a_listing_that_began_is_a_version_and_its_number_never_goes_back():
    directory = Directory(KRAKEN)
    directory.take(listed("XBT/USD", "ETH/USD"), 1)
    (began,) = directory.take(listed("XBT/USD", "ETH/USD"), 2, {"BTCUSD": 2, "SOLUSD": 3})
    assert (began.instrument.raw_symbol, began.instrument.listing, began.valid_from) == ("BTC/USD", 2, 2)
    assert directory.take(listed("XBT/USD", "ETH/USD"), 3) == []  # a process that starts knows no listings yet
    (delisted,) = directory.take(listed("ETH/USD"), 4)
    assert (delisted.instrument.status, delisted.instrument.listing) == (DELISTED, 2)
    other = Directory(KRAKEN)
    other.recall([began])
    assert [each.instrument.raw_symbol for each in other.take(listed("XBT/USD", "ETH/USD"), 5)] == ["ETH/USD"]


def test_what_is_listed_no_more_becomes_delisted_once_and_is_listed_again():
    directory = Directory(KRAKEN)
    directory.take(listed("XBT/USD", "ETH/USD"), 1)
    assert changes(directory.take(listed("XBT/USD"), 2)) == [("ETH/USD", DELISTED)]
    assert directory.take(listed("XBT/USD"), 3) == []
    assert directory.trading("ETH/USD") is False
    assert directory.reason("ETH/USD") == NOT_LISTED
    assert [each.raw_symbol for each in directory.instruments()] == ["BTC/USD"]
    assert changes(directory.take(listed("XBT/USD", "ETH/USD"), 4)) == [("ETH/USD", TRADING)]
    assert directory.trading("ETH/USD") is True


def test_another_process_continues_with_what_was_published():
    first, second = Directory(KRAKEN), Directory(KRAKEN)
    published = first.take(listed("XBT/USD", "ETH/USD"), 1) + first.take(listed("XBT/USD"), 2)
    second.recall(published)
    assert (second.cached, second.read_at, second.version) == (True, 2, 1)
    assert second.trading("ETH/USD") is False
    assert second.take(listed("XBT/USD"), 9) == []
    assert (second.cached, second.read_at) == (False, 9)


def test_what_the_process_published_itself_is_no_change():
    directory = Directory(KRAKEN)
    published = directory.take(listed("XBT/USD", "ETH/USD"), 1) + directory.take(listed("XBT/USD"), 2)
    directory.recall(published)
    assert (directory.cached, directory.read_at, directory.version) == (False, 2, 2)
    assert directory.trading("ETH/USD") is False


def test_an_empty_list_changes_nothing():
    directory = Directory(KRAKEN)
    directory.take(listed("XBT/USD"), 1)
    for empty in (InstrumentList(), instrument_list(KRAKEN, [Rejected("XBT/USD", "why")])):
        with pytest.raises(EmptyList):
            directory.take(empty, 2)
    assert directory.trading("BTC/USD") is True
    assert directory.read_at == 1


def test_only_the_list_knows_what_trades():
    directory = Directory(KRAKEN)
    assert directory.trading("BTC/USD") is None
    directory.take(listed("XBT/USD", "ETH/USD?"), 1)
    assert [directory.trading(name) for name in ("BTC/USD", "ETH/USD", "SOL/USD")] == [True, False, False]
    assert directory.reason("SOL/USD") == NOT_LISTED
    assert directory.reason("ETH/USD").startswith("K2 cannot record it: its tick size 0.0000000000001 is finer")
    directory.take(listed("XBT/USD", status=HALTED), 2)
    assert directory.trading("BTC/USD") is None  # the exchange says whether it can be subscribed


def test_pairs_come_from_the_list_under_either_name():
    directory = Directory(KRAKEN)
    directory.take(listed("XBT/USD", "ETH/USD?"), 1)
    names = [SymbolName("XBT/USD", "BTCUSD"), SymbolName("ETH/USD", "ETHUSD"), SymbolName("SOL/USD", "SOLUSD")]
    assert directory.pairs(names) == [
        Pair("BTC/USD", "BTCUSD", "BTC", "USD"),
        Pair("ETH/USD", "ETHUSD", "", ""),
        Pair("SOL/USD", "SOLUSD", "", ""),
    ]
    assert list(directory.unrecordable(names)) == ["ETH/USD"]


def test_a_version_survives_the_topic():
    directory = Directory(KRAKEN)
    (version,) = directory.take(listed("XBT/USD"), 5_000_000)
    timed = msgspec.structs.replace(
        version, instrument=msgspec.structs.replace(version.instrument, listed_at=1_600_000_000_000_000)
    )
    for each in (version, timed):
        assert InstrumentVersion.of(each.fields) == each
    later = version.fields | {"status": "frozen"}
    assert InstrumentVersion.of(later).instrument.status is InstrumentStatus.UNKNOWN


def selecting(**selector: object) -> ExchangeFeed:
    spec = {"exchange": "kraken", "symbolSelector": selector}
    return ExchangeFeed.from_body(
        {"apiVersion": API_VERSION, "kind": "ExchangeFeed", "metadata": {"name": "all"}, "spec": spec}
    )


def test_a_selector_takes_what_trades_in_its_quotes():
    directory = Directory(KRAKEN)
    halted = listed("ADA/USD", status=HALTED).instruments
    trading = listed("XBT/USD", "ETH/USD", "ETH/XBT", "SOL/EUR", "XRP/USD", "BAD/USD?")
    directory.take(InstrumentList(trading.instruments | halted, trading.rejected), 1)

    def selected(**selector: object) -> tuple[list[str], int | None, tuple[str, ...]]:
        symbols = directory.shard(selecting(**selector), 0)
        return [pair.raw_symbol for pair in symbols.pairs], symbols.matching, symbols.left_out

    assert selected(quotes=["USD"]) == (["BTC/USD", "ETH/USD", "XRP/USD"], 3, ())
    assert selected(quotes=["XBT", "EUR"]) == (["ETH/BTC", "SOL/EUR"], 2, ())
    assert selected(quotes=["USD"], exclude=["XBT/USD"]) == (["ETH/USD", "XRP/USD"], 2, ())
    assert selected(quotes=["USD"], maxSymbols=1) == (["BTC/USD"], 3, ("ETH/USD", "XRP/USD"))
    assert selected(quotes=["JPY"]) == ([], 0, ())
