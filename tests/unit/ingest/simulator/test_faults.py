"""How faults are written, and which are at work when. Clocks are given."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.ingest.simulator.fault_injector import Mischief
from k2.ingest.simulator.faults import KINDS, Fault, UnknownFault, parse


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("drop", Fault("drop", 20.0)),
        ("drop=5", Fault("drop", 5.0)),
        ("drop=5@10s", Fault("drop", 5.0, 10.0)),
        ("silent@500ms", Fault("silent", 40.0, 0.5)),
        ("silent=2m@1h", Fault("silent", 120.0, 3600.0)),
        ("close@0s", Fault("close", 1.0)),
    ],
)
def test_a_fault_is_kind_argument_and_time(text, fault):
    assert parse(text) == fault


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_can_be_written_without_argument(kind):
    assert parse(kind).kind == kind


@pytest.mark.parametrize(
    "text", ["drop=x", "drop=1.5", "drop=0", "drop=-5", "drop=1_0", "silent=5", "silent=0s", "drop@soon", "drop=1@-1s"]
)
def test_a_wrong_argument_is_refused_with_an_example(text):
    with pytest.raises(UnknownFault, match=f"write {text.partition('=')[0].partition('@')[0]}="):
        parse(text)


def test_an_unknown_kind_is_refused_with_those_that_are_known():
    with pytest.raises(UnknownFault, match="'explode' is no fault; known are drop, repeat"):
        parse("explode")


@given(st.text(max_size=20))
def test_any_text_is_a_fault_or_refused(text):
    try:
        found = parse(text)
    except UnknownFault:
        return
    assert found.kind in KINDS


def test_a_fault_begins_at_its_time_and_once():
    mischief = Mischief([parse("close@10s")])
    assert mischief.begin(9.9) == []
    assert [fault.kind for fault in mischief.begin(10)] == ["close"]
    assert mischief.begin(11) == []


@pytest.mark.parametrize(
    ("kind", "ask"),
    [("drop", lambda found: found.drops(1)), ("refuse", lambda found: found.refuses())],
)
def test_a_counted_fault_ends_with_its_count(kind, ask):
    mischief = Mischief()
    assert not ask(mischief)
    mischief.add(parse(f"{kind}=2"))
    mischief.begin(0)
    assert [ask(mischief) for _ in range(4)] == [True, True, False, False]


def test_a_whole_sweep_is_dropped_together():
    mischief = Mischief([parse("drop=20")])
    mischief.begin(0)
    assert mischief.drops(15)
    assert mischief.drops(15)
    assert not mischief.drops(1)


def test_rest_is_limited_before_it_is_unavailable():
    mischief = Mischief([parse("ratelimit=1"), parse("unavailable=2")])
    mischief.begin(0)
    assert [mischief.rest_status() for _ in range(4)] == [429, 503, 503, 0]


def test_silence_withholds_everything_and_quiet_only_trades():
    mischief = Mischief([parse("quiet=5s@1s"), parse("silent=5s@10s"), parse("wrong-pong=5s@20s")])
    for now in (1, 10, 20):
        mischief.begin(now)
    mischief = Mischief([parse("quiet=5s")])
    mischief.begin(1)
    assert (mischief.withholds_trades(5.9), mischief.silent(5.9), mischief.withholds_trades(6)) == (True, False, False)
    mischief.add(parse("silent=5s"))
    mischief.begin(10)
    assert (mischief.withholds_trades(14.9), mischief.silent(14.9), mischief.silent(15)) == (True, True, False)
    mischief.add(parse("wrong-pong=5s"))
    mischief.begin(20)
    assert (mischief.wrong_pong(24.9), mischief.wrong_pong(25)) == (True, False)


def test_a_cut_is_for_connections_of_that_age():
    mischief = Mischief([parse("cut=30s")])
    assert not mischief.too_old(10**6)
    mischief.begin(0)
    assert (mischief.too_old(30), mischief.too_old(30.1)) == (False, True)


def test_nonsense_comes_in_the_number_asked_for():
    sample = '{"e":"trade","t":1}'
    malformed = list(Mischief.nonsense("malformed", 10, sample))
    assert len(malformed) == 10
    assert len(set(malformed)) > 5
    (oversized,) = Mischief.nonsense("oversized", 1, sample)
    assert len(oversized) > 1 << 20
    assert "somethingNew" in next(Mischief.nonsense("unknown", 1, sample))
