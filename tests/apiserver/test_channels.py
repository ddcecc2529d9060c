"""Channels that are added to a feed and removed from it: only what they touch changes."""

from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web

from tests.apiserver.support.servers import Api, Operator, eventually
from tests.apiserver.test_deletion import JOB, delete, finish_job, is_gone, topics
from tests.apiserver.test_layers import LAYERS, MERGE, SPARK, Cluster
from tests.apiserver.test_operator import create, feed, reconciled, status
from tests.apiserver.test_upgrade import live_objects, versions

pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(180)]

TRADES, QUOTES = "spot-shard-0-0", "spot-quotes-0-0"
BOTH = ["trades", "quotes"]
APPLICATIONS = {f"SparkApplication/spot-{layer}" for layer in LAYERS}
SHARED = {"gaps", "evidence", "instruments", "deadletter"}


@pytest.fixture
def api(whole_api: Api) -> Api:
    return whole_api


@pytest.fixture
def cluster(api: Api, namespace: str, serve: Callable[[web.Application], str]) -> Cluster:
    return Cluster(api, namespace, serve)


def record(api: Api, namespace: str, *channels: str) -> None:
    """Have the feed record these channels, and wait for a round of the operator."""
    changed = api.request("PATCH", api.feed(namespace, "spot"), {"spec": {"channels": list(channels)}}, MERGE)
    assert changed["kind"] == "ExchangeFeed", changed
    eventually(lambda: reconciled(api, namespace, "spot"))


def deployments(api: Api, namespace: str) -> dict[str, dict[str, Any]]:
    items = api.request("GET", f"/apis/apps/v1/namespaces/{namespace}/deployments")["items"]
    return {item["metadata"]["name"]: item for item in items}


def up(api: Api, namespace: str, cluster: Cluster, name: str) -> None:
    """Set a Deployment as rolled out, and run its pod."""
    live = deployments(api, namespace)[name]
    new_status = {"observedGeneration": live["metadata"]["generation"], "replicas": 1, "readyReplicas": 1}
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}/status"
    api.request("PATCH", path, {"status": new_status}, MERGE)
    cluster.pod(f"{name}-6d4cf56db6-bbbbb", live["spec"]["template"]["metadata"]["labels"])


def message(api: Api, namespace: str, condition: str) -> str:
    listed = status(api, namespace, "spot").get("conditions", ())
    return next((each["message"] for each in listed if each["type"] == condition), "")


def test_a_channel_comes_and_goes_and_the_trades_pods_stay(
    api: Api, namespace: str, operator: Operator, cluster: Cluster
):
    with cluster.ready(operator, K2_OPERATOR_RESYNC="2"):
        before = live_objects(api, namespace)
        record(api, namespace, *BOTH)
        eventually(lambda: all(cluster.application(layer)["spec"]["suspend"] for layer in LAYERS))
        both = live_objects(api, namespace)
        assert both.keys() - before.keys() == {("Deployment", QUOTES), ("KafkaTopic", "market.crypto.quotes.binance")}
        touched = {name for name, version in versions(before).items() if versions(both)[name] != version}
        assert touched == {"ConfigMap/spot-feed", *APPLICATIONS}
        assert message(api, namespace, "IngestReady").startswith("quotes: ")
        assert "KafkaTopic market.crypto.quotes.binance" in message(api, namespace, "TopicReady")

        up(api, namespace, cluster, QUOTES)
        eventually(lambda: status(api, namespace, "spot")["channels"]["quotes"]["connected"] == 1)
        figures = status(api, namespace, "spot")
        assert figures["channels"]["trades"]["messagesPerSecond"] == 12
        assert figures["ingest"]["messagesPerSecond"] == 25  # 12.4 of each channel
        assert message(api, namespace, "IngestReady") == "trades: 1 of 1 connected; quotes: 1 of 1 connected"

        record(api, namespace, "trades")
        eventually(lambda: deployments(api, namespace).keys() == {TRADES})
        assert "quotes" not in message(api, namespace, "IngestReady")
        left = live_objects(api, namespace)
        assert before.keys() | {("KafkaTopic", "market.crypto.quotes.binance")} == left.keys()
        record(api, namespace, *BOTH)
        eventually(lambda: deployments(api, namespace).keys() == {TRADES, QUOTES})
        again = live_objects(api, namespace)
    for key in (("Deployment", TRADES), *(key for key in both if key[0] == "KafkaTopic")):
        assert again[key]["metadata"]["uid"] == both[key]["metadata"]["uid"], key
    key = ("Deployment", TRADES)
    assert again[key]["metadata"]["resourceVersion"] == before[key]["metadata"]["resourceVersion"]


def test_the_data_of_a_channel_that_was_removed_is_deleted_with_the_feed(api: Api, namespace: str, operator: Operator):
    with operator.run():
        create(api, namespace, feed("spot", ["BTCUSDT"], channels=BOTH, deletionPolicy="Delete"))
        eventually(lambda: reconciled(api, namespace, "spot") and topics(api, namespace))
        record(api, namespace, "quotes")
        eventually(lambda: deployments(api, namespace).keys() == {QUOTES})
        assert topics(api, namespace) == {*BOTH, *SHARED}
        delete(api, namespace)
        paths = [SPARK.format(namespace, f"spot-{layer}") for layer in LAYERS]
        eventually(lambda: api.request("GET", JOB.format(namespace))["kind"] == "Job")
        assert not deployments(api, namespace)
        assert all(api.request("GET", path)["kind"] == "Status" for path in paths)
        finish_job(api, namespace, "Complete")
        eventually(lambda: is_gone(api, namespace))
    assert topics(api, namespace) == set()


def test_a_topic_of_a_channel_belongs_to_the_older_feed_whether_it_records_it_or_not(
    api: Api, namespace: str, operator: Operator
):
    with operator.run():
        create(api, namespace, feed("spot", ["BTCUSDT"], kafka={"topic": "mine"}))
        eventually(lambda: reconciled(api, namespace, "spot"))
        create(api, namespace, feed("other", ["ETHUSDT"], kafka={"topic": "mine.quotes"}))
        eventually(lambda: reconciled(api, namespace, "other"))
        assert status(api, namespace, "other")["phase"] == "Failed"
        assert status(api, namespace, "other")["message"].startswith(f"topic mine.quotes belongs to {namespace}/spot")
