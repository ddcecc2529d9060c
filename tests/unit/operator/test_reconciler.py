"""Rounds of the reconciler on a cluster in memory: observe, plan, apply, report."""

import pytest

from k2.operator.desired import children
from k2.operator.observed.feed_objects import FeedObjects
from k2.operator.reconciler import Reconciler
from tests.unit.operator.fakes import FakeCluster, FakePods

DEPLOYMENT = "binance-shard-0-0"


@pytest.fixture
def cluster(body):
    fake = FakeCluster()
    fake.objects["ExchangeFeed", "binance"] = body()
    return fake


@pytest.fixture
def pods():
    return FakePods()


@pytest.fixture
def reconciler(cluster, pods, settings):
    return Reconciler(cluster, settings(), pods)


def conditions(status):
    return {condition["type"]: condition for condition in status["conditions"]}


def watched(cluster):
    """What watches report of the cluster's objects."""
    return FeedObjects(children=tuple(raw for raw in cluster.objects.values() if raw["kind"] != "ExchangeFeed"))


async def test_the_first_round_applies_all_children_and_reports_them_without_reading_again(
    reconciler, cluster, pods, body, feed, settings
):
    await reconciler.reconcile(body(), FeedObjects())
    applied = [request for request in cluster.requests if request.startswith("apply")]
    assert applied == [
        *(f"apply {manifest['kind']}/{manifest['metadata']['name']}" for manifest in children(feed(), settings())),
        "apply ExchangeFeed/binance",
    ]
    assert pods.reads == 1
    assert [request for request in cluster.requests if request.startswith("get Kafka")] == [
        f"get KafkaTopic/market.crypto.{kind}.binance"
        for kind in ("trades", "gaps", "evidence", "instruments", "deadletter")
    ]
    (status,) = cluster.statuses
    assert status["ingest"]["desired"] == 1
    assert conditions(status)["IngestReady"]["message"] == "0 of 1 pods are ready"
    assert conditions(status)["TopicReady"]["reason"] != "Creating"


async def test_a_second_round_writes_nothing_before_and_after_the_watches_report(reconciler, cluster, body):
    await reconciler.reconcile(body(), FeedObjects())
    cluster.requests.clear()
    stale = reconciler.cache.feed_objects(("market", "binance"), {"children": {}, "pods": {}, "feeds": {}})
    await reconciler.reconcile(body(), stale)
    await reconciler.reconcile(cluster.objects["ExchangeFeed", "binance"], watched(cluster))
    assert cluster.requests == []


async def test_a_rejected_request_does_not_stop_the_others_and_is_reported(reconciler, cluster, body):
    cluster.rejected = {"Deployment"}
    await reconciler.reconcile(body(), FeedObjects())
    assert f"apply Deployment/{DEPLOYMENT}" in cluster.requests
    assert ("SparkApplication", "binance-gold") in cluster.objects
    (status,) = cluster.statuses
    assert conditions(status)["IngestReady"]["reason"] == "Forbidden"
    assert ("Warning", "Forbidden") in {(kind, reason) for kind, reason, _ in cluster.events}


async def test_a_topic_that_cannot_be_read_is_not_applied_and_reported(reconciler, cluster, body):
    cluster.rejected = {"KafkaTopic"}
    await reconciler.reconcile(body(), FeedObjects())
    assert [request for request in cluster.requests if request.startswith("apply KafkaTopic")] == []
    assert conditions(cluster.statuses[0])["TopicReady"]["reason"] == "Forbidden"


async def test_objects_that_are_no_longer_desired_are_deleted(reconciler, cluster, body):
    await reconciler.reconcile(body(ingest={"redundancy": 2}), FeedObjects())
    cluster.requests.clear()
    await reconciler.reconcile(body(), watched(cluster))
    assert "delete Deployment/binance-shard-0-1" in cluster.requests


async def test_an_invalid_feed_changes_nothing_but_its_status(reconciler, cluster, body):
    await reconciler.reconcile(body(symbols=["?"]), FeedObjects())
    assert cluster.requests == ["apply ExchangeFeed/binance"]
    assert cluster.statuses[0]["phase"] == "Failed"
    assert conditions(cluster.statuses[0])["Ready"]["reason"] == "InvalidSpec"


