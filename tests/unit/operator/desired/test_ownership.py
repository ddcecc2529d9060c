import pytest

from k2.operator.desired import children, owned, unwanted


def owners(manifest):
    return [owner["uid"] for owner in manifest["metadata"].get("ownerReferences", [])]


def test_every_child_but_topics_goes_with_its_feed(feed, settings, body):
    live = body()
    for manifest in children(feed(), settings()):
        expected = [] if manifest["kind"] == "KafkaTopic" else [live["metadata"]["uid"]]
        assert owners(owned(manifest, live)) == expected


def test_the_owner_is_the_controller(made, body):
    (reference,) = owned(made("Service")[0], body())["metadata"]["ownerReferences"]
    assert reference == {
        "apiVersion": "k2.marketdata.io/v1alpha1",
        "kind": "ExchangeFeed",
        "name": "binance",
        "uid": "uid-of-market-binance",
        "controller": True,
        "blockOwnerDeletion": True,
    }


@pytest.mark.parametrize("policy", ["Retain", "Delete"])
def test_nothing_owns_a_topic_so_that_it_never_vanishes_with_an_owner(made, body, policy):
    topics = made("KafkaTopic", deletionPolicy=policy)
    assert [owners(owned(topic, body(deletionPolicy=policy))) for topic in topics] == [[], [], []]


def test_owning_leaves_the_manifest_itself_alone(made, body):
    manifest = made("Service")[0]
    owned(manifest, body())
    assert owners(manifest) == []


def test_what_a_smaller_feed_asks_for_no_more_is_unwanted_but_never_a_topic(feed, settings):
    symbols = [f"COIN{number}USDT" for number in range(20)]
    before = children(feed(symbols=symbols, ingest={"shards": 2}, kafka={"topic": "old"}), settings())
    after = children(feed(symbols=symbols, layers={"topology": "Combined"}), settings())
    foreign = {"kind": "Deployment", "metadata": {"name": "binance-other"}}
    assert [found["metadata"]["name"] for found in unwanted(after, [*before, foreign])] == [
        "binance-ingest-1-0",
        "binance-bronze",
        "binance-silver",
        "binance-gold",
    ]
    assert unwanted(after, after) == []
