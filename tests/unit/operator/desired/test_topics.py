import re

import pytest

from k2.operator.desired.naming import FEED


def test_the_trades_topic_has_the_feeds_partitions_and_retention(made):
    topics = {topic["spec"]["topicName"]: topic for topic in made("KafkaTopic", kafka={"retention": "2h"})}
    trades = topics["market.crypto.trades.binance"]
    assert trades["apiVersion"] == "kafka.strimzi.io/v1"
    assert trades["spec"]["partitions"] == 40
    assert trades["spec"]["config"]["retention.ms"] == "7200000"
    assert "replicas" not in trades["spec"]
    assert trades["metadata"]["labels"]["strimzi.io/cluster"] == "k2"


def test_gap_events_stay_for_ever_on_one_partition(made):
    specs = {topic["spec"]["topicName"]: topic["spec"] for topic in made("KafkaTopic")}
    assert specs["market.crypto.gaps.binance"]["partitions"] == 1
    assert specs["market.crypto.gaps.binance"]["config"]["retention.ms"] == "-1"


def test_feeds_of_one_exchange_ask_for_the_same_shared_topics(made):
    one = made("KafkaTopic", name="one", kafka={"topic": "t1", "retention": "1h"})
    two = made("KafkaTopic", name="two", kafka={"topic": "t2", "retention": "2h"}, symbols=["SOLUSDT"])
    assert one[0] != two[0]
    assert one[1:] == two[1:]
    assert not any(FEED in topic["metadata"]["labels"] for topic in one[1:])


def test_topics_are_made_where_strimzi_looks(made):
    platform = {"kafka_namespace": "kafka", "kafka_topic_version": "v1beta2", "kafka_replicas": 3}
    for topic in made("KafkaTopic", platform=platform):
        assert topic["metadata"]["namespace"] == "kafka"
        assert topic["apiVersion"] == "kafka.strimzi.io/v1beta2"
        assert topic["spec"]["replicas"] == 3


def test_no_topic_is_made_where_no_kafka_is_named(made):
    assert made("KafkaTopic", platform={"kafka_cluster": ""}) == []


@pytest.mark.parametrize("topic", ["Trades_BTC", "a_b", "a-b", "_", "A" * 200])
def test_any_topic_has_an_object_name_that_kubernetes_takes(made, topic):
    manifest = made("KafkaTopic", kafka={"topic": topic})[0]
    assert manifest["spec"]["topicName"] == topic
    assert re.fullmatch(r"[a-z0-9]([-.a-z0-9]*[a-z0-9])?", manifest["metadata"]["name"])
    assert len(manifest["metadata"]["name"]) <= 253


def test_topics_that_differ_in_case_have_different_objects(made):
    names = {made("KafkaTopic", kafka={"topic": topic})[0]["metadata"]["name"] for topic in ("ab", "AB", "Ab", "a_b")}
    assert len(names) == 4
