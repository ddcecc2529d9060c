"""Gap events as Kafka holds them, and the ledger that writes them."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.ingest.exchanges.base import NO_ID, Gap
from k2.ingest.sequencing import gaps
from k2.ingest.simulator.listings import pair_of
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.states import GapState

PAIR = pair_of(EXCHANGES["binance"], "BTCUSDT")
GAP = Gap(PAIR, 11, 14, 1_700_000_000_000_000, 1_700_000_001_000_001)
WINDOW = Gap(PAIR, NO_ID, NO_ID, 1_700_000_000_000_000, 1_700_000_001_000_000, "KRAKEN-1-a")
TIMES = st.integers(0, 253_402_300_799_999_999)


def test_an_open_gap_is_the_published_json():
    document = json.loads(gaps.open_event("spot", "trades", "BINANCE", GAP, 1_700_000_002_500_000).encode())
    assert document == {
        "gap_id": gaps.gap_id("trades", "BINANCE", GAP),
        "feed": "spot",
        "channel": "trades",
        "symbol": "BTCUSDT",
        "listing": 1,
        "first_id": "11",
        "last_id": "14",
        "detected_at": "2023-11-14T22:13:22.500000Z",
        "resolved_at": None,
        "resolution": "",
        "state": "open",
        "since": "2023-11-14T22:13:20.000000Z",
        "until": "2023-11-14T22:13:21.000001Z",
    }


@pytest.mark.parametrize("state", [GapState.REPAIRED, GapState.UNRECOVERABLE])
def test_the_end_of_a_gap_keeps_its_id_and_says_how_and_when(state):
    opened = gaps.open_event("spot", "trades", "BINANCE", GAP, 0)
    event = gaps.decode(gaps.close_event(opened, state=state, resolution="rest", at=1_700_000_003_000_000).encode())
    assert (event.gap_id, event.state, event.resolution) == (opened.gap_id, state, "rest")
    assert event.resolved_at == "2023-11-14T22:13:23.000000Z"
    unchanged = ("feed", "channel", "symbol", "listing", "first_id", "last_id", "detected_at", "since", "until")
    assert [getattr(event, name) for name in unchanged] == [getattr(opened, name) for name in unchanged]


def test_a_gap_event_cannot_be_changed():
    event = gaps.open_event("spot", "trades", "BINANCE", GAP, 0)
    with pytest.raises(AttributeError):
        event.state = GapState.REPAIRED


def test_the_same_missing_ids_have_the_same_id_in_every_process():
    again = Gap(PAIR, 11, 14, 5, 6)
    assert gaps.gap_id("trades", "BINANCE", GAP) == gaps.gap_id("trades", "BINANCE", again)
    eth = Gap(pair_of(EXCHANGES["binance"], "ETHUSDT"), 11, 14, 0, 1)
    others = {
        *(gaps.gap_id("trades", "BINANCE", other) for other in (Gap(PAIR, 11, 15, 0, 1), eth, WINDOW)),
        gaps.gap_id("trades", "OKX", GAP), gaps.gap_id("quotes", "BINANCE", GAP),
    }  # fmt: skip
    assert len(others | {gaps.gap_id("trades", "BINANCE", GAP)}) == 6


def test_the_same_ids_of_another_listing_are_another_gap():
    second = Gap(PAIR, 11, 14, 5, 6, listing=2)
    assert gaps.gap_id("trades", "BINANCE", second) != gaps.gap_id("trades", "BINANCE", GAP)
    assert gaps.open_event("spot", "trades", "BINANCE", second, 0).listing == 2


def test_a_gap_that_begins_with_id_0_is_no_window():
    gap = Gap(PAIR, 0, 4, 1, 2)
    event = gaps.open_event("spot", "trades", "BINANCE", gap, 0)
    assert (gap.is_window, WINDOW.is_window) == (False, True)
    assert (event.first_id, event.last_id) == ("0", "4")
    assert gaps.gap_from_event(gaps.decode(event.encode()), PAIR) == gap


@given(st.integers(0, 2**63 - 1), st.integers(0, 10**6), TIMES, TIMES, st.integers(1, 9))
def test_a_gap_survives_the_way_to_kafka_and_back(first, more, since, until, listing):
    gap = Gap(PAIR, first, first + more, since, until, listing=listing)
    assert gaps.gap_from_event(gaps.decode(gaps.open_event("f", "trades", "BINANCE", gap, since).encode()), PAIR) == gap


def test_a_window_survives_with_its_anchor():
    event = gaps.decode(gaps.open_event("f", "trades", "KRAKEN", WINDOW, 0).encode())
    assert (event.first_id, event.last_id) == ("", "KRAKEN-1-a")
    assert gaps.gap_from_event(event, PAIR) == WINDOW


@pytest.mark.parametrize("value", [b"", b"{}", b"[]", b'{"gap_id":1}', b"\x00\x00\x00\x00\x01"])
def test_what_is_no_gap_event_is_refused(value):
    with pytest.raises(msgspec.DecodeError):
        gaps.decode(value)
