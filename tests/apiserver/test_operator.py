"""The operator process on a real API server: what it creates, leaves unchanged and repairs."""

import time
from typing import Any

import pytest

from tests.apiserver.support.servers import Api, Operator, eventually
from tests.otlp_receiver import attributes, receiver

pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(180)]

KINDS = {
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "Service": "/api/v1/namespaces/{}/services",
    "ConfigMap": "/api/v1/namespaces/{}/configmaps",
    "NetworkPolicy": "/apis/networking.k8s.io/v1/namespaces/{}/networkpolicies",
    "PodDisruptionBudget": "/apis/policy/v1/namespaces/{}/poddisruptionbudgets",
}


def feed(name: str, symbols: list[str], exchange: str = "binance", **spec: Any) -> dict[str, Any]:
    """Build an ExchangeFeed."""
    return {
        "apiVersion": "k2.marketdata.io/v1alpha1",
        "kind": "ExchangeFeed",
        "metadata": {"name": name},
        "spec": {"exchange": exchange, "symbols": symbols, **spec},
    }


def create(api: Api, namespace: str, body: dict[str, Any]) -> None:
    """Create a feed."""
    path = api.feed(namespace, "").rstrip("/")
    created = api.request("POST", path, body)
    assert created["kind"] == "ExchangeFeed", created


def children(api: Api, namespace: str, name: str) -> dict[tuple[str, str], dict[str, Any]]:
    """Return all objects with a feed's label."""
    objects = {}
    for kind, path in KINDS.items():
        answer = api.request("GET", f"{path.format(namespace)}?labelSelector=k2.marketdata.io/feed%3D{name}")
        objects |= {(kind, item["metadata"]["name"]): item for item in answer["items"]}
    return objects


def versions(objects: dict[tuple[str, str], dict[str, Any]]) -> dict[tuple[str, str], str]:
    """Return resource versions, which change with every write."""
    return {key: item["metadata"]["resourceVersion"] for key, item in objects.items()}


def status(api: Api, namespace: str, name: str) -> dict[str, Any]:
    """Return a feed's status."""
    current: dict[str, Any] = api.request("GET", api.feed(namespace, name)).get("status", {})
    return current


def reconciled(api: Api, namespace: str, name: str) -> bool:
    """Return whether the status is of the newest generation."""
    body = api.request("GET", api.feed(namespace, name))
    return body.get("status", {}).get("observedGeneration") == body["metadata"]["generation"]


def test_a_feed_becomes_its_children_and_a_status(api: Api, namespace: str, operator: Operator):
    create(api, namespace, feed("spot", ["BTCUSDT", "ETHUSDT", "SOLUSDT", "ADAUSDT"], ingest={"shards": 2}))
    with operator.run():
        eventually(lambda: reconciled(api, namespace, "spot"))
        objects = children(api, namespace, "spot")
    names = {kind: sorted(name for other, name in objects if other == kind) for kind in KINDS}
    assert names["Deployment"] == ["spot-shard-0-0", "spot-shard-1-0"]
    assert names["ConfigMap"] == ["spot-feed"]
    assert all(names.values())
    uid = api.request("GET", api.feed(namespace, "spot"))["metadata"]["uid"]
    assert {owner["uid"] for item in objects.values() for owner in item["metadata"]["ownerReferences"]} == {uid}
    conditions = {about["type"]: about for about in status(api, namespace, "spot")["conditions"]}
    assert conditions["BronzeReady"]["reason"] == "SparkOperatorMissing"
    assert conditions["TopicReady"]["reason"] == "StrimziMissing"
    assert status(api, namespace, "spot")["phase"] == "Degraded"


def settled(operator: Operator) -> None:
    """Wait until the operator writes nothing more, after the events of its own writes."""
    previous: list[str] = []

    def is_quiet() -> bool:
        before, previous[:] = list(previous), operator.writes()
        time.sleep(1)
        return before == previous

    eventually(is_quiet)


def test_a_restart_of_the_operator_writes_nothing(api: Api, namespace: str, operator: Operator):
    create(api, namespace, feed("spot", ["BTCUSDT"]))
    with operator.run():
        eventually(lambda: reconciled(api, namespace, "spot"))
        settled(operator)
    before = versions(children(api, namespace, "spot"))
    with receiver() as traces, operator.run(**traces.environment):
        eventually(lambda: operator.rounds("spot"))
        eventually(lambda: traces.named("reconcile"))
        service, span = traces.named("reconcile")[0]
        assert (service, attributes(span)["k2.feed"]) == ("k2-operator", "spot")
        assert versions(children(api, namespace, "spot")) == before
        # Kinds without a CRD are rejected by the API server and retried each round.
        assert [
            write
            for write in operator.writes()
            if "kafkatopics" not in write and "spark" not in write and "monitors" not in write
        ] == []


