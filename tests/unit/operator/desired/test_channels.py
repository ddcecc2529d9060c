"""The objects of a feed with several channels: what each adds, and what it leaves alone."""

import pytest

from k2.operator.desired.config import ingest_hash, layer_hash
from k2.operator.desired.naming import CHANNEL, channel_of, shard_number
from k2.schemas.channels import BOOK, CHANNELS, QUOTES, TRADES
from k2.schemas.feed.model import ExchangeFeed

SYMBOLS = [f"COIN{number}USDT" for number in range(20)]
BOTH = ["trades", "quotes"]
LAYERS = {f"SparkApplication/binance-{layer}" for layer in ("bronze", "silver", "gold")}
OF_QUOTES = {"KafkaTopic/market.crypto.quotes.binance", "Deployment/binance-quotes-0-0"}


def changed(before, after):
    return {name for name in before | after if before.get(name) != after.get(name)}


def matches(selector, labels):
    return selector["matchLabels"].items() <= labels.items()


def test_a_channel_more_restarts_the_layers_and_no_other_ingest(manifests_by_name):
    before, after = manifests_by_name(), manifests_by_name(channels=BOTH)
    assert changed(before, after) == {"ConfigMap/binance-feed", *OF_QUOTES, *LAYERS}
    assert after.keys() - before.keys() == OF_QUOTES
    assert changed(before, manifests_by_name(channels=["trades"])) == {"ConfigMap/binance-feed"}
    assert changed(after, manifests_by_name(channels=BOTH[::-1])) == {"ConfigMap/binance-feed"}


def test_without_trades_only_their_objects_are_missing(manifests_by_name):
    both, quotes = manifests_by_name(channels=BOTH), manifests_by_name(channels=["quotes"])
    gone = {"KafkaTopic/market.crypto.trades.binance", "Deployment/binance-shard-0-0"}
    assert both.keys() - quotes.keys() == gone
    assert changed(both, quotes) == {"ConfigMap/binance-feed", *gone, *LAYERS}


def test_the_trades_selector_is_what_it_was_before_there_were_channels(manifests_by_name):
    deployment = manifests_by_name(channels=BOTH)["Deployment/binance-shard-0-0"]
    assert deployment["spec"]["selector"]["matchLabels"] == {
        "k2.marketdata.io/feed": "binance",
        "app.kubernetes.io/component": "ingest",
        "k2.marketdata.io/shard": "0",
        "k2.marketdata.io/replica": "0",
    }
    assert CHANNEL not in deployment["spec"]["template"]["metadata"]["labels"]


def test_each_deployment_selects_its_own_pods_and_the_feeds_selectors_all_of_them(manifests_by_name):
    every = manifests_by_name(symbols=SYMBOLS, channels=BOTH, ingest={"shards": 2, "redundancy": 2})
    deployments = [raw for raw in every.values() if raw["kind"] == "Deployment"]
    pods = [raw["spec"]["template"]["metadata"]["labels"] for raw in deployments]
    assert [sum(matches(raw["spec"]["selector"], labels) for labels in pods) for raw in deployments] == [1] * 8
    for name in ("PodMonitor/binance", "PodDisruptionBudget/binance-ingest"):
        assert all(matches(every[name]["spec"]["selector"], labels) for labels in pods), name
    assert all(matches(every["NetworkPolicy/binance-ingest"]["spec"]["podSelector"], labels) for labels in pods)
    assert all(every["Service/binance"]["spec"]["selector"].items() <= labels.items() for labels in pods)
    for raw in deployments:  # a shard's replicas are spread, without those of another channel
        (spread,) = raw["spec"]["template"]["spec"]["topologySpreadConstraints"]
        assert sum(matches(spread["labelSelector"], labels) for labels in pods) == 2


def test_the_labels_say_the_channel_and_the_shard(manifests):
    deployments = manifests("Deployment", symbols=SYMBOLS, channels=BOTH, ingest={"shards": 2})
    labelled = {raw["metadata"]["name"]: (channel_of(raw), shard_number(raw)) for raw in deployments}
    assert labelled == {
        "binance-shard-0-0": ("trades", 0),
        "binance-shard-1-0": ("trades", 1),
        "binance-quotes-0-0": ("quotes", 0),
        "binance-quotes-1-0": ("quotes", 1),
    }


def test_the_process_learns_its_channel_unless_it_is_that_of_trades(manifests):
    trades, quotes = (
        raw["spec"]["template"]["spec"]["containers"][0]["args"] for raw in manifests("Deployment", channels=BOTH)
    )
    assert "--channel" not in trades
    assert quotes[quotes.index("--channel") + 1] == "quotes"


def test_the_names_of_the_longest_feed_fit_into_those_of_pods(manifests):
    """A ReplicaSet's pods are named after its Deployment if that, a hyphen and five characters fit into 63."""
    spec = {"symbolSelector": {"quotes": ["USDT"]}, "symbols": None, "ingest": {"shards": 64, "redundancy": 2}}
    names = [raw["metadata"]["name"] for raw in manifests("Deployment", name="f" * 40, channels=BOTH, **spec)]
    assert max(len(name) for name in names) <= 63 - len("-x2x9z")


def test_topics_follow_the_trades_topic_and_have_the_channels_partitions(manifests):
    topics = {
        raw["spec"]["topicName"]: raw["spec"]["partitions"]
        for raw in manifests("KafkaTopic", channels=BOTH, kafka={"topic": "mine"})
        if "market.crypto" not in raw["spec"]["topicName"]
    }
    assert topics == {"mine": 40, "mine.quotes": 20}


@pytest.mark.parametrize(
    ("change", "kinds"), [({"backfill": {"maxAge": "2h"}}, {"trades", "quotes"}), ({"shards": 2}, set())]
)
def test_what_all_channels_share_rolls_all_of_them(feed, change, kinds):
    before, after = feed(channels=BOTH), feed(channels=BOTH, ingest=change)
    rolled = {each.name for each in (TRADES, QUOTES) if ingest_hash(before, each) != ingest_hash(after, each)}
    assert rolled == kinds
    assert ingest_hash(before, TRADES) != ingest_hash(before, QUOTES)


def test_how_books_are_recorded_rolls_the_pods_of_books_alone_which_read_it(feed, manifests):
    spec = {"channels": ["trades", "quotes", "book"]}
    before, after = feed(**spec), feed(**spec, book={"depth": 100})
    assert [each.name for each in CHANNELS if ingest_hash(before, each) != ingest_hash(after, each)] == ["book"]
    assert all(layer_hash(before, layer) == layer_hash(after, layer) for layer in ("bronze", "silver", "gold"))
    (config,) = manifests("ConfigMap", **spec, book={"depth": 100})
    mounted = ExchangeFeed.from_yaml(config["data"]["feed.yaml"])
    assert mounted.options(BOOK) == {"depth": 100, "snapshot_interval": 0}
