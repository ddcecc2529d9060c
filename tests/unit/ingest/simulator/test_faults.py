"""How faults are written, and which are at work when. Clocks are given."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.ingest.simulator.fault_injector import FaultInjector
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
        ("delist", Fault("delist", 1.0)),
        ("delist=BTC/USD@3s", Fault("delist", 1.0, 3.0, "BTC/USD")),
        ("list=币安人生USDT", Fault("list", 1.0, 0.0, "币安人生USDT")),
        ("clock=-90s", Fault("clock", -90.0)),
        ("drop=5,BTCUSDT", Fault("drop", 5.0, 0.0, "BTCUSDT")),
    ],
)
def test_a_fault_is_kind_argument_and_time(text, fault):
    assert parse(text) == fault


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_can_be_written_without_argument(kind):
    assert parse(kind).kind == kind


@pytest.mark.parametrize(
    "text",
    [
        "drop=x",
        "drop=1.5",
        "drop=0",
        "drop=-5",
        "drop=1_0",
        "silent=5",
        "silent=0s",
        "drop@soon",
        "drop=1@-1s",
        "clock=+5s",
        "delist=\n",
        "list=" + "X" * 61,
    ],
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
        fault = parse(text)
    except UnknownFault:
        return
    assert fault.kind in KINDS


def test_a_fault_begins_at_its_time_and_once():
    injector = FaultInjector([parse("close@10s")])
    assert injector.start_due(9.9) == []
    assert [fault.kind for fault in injector.start_due(10)] == ["close"]
    assert injector.start_due(11) == []


@pytest.mark.parametrize(
    ("kind", "ask"),
    [("drop", lambda injector: injector.drop_trades(1)), ("refuse", lambda injector: injector.refuse_connection(0))],
)
def test_a_counted_fault_ends_with_its_count(kind, ask):
    injector = FaultInjector()
    assert not ask(injector)
    injector.add(parse(f"{kind}=2"))
    injector.start_due(0)
    assert [ask(injector) for _ in range(4)] == [True, True, False, False]


def test_a_counted_fault_with_a_target_hits_nothing_else():
    injector = FaultInjector(
        [parse("unanswered=1,ETHUSDT"), parse("ratelimit=1,exchangeInfo"), parse("mute=5s")], lambda _: "B"
    )
    injector.start_due(0)
    assert not injector.take("unanswered", 1, ["BTCUSDT", "BETHUSDT"])
    assert injector.take("unanswered", 1, ["BTCUSDT", "ETHUSDT"])
    assert not injector.take("unanswered", 1, ["ETHUSDT"])
    assert not injector.take("ratelimit", 1, "/api/v3/time")
    assert injector.take("ratelimit", 1, "/api/v3/exchangeInfo")
    assert (injector.suppresses_trades(1, "A"), injector.suppresses_trades(1, "B")) == (False, True)


def test_a_maintenance_refuses_connections_for_its_time():
    injector = FaultInjector([parse("maintenance=5s")])
    injector.start_due(0)
    assert (injector.refuse_connection(4.9), injector.refuse_connection(5)) == (True, False)


def test_a_whole_sweep_is_dropped_together():
    injector = FaultInjector([parse("drop=20")])
    injector.start_due(0)
    assert injector.drop_trades(15)
    assert injector.drop_trades(15)
    assert not injector.drop_trades(1)


def test_silence_withholds_everything_and_quiet_only_trades():
    injector = FaultInjector([parse("quiet=5s@1s"), parse("silent=5s@10s"), parse("wrong-pong=5s@20s")])
    for now in (1, 10, 20):
        injector.start_due(now)
    injector = FaultInjector([parse("quiet=5s")])
    injector.start_due(1)
    assert (injector.suppresses_trades(5.9), injector.silent(5.9), injector.suppresses_trades(6)) == (
        True,
        False,
        False,
    )
    injector.add(parse("silent=5s"))
    injector.start_due(10)
    assert (injector.suppresses_trades(14.9), injector.silent(14.9), injector.silent(15)) == (True, True, False)
    injector.add(parse("wrong-pong=5s"))
    injector.start_due(20)
    assert (injector.wrong_pong(24.9), injector.wrong_pong(25)) == (True, False)


def test_a_cut_is_for_connections_of_that_age():
    injector = FaultInjector([parse("cut=30s")])
    assert not injector.too_old(10**6)
    injector.start_due(0)
    assert (injector.too_old(30), injector.too_old(30.1)) == (False, True)


def test_malformed_frames_come_in_the_requested_number():
    sample = '{"e":"trade","t":1}'
    malformed = list(FaultInjector.malformed_frames("malformed", 10, sample))
    assert len(malformed) == 10
    assert len(set(malformed)) > 5
    (oversized,) = FaultInjector.malformed_frames("oversized", 1, sample)
    assert len(oversized) > 1 << 20
    assert "somethingNew" in next(FaultInjector.malformed_frames("unknown", 1, sample))
