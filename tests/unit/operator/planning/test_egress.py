"""How many ingest processes share an address: counted over the cluster's feeds, by exchange and egress group."""

import pytest

from k2.operator.planning import egress
from k2.operator.planning.conflicts import Claim
from k2.schemas.feed.model import ExchangeFeed


@pytest.fixture
def claim(body):
    def build(name, namespace="market", **spec):
        live = body(name, namespace, **spec)
        live["metadata"] |= {"creationTimestamp": "2026-01-01T00:00:00Z", "uid": f"{namespace}-{name}"}
        return Claim.of(ExchangeFeed.from_body(live), live)

    return build


def test_a_feed_alone_shares_with_its_own_shards_and_replicas(claim):
    own = claim("own", symbols=[f"COIN{index}USDT" for index in range(50)], ingest={"shards": 3, "redundancy": 2})
    assert egress.processes(own.feed, [own], {}) == 6
    assert egress.processes(own.feed, [], {}) == 6


def test_a_shard_without_symbols_runs_no_process(claim):
    own = claim("own", symbols=["BTCUSDT"], ingest={"shards": 8})
    assert egress.processes(own.feed, [own], {}) == 1


def test_all_feeds_of_an_exchange_share_by_default_wherever_they_are(claim):
    own = claim("own")
    others = [
        claim("two", "elsewhere", ingest={"redundancy": 2}),
        claim("own", "third"),
        claim("other", exchange="bybit"),
    ]
    assert egress.processes(own.feed, [own, *others], {}) == 4


def test_namespaces_of_different_groups_do_not_share(claim):
    claims = [claim("one", "a"), claim("two", "b"), claim("three", "c"), claim("four", "d"), claim("five", "e")]
    groups = {"a": "gateway", "b": "gateway", "c": "own"}
    assert [egress.processes(each.feed, claims, groups) for each in claims] == [2, 2, 1, 2, 2]


def test_a_suspended_feed_takes_no_share(claim):
    own, asleep = claim("own"), claim("asleep", suspend=True)
    assert egress.processes(own.feed, [own, asleep], {}) == 1
    assert egress.processes(asleep.feed, [own, asleep], {}) == 2


def test_each_channel_has_its_own_processes(claim):
    own = claim("own", channels=["trades", "quotes"], ingest={"redundancy": 2})
    assert egress.processes(own.feed, [own, claim("other")], {}) == 5
