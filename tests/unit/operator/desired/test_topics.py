import re

import pytest

from k2.operator.desired.naming import FEED


def test_the_trades_topic_has_the_feeds_partitions_and_retention(manifests):
    topics = {topic["spec"]["topicName"]: topic for topic in manifests("KafkaTopic", kafka={"retention": "2h"})}
    trades = topics["market.crypto.trades.binance"]
    assert trades["apiVersion"] == "kafka.strimzi.io/v1"
    assert trades["spec"]["partitions"] == 40
    assert trades["spec"]["config"]["retention.ms"] == "7200000"
    assert "replicas" not in trades["spec"]
    assert trades["metadata"]["labels"]["strimzi.io/cluster"] == "k2"


def test_gap_events_are_retained_for_ever_on_one_partition(manifests):
    specs = {topic["spec"]["topicName"]: topic["spec"] for topic in manifests("KafkaTopic")}
    assert specs["market.crypto.gaps.binance"]["partitions"] == 1
    assert specs["market.crypto.gaps.binance"]["config"]["retention.ms"] == "-1"


def test_feeds_of_one_exchange_share_topics(manifests):
    one = manifests("KafkaTopic", name="one", kafka={"topic": "t1", "retention": "1h"})
    two = manifests("KafkaTopic", name="two", kafka={"topic": "t2", "retention": "2h"}, symbols=["SOLUSDT"])
    assert one[0] != two[0]
    assert one[1:] == two[1:]
    assert not any(FEED in topic["metadata"]["labels"] for topic in one[1:])


def test_topics_are_created_in_the_namespace_that_strimzi_watches(manifests):
    platform = {"kafka_namespace": "kafka", "kafka_topic_version": "v1beta2", "kafka_replicas": 3}
    for topic in manifests("KafkaTopic", platform=platform):
        assert topic["metadata"]["namespace"] == "kafka"
        assert topic["apiVersion"] == "kafka.strimzi.io/v1beta2"
        assert topic["spec"]["replicas"] == 3


def test_no_topic_is_created_without_a_kafka_cluster(manifests):
    assert manifests("KafkaTopic", platform={"kafka_cluster": ""}) == []


@pytest.mark.parametrize("topic", ["Trades_BTC", "a_b", "a-b", "_", "A" * 200])
def test_every_topic_has_a_valid_object_name(manifests, topic):
    manifest = manifests("KafkaTopic", kafka={"topic": topic})[0]
    assert manifest["spec"]["topicName"] == topic
    assert re.fullmatch(r"[a-z0-9]([-.a-z0-9]*[a-z0-9])?", manifest["metadata"]["name"])
    assert len(manifest["metadata"]["name"]) <= 253


def test_topics_that_differ_in_case_have_different_objects(manifests):
    names = {
        manifests("KafkaTopic", kafka={"topic": topic})[0]["metadata"]["name"] for topic in ("ab", "AB", "Ab", "a_b")
    }
    assert len(names) == 4
