"""Recordings of both formats, and files that are none."""

import gzip

import pytest

from k2.ingest.simulator.capture import UnreadableCapture, frames
from k2.ingest.simulator.listings import pair_of
from k2.ingest.simulator.runner import arguments_of, build
from k2.ingest.simulator.sources import CaptureSource
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.exchanges.spec import UnknownPair

BTC, ETH = (pair_of(EXCHANGES["binance"], raw_symbol) for raw_symbol in ("BTCUSDT", "ETHUSDT"))


def test_both_formats_are_read_and_other_lines_are_not(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(
        b'1723161254087896568 {"a":1}\nwss://host <-> 1618677816.84\nwss://host <- 1618677817.02: {"sent":1}\n'
        b'1618677817.061845: [1]\nconfiguration: {"x":1}\n\n'
    )
    assert list(frames(path)) == [(1723161254.087896568, b'{"a":1}'), (1618677817.061845, b"[1]")]


@pytest.mark.parametrize(
    "content",
    [b"", b"words\n", gzip.compress(b"words\n")[:-5], b"\x1f\x8b"],
    ids=["empty", "words", "gzip cut short", "gzip magic only"],
)
def test_a_file_that_is_no_recording_is_named(tmp_path, content):
    path = tmp_path / "a.gz"
    path.write_bytes(content)
    with pytest.raises(UnreadableCapture, match=r"a\.gz"):
        list(frames(path))


def test_an_absent_file_and_a_folder_are_named(tmp_path):
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(UnreadableCapture, match=path.name):
            list(frames(path))


def test_a_recording_plays_at_its_pace_or_faster(captures):
    path = captures / "binance_spot_btcusdt.gz"
    slow, fast = (CaptureSource("binance", [path], [BTC], speed) for speed in (1.0, 100.0))
    for source in (slow, fast):
        source.open(0)
    slow_count = sum(1 for _ in slow.until(10 * 10**6))
    fast_count = sum(1 for _ in fast.until(10 * 10**6))
    assert 0 < slow_count < 1000
    assert fast_count == 9757
    assert fast.finished
    assert not slow.finished


def test_recordings_are_merged_by_their_time(captures):
    paths = [captures / f"binance_spot_{name}.gz" for name in ("btcusdt", "ethusdt")]
    source = CaptureSource("binance", paths, [BTC, ETH], 0)
    source.open(0)
    symbols = [trades[0].pair.symbol for trades, _ in source.until(0)]
    assert len(symbols) == 9757 + 6106
    assert set(symbols) == {"BTCUSDT", "ETHUSDT"}


def test_a_recording_without_the_symbols_asked_for_is_refused(captures):
    with pytest.raises(UnreadableCapture, match="no trade of the requested symbols"):
        CaptureSource("binance", [captures / "binance_spot_btcusdt.gz"], [ETH], 1)


def test_a_symbol_that_is_not_the_exchanges_is_refused():
    with pytest.raises(UnknownPair):
        build("kraken", symbols=["BTCUSDT"])


def test_the_command_line_says_everything_that_build_takes():
    arguments = arguments_of(
        ["okx", "--seed", "7", "--rate", "5", "--fault", "drop=1", "--fault", "close", "--port", "9"]
    )
    assert (arguments.exchange, arguments.seed, arguments.rate, arguments.fault, arguments.port) == (
        "okx",
        "7",
        5.0,
        ["drop=1", "close"],
        9,
    )
    with pytest.raises(SystemExit):
        arguments_of(["ftx"])
