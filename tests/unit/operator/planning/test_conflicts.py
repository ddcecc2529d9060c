import pytest

from k2.operator.planning.conflicts import Claimant, Register, refusal
from k2.schemas.feed.model import ExchangeFeed


@pytest.fixture
def claimant(body):
    def build(name, created="2026-01-01T00:00:00Z", uid="", namespace="market", **spec):
        live = body(name, namespace, **spec)
        live["metadata"] |= {"creationTimestamp": created, "uid": uid or f"{namespace}-{name}"}
        return Claimant.of(ExchangeFeed.from_body(live), live)

    return build


def test_of_two_feeds_with_one_topic_the_younger_is_refused(claimant):
    old = claimant("old")
    young = claimant("young", created="2026-01-01T00:00:01Z", symbols=["SOLUSDT"])
    said = refusal(young, [old, young])
    assert said == "topic market.crypto.trades.binance belongs to market/old; set another spec.kafka.topic"
    assert refusal(old, [old, young]) == ""


def test_of_two_feeds_of_one_second_exactly_one_is_refused(claimant):
    one, two = claimant("one", uid="b"), claimant("two", uid="a")
    assert refusal(one, [one, two])
    assert refusal(two, [two, one]) == ""


def test_times_are_compared_as_times(claimant):
    utc = claimant("utc", created="2026-01-01T00:00:00Z")
    east = claimant("east", created="2026-01-01T01:30:00+02:00")
    assert refusal(utc, [east])
    assert not refusal(east, [utc])


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"kafka": {"topic": "mine"}, "symbols": ["SOLUSDT"]}, ""),
        ({"kafka": {"topic": "mine"}, "symbols": ["SOLUSDT", "BTCUSDT"]}, "BTCUSDT of binance belongs to market/old"),
        ({"kafka": {"topic": "mine"}}, "BTCUSDT and 1 more of binance"),
        ({"exchange": "bybit"}, ""),
        ({"exchange": "bybit", "kafka": {"topic": "market.crypto.trades.binance"}}, "set another spec.kafka.topic"),
    ],
)
def test_a_symbol_of_an_exchange_belongs_to_one_feed(claimant, spec, words):
    said = refusal(claimant("young", created="2026-02-01T00:00:00Z", **spec), [claimant("old")])
    assert words in said
    assert bool(said) is bool(words)


def test_a_name_belongs_to_one_feed_of_the_cluster(claimant):
    old = claimant("same", namespace="one")
    young = claimant("same", created="2026-02-01T00:00:00Z", namespace="two", exchange="kraken", symbols=["BTC/USD"])
    assert "one/same" in refusal(young, [old])


def test_no_feed_conflicts_with_itself(claimant):
    assert refusal(claimant("one"), [claimant("one")]) == ""


def test_a_feed_is_read_once_and_again_when_it_is_written_anew(body):
    live = {name: body(name, "market") for name in ("one", "two")}
    for name, raw in live.items():
        raw["metadata"] |= {"creationTimestamp": "2026-01-01T00:00:00Z", "uid": name}
    register = Register()
    before = register.claimants(live.values())
    live["two"] = {
        **live["two"],
        "spec": {**live["two"]["spec"], "symbols": ["SOLUSDT"]},
        "status": {"phase": "Failed"},
    }
    after = register.claimants(live.values())
    assert after[0] is before[0]
    assert after[1].symbols == {"SOLUSDT"}
    assert register.claimants([live["two"]])[0] is after[1]


def test_a_feed_that_cannot_be_read_claims_nothing_until_it_is_mended(body):
    raw = body("one", "market")
    raw["metadata"] |= {"creationTimestamp": "2026-01-01T00:00:00Z", "uid": "one"}
    register = Register()
    assert register.claimants([{**raw, "spec": {**raw["spec"], "exchange": "none"}}]) == []
    assert [found.feed.name for found in register.claimants([raw])] == ["one"]