async def test_a_conflicting_feed_is_blocked_until_the_older_one_is_gone(reconciler, cluster, body):
    older = body("older")
    older["metadata"] |= {"creationTimestamp": "2025-01-01T00:00:00Z"}
    await reconciler.reconcile(body(), FeedObjects(feeds=(older, body())))
    assert reconciler.blocked == {("market", "binance")}
    assert conditions(cluster.statuses[0])["Ready"]["reason"] == "TopicConflict"
    await reconciler.reconcile(cluster.objects["ExchangeFeed", "binance"], FeedObjects(feeds=(body(),)))
    assert reconciler.blocked == set()
    assert ("Deployment", DEPLOYMENT) in cluster.objects


async def test_feeds_that_share_an_address_are_reconciled_when_their_number_changes(reconciler, cluster, body):
    other = body("other", symbols=["SOLUSDT"], kafka={"topic": "other"})
    other["metadata"] |= {"creationTimestamp": "2026-02-01T00:00:00Z"}
    one, two = ("market", "binance"), ("market", "other")
    await reconciler.reconcile(body(), FeedObjects(feeds=(body(),)))
    assert reconciler.sharing(one) == set()
    await reconciler.reconcile(other, FeedObjects(feeds=(other, body())))
    assert reconciler.sharing(two) == {one}
    await reconciler.reconcile(body(), FeedObjects(feeds=(other, body())))
    assert reconciler.sharing(one) == reconciler.sharing(two) == set()
    assert reconciler.forget(two) == {one}
    assert reconciler.forget(two) == set()


async def test_the_config_map_says_how_many_processes_share_the_address(reconciler, cluster, body):
    other = body("other", symbols=["SOLUSDT"], kafka={"topic": "other"}, ingest={"redundancy": 2})
    other["metadata"] |= {"creationTimestamp": "2026-02-01T00:00:00Z"}
    await reconciler.reconcile(body(), FeedObjects(feeds=(other, body())))
    assert cluster.objects["ConfigMap", "binance-feed"]["data"]["egress.json"] == '{"processes":3}'
    cluster.requests.clear()
    await reconciler.reconcile(body(), FeedObjects(feeds=(body(),), children=watched(cluster).children))
    assert [
        request for request in cluster.requests if request.startswith("apply") and "ExchangeFeed" not in request
    ] == ["apply ConfigMap/binance-feed"]
    assert cluster.objects["ConfigMap", "binance-feed"]["data"]["egress.json"] == '{"processes":1}'


def secret(name, version, **data):
    return {"kind": "Secret", "metadata": {"name": name, "resourceVersion": version}, "data": data}


async def test_a_changed_secret_restarts_the_layers_that_use_it_and_nothing_else(cluster, pods, settings, body):
    cluster.objects["Secret", "k2-catalog"] = secret("k2-catalog", "1", password="b25l")
    await Reconciler(cluster, settings(), pods).reconcile(body(), FeedObjects())
    cluster.requests.clear()
    cluster.objects["Secret", "k2-catalog"] = secret("k2-catalog", "2", password="b25l")
    await Reconciler(cluster, settings(), pods).reconcile(body(), watched(cluster))
    assert [request for request in cluster.requests if request.startswith("apply")] == ["apply ExchangeFeed/binance"]
    cluster.requests.clear()
    cluster.objects["Secret", "k2-catalog"] = secret("k2-catalog", "3", password="dHdv")
    await Reconciler(cluster, settings(), pods).reconcile(body(), watched(cluster))
    assert [request for request in cluster.requests if request.startswith("apply") and "Feed" not in request] == [
        f"apply SparkApplication/binance-{layer}" for layer in ("bronze", "silver", "gold")
    ]


async def test_secrets_are_read_once_for_all_rounds_of_a_while(cluster, reconciler, body):
    cluster.objects["Secret", "k2-s3"] = secret("k2-s3", "1")
    await reconciler.reconcile(body(), FeedObjects())
    await reconciler.reconcile(body(), watched(cluster))
    assert cluster.requests.count("get Secret/k2-s3") == 1


async def test_a_secret_that_is_gone_or_forbidden_restarts_nothing(cluster, pods, settings, body):
    cluster.objects["Secret", "k2-s3"] = secret("k2-s3", "1", key="eA==")
    await Reconciler(cluster, settings(), pods).reconcile(body(), FeedObjects())
    del cluster.objects["Secret", "k2-s3"]
    for rejected in (set(), {"Secret"}):
        cluster.rejected = rejected
        cluster.requests.clear()
        await Reconciler(cluster, settings(), pods).reconcile(body(), watched(cluster))
        assert [name for name in cluster.requests if name.startswith("apply") and "Feed" not in name] == []
