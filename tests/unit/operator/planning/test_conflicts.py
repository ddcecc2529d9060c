import pytest

from k2.operator.planning.conflicts import Claim, ClaimCache, conflict_message
from k2.schemas.feed.model import ExchangeFeed


@pytest.fixture
def claim(body):
    def build(name, created="2026-01-01T00:00:00Z", uid="", namespace="market", **spec):
        live = body(name, namespace, **spec)
        live["metadata"] |= {"creationTimestamp": created, "uid": uid or f"{namespace}-{name}"}
        return Claim.of(ExchangeFeed.from_body(live), live)

    return build


def test_of_two_feeds_with_one_topic_the_younger_is_rejected(claim):
    old = claim("old")
    young = claim("young", created="2026-01-01T00:00:01Z", symbols=["SOLUSDT"])
    message = conflict_message(young, [old, young])
    owner, _, advice = message.partition("; ")
    assert owner == "topic market.crypto.trades.binance belongs to market/old"
    assert advice == "create this feed again with another spec.kafka.topic"
    assert conflict_message(old, [old, young]) == ""


def test_of_two_feeds_created_in_the_same_second_exactly_one_is_rejected(claim):
    one, two = claim("one", uid="b"), claim("two", uid="a")
    assert conflict_message(one, [one, two])
    assert conflict_message(two, [two, one]) == ""


def test_times_are_compared_as_times(claim):
    utc = claim("utc", created="2026-01-01T00:00:00Z")
    east = claim("east", created="2026-01-01T01:30:00+02:00")
    assert conflict_message(utc, [east])
    assert not conflict_message(east, [utc])


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"kafka": {"topic": "mine"}, "symbols": ["SOLUSDT"]}, ""),
        ({"kafka": {"topic": "mine"}, "symbols": ["SOLUSDT", "BTCUSDT"]}, "BTCUSDT of binance belongs to market/old"),
        ({"kafka": {"topic": "mine"}}, "BTCUSDT and 1 more of binance"),
        ({"exchange": "bybit"}, ""),
        (
            {"exchange": "bybit", "kafka": {"topic": "market.crypto.trades.binance"}},
            "create this feed again with another spec.kafka.topic",
        ),
    ],
)
def test_a_symbol_of_an_exchange_belongs_to_one_feed(claim, spec, words):
    message = conflict_message(claim("young", created="2026-02-01T00:00:00Z", **spec), [claim("old")])
    assert words in message
    assert bool(message) is bool(words)


@pytest.mark.parametrize(
    ("own", "others", "topic"),
    [
        ({"kafka": {"topic": "theirs.quotes"}}, {"kafka": {"topic": "theirs"}}, "theirs.quotes"),
        (
            {"kafka": {"topic": "theirs.quotes"}},
            {"kafka": {"topic": "theirs"}, "channels": ["quotes"]},
            "theirs.quotes",
        ),
        ({"channels": ["quotes"]}, {}, "market.crypto."),
    ],
)
def test_the_topics_of_all_channels_belong_to_a_feed_whichever_it_records(claim, own, others, topic):
    young = claim("young", created="2026-02-01T00:00:00Z", symbols=["SOLUSDT"], **own)
    assert conflict_message(young, [claim("old", **others)]).startswith(f"topic {topic}")


def test_a_name_belongs_to_one_feed_of_the_cluster(claim):
    old = claim("same", namespace="one")
    young = claim("same", created="2026-02-01T00:00:00Z", namespace="two", exchange="kraken", symbols=["BTC/USD"])
    assert "one/same" in conflict_message(young, [old])


def test_no_feed_conflicts_with_itself(claim):
    assert conflict_message(claim("one"), [claim("one")]) == ""


def test_a_feed_is_parsed_once_and_again_when_its_spec_changes(body):
    live = {name: body(name, "market") for name in ("one", "two")}
    for name, raw in live.items():
        raw["metadata"] |= {"creationTimestamp": "2026-01-01T00:00:00Z", "uid": name}
    cache = ClaimCache()
    before = cache.claims(live.values())
    live["two"] = {
        **live["two"],
        "spec": {**live["two"]["spec"], "symbols": ["SOLUSDT"]},
        "status": {"phase": "Failed"},
    }
    after = cache.claims(live.values())
    assert after[0] is before[0]
    assert after[1].symbols == {"SOLUSDT"}
    assert cache.claims([live["two"]])[0] is after[1]


def test_an_invalid_feed_claims_nothing_until_it_is_corrected(body):
    raw = body("one", "market")
    raw["metadata"] |= {"creationTimestamp": "2026-01-01T00:00:00Z", "uid": "one"}
    cache = ClaimCache()
    assert cache.claims([{**raw, "spec": {**raw["spec"], "exchange": "none"}}]) == []
    assert [item.feed.name for item in cache.claims([raw])] == ["one"]


def test_a_feed_that_selects_its_symbols_is_the_only_one_of_its_exchange(claim):
    old = claim("old", symbols=None, symbolSelector={"quotes": ["USDT"]})
    young = claim("young", created="2026-01-01T00:00:01Z", kafka={"topic": "mine"}, symbols=["SOLEUR"])
    other = claim("other", created="2026-01-01T00:00:01Z", exchange="bybit")
    assert conflict_message(young, [old, young, other]) == (
        "market/old is of binance too, and a feed with symbolSelector must be the only one of its exchange; "
        "list the symbols of both"
    )
    assert conflict_message(other, [old, young, other]) == ""