def test_deleted_children_are_recreated_and_edited_ones_restored(api: Api, namespace: str, operator: Operator):
    create(api, namespace, feed("spot", ["BTCUSDT"]))
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/spot-shard-0-0"
    with operator.run():
        eventually(lambda: reconciled(api, namespace, "spot"))
        api.request("DELETE", f"/api/v1/namespaces/{namespace}/configmaps/spot-feed")
        eventually(lambda: ("ConfigMap", "spot-feed") in children(api, namespace, "spot"), within=10)
        edit = {"metadata": {"annotations": {"theirs": "kept"}}, "spec": {"replicas": 3}}
        api.request("PATCH", path, edit, "application/merge-patch+json")
        eventually(lambda: api.request("GET", path)["spec"]["replicas"] == 1, within=10)
        assert api.request("GET", path)["metadata"]["annotations"]["theirs"] == "kept"


def test_a_symbol_added_to_one_feed_of_fifty_changes_that_feeds_file_only(api: Api, namespace: str, operator: Operator):
    names = [f"feed-{number}" for number in range(50)]
    for number, name in enumerate(names):
        base = f"{chr(65 + number // 26)}{chr(65 + number % 26)}A"
        create(api, namespace, feed(name, [f"{base}USDT"], kafka={"topic": f"trades.{number}"}))
    with operator.run():
        for name in names:
            eventually(lambda name=name: reconciled(api, namespace, name), within=60)
        settled(operator)
        before = {name: versions(children(api, namespace, name)) for name in names}
        edit = {"spec": {"symbols": ["AAAUSDT", "ZZZUSDT"]}}
        api.request("PATCH", api.feed(namespace, names[0]), edit, "application/merge-patch+json")
        eventually(lambda: reconciled(api, namespace, names[0]))
        settled(operator)
        after = {name: versions(children(api, namespace, name)) for name in names}
    changed = {key for key, version in after[names[0]].items() if version != before[names[0]][key]}
    assert changed == {("ConfigMap", "feed-0-feed")}  # pods follow their file
    assert {name: after[name] for name in names[1:]} == {name: before[name] for name in names[1:]}


def test_a_feed_more_changes_the_file_of_those_that_share_its_address_and_restarts_no_pod(
    api: Api, namespace: str, operator: Operator
):
    def sharers(name: str) -> str:
        path = f"/api/v1/namespaces/{namespace}/configmaps/{name}-feed"
        return str(api.request("GET", path).get("data", {}).get("egress.json"))

    create(api, namespace, feed("one", ["BTCUSDT"]))
    create(api, namespace, feed("other", ["BTCUSDT"], exchange="bybit", kafka={"topic": "other"}))
    with operator.run():
        eventually(lambda: sharers("one") == sharers("other") == '{"processes":1}', within=60)
        settled(operator)
        before = versions(children(api, namespace, "one"))
        create(api, namespace, feed("two", ["ETHUSDT"], kafka={"topic": "two"}, ingest={"redundancy": 2}))
        eventually(lambda: sharers("one") == sharers("two") == '{"processes":3}', within=20)
        assert sharers("other") == '{"processes":1}'
        settled(operator)
        after = versions(children(api, namespace, "one"))
        assert {key for key in after if after[key] != before[key]} == {("ConfigMap", "one-feed")}
        api.request("DELETE", api.feed(namespace, "two"))
        eventually(lambda: sharers("one") == '{"processes":1}', within=20)


def test_of_two_feeds_that_claim_one_topic_the_younger_waits_and_then_runs(
    api: Api, namespace: str, operator: Operator
):
    create(api, namespace, feed("older", ["BTCUSDT"]))
    time.sleep(1.1)  # creation times are whole seconds
    create(api, namespace, feed("younger", ["ETHUSDT"]))
    with operator.run():
        for name in ("older", "younger"):
            eventually(lambda name=name: reconciled(api, namespace, name))
        refused = status(api, namespace, "younger")
        assert refused["phase"] == "Failed"
        assert refused["conditions"][0]["reason"] == "TopicConflict"
        assert not children(api, namespace, "younger")
        api.request("DELETE", api.feed(namespace, "older"))
        eventually(lambda: children(api, namespace, "younger"), within=20)


def test_a_deleted_feed_is_released(api: Api, namespace: str, operator: Operator):
    create(api, namespace, feed("spot", ["BTCUSDT"]))
    with operator.run():
        eventually(lambda: reconciled(api, namespace, "spot"))
        api.request("DELETE", api.feed(namespace, "spot"))
        eventually(lambda: api.request("GET", api.feed(namespace, "spot"))["kind"] == "Status", within=20)
