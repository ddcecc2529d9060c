import pytest

from k2.operator.desired import children, obsolete, with_owner


def owners(manifest):
    return [owner["uid"] for owner in manifest["metadata"].get("ownerReferences", [])]


def test_every_child_except_topics_is_owned_by_its_feed(feed, settings, body):
    live = body()
    for manifest in children(feed(), settings()):
        expected = [] if manifest["kind"] == "KafkaTopic" else [live["metadata"]["uid"]]
        assert owners(with_owner(manifest, live)) == expected


def test_the_owner_is_the_controller(manifests, body):
    (reference,) = with_owner(manifests("Service")[0], body())["metadata"]["ownerReferences"]
    assert reference == {
        "apiVersion": "k2.marketdata.io/v1alpha1",
        "kind": "ExchangeFeed",
        "name": "binance",
        "uid": "uid-of-market-binance",
        "controller": True,
        "blockOwnerDeletion": True,
    }


@pytest.mark.parametrize("policy", ["Retain", "Delete"])
def test_topics_have_no_owner_so_that_they_are_never_garbage_collected(manifests, body, policy):
    topics = manifests("KafkaTopic", deletionPolicy=policy)
    assert [owners(with_owner(topic, body(deletionPolicy=policy))) for topic in topics] == [[], [], [], [], []]


def test_adding_an_owner_does_not_mutate_the_manifest(manifests, body):
    manifest = manifests("Service")[0]
    with_owner(manifest, body())
    assert owners(manifest) == []


def test_objects_that_a_smaller_feed_no_longer_needs_are_obsolete_but_never_a_topic(feed, settings):
    symbols = [f"COIN{number}USDT" for number in range(20)]
    before = children(feed(symbols=symbols, ingest={"shards": 2}, kafka={"topic": "old"}), settings())
    after = children(feed(symbols=symbols, layers={"topology": "Combined"}), settings())
    foreign = {"kind": "Deployment", "metadata": {"name": "binance-other"}}
    assert [raw["metadata"]["name"] for raw in obsolete(after, [*before, foreign])] == [
        "binance-shard-1-0",
        "binance-bronze",
        "binance-silver",
        "binance-gold",
    ]
    assert obsolete(after, after) == []
