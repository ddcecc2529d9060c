"""Deletion of feeds: data is retained or purged before the feed is released, and every feed is released."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web

from tests.apiserver.support.servers import Api, Operator, eventually
from tests.apiserver.test_layers import LAYERS, MERGE, SPARK, TOPIC, Cluster
from tests.apiserver.test_operator import create, feed, reconciled, status

pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(180)]

JOB = "/apis/batch/v1/namespaces/{}/jobs/spot-purge"
DEPLOYMENT = "/apis/apps/v1/namespaces/{}/deployments/spot-shard-0-0"
TRADES = "market.crypto.trades.binance"

# The kinds of topics that the feeds of an exchange share.
SHARED = ("gaps", "evidence", "instruments", "deadletter")


@pytest.fixture
def api(whole_api: Api) -> Api:
    return whole_api


@pytest.fixture
def cluster(api: Api, namespace: str, serve: Callable[[web.Application], str]) -> Cluster:
    return Cluster(api, namespace, serve)


def exists(api: Api, path: str) -> bool:
    return api.request("GET", path)["kind"] != "Status"


def topics(api: Api, namespace: str) -> set[str]:
    items = api.request("GET", TOPIC.format(namespace, "").rstrip("/"))["items"]
    return {item["metadata"]["name"].removeprefix("market.crypto.").partition(".")[0] for item in items}


def running(api: Api, namespace: str, **spec: Any) -> None:
    """Create a feed and wait until it is reconciled."""
    create(api, namespace, feed("spot", ["BTCUSDT"], **spec))
    eventually(lambda: reconciled(api, namespace, "spot") and topics(api, namespace))


def delete(api: Api, namespace: str) -> None:
    api.request("DELETE", api.feed(namespace, "spot"))


def is_gone(api: Api, namespace: str) -> bool:
    return not exists(api, api.feed(namespace, "spot"))


def finish_job(api: Api, namespace: str, kind: str) -> None:
    """Set the Job's final status, as the Job controller does."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    before = {"Complete": "SuccessCriteriaMet", "Failed": "FailureTarget"}[kind]
    about = {"status": "True", "lastTransitionTime": now, "lastProbeTime": now, "reason": "Test", "message": "it ended"}
    new_status = {"startTime": now, "conditions": [{"type": before, **about}, {"type": kind, **about}]}
    if kind == "Complete":
        new_status |= {"completionTime": now, "succeeded": 1}
    else:
        new_status |= {"failed": 1}
    answer = api.request("PATCH", f"{JOB.format(namespace)}/status", {"status": new_status}, MERGE)
    assert answer["kind"] == "Job", answer


def warnings(api: Api, namespace: str) -> dict[str, str]:
    items = api.request("GET", f"/api/v1/namespaces/{namespace}/events")["items"]
    return {item["reason"]: item["message"] for item in items if item["type"] == "Warning"}


def message(api: Api, namespace: str) -> str:
    return str(status(api, namespace, "spot").get("message", ""))


def test_a_feed_that_retains_its_data_is_released_at_once_and_keeps_its_topics(
    api: Api, namespace: str, operator: Operator
):
    with operator.run():
        running(api, namespace)
        delete(api, namespace)
        eventually(lambda: is_gone(api, namespace), within=10)
    assert topics(api, namespace) == {"trades", *SHARED}
    assert "ownerReferences" not in api.request("GET", TOPIC.format(namespace, TRADES))["metadata"]
    assert not exists(api, JOB.format(namespace))


def test_data_is_purged_once_all_pods_are_gone_then_the_topics_and_then_the_feed(
    api: Api, namespace: str, operator: Operator, cluster: Cluster
):
    with operator.run():
        running(api, namespace, deletionPolicy="Delete")
        cluster.kubelet()
        delete(api, namespace)
        paths = [DEPLOYMENT.format(namespace), *(SPARK.format(namespace, f"spot-{layer}") for layer in LAYERS)]
        eventually(lambda: not any(exists(api, path) for path in paths))
        eventually(lambda: "waiting for pods" in message(api, namespace))
        assert status(api, namespace, "spot")["phase"] == "Deleting"
        for name in ("ingest", *LAYERS):
            assert not exists(api, JOB.format(namespace))
            api.request("DELETE", f"/api/v1/namespaces/{namespace}/pods/{name}?gracePeriodSeconds=0")
        job = eventually(lambda: exists(api, JOB.format(namespace)) and api.request("GET", JOB.format(namespace)))
        pod = job["spec"]["template"]["spec"]
        assert "--exchange" in pod["containers"][0]["args"]
        assert exists(api, f"/api/v1/namespaces/{namespace}/configmaps/{pod['volumes'][0]['configMap']['name']}")
        assert topics(api, namespace) == {"trades", *SHARED}
        finish_job(api, namespace, "Complete")
        eventually(lambda: is_gone(api, namespace))
    assert topics(api, namespace) == set()
    assert warnings(api, namespace).keys() & {"PurgeFailed", "PurgeIncomplete", "PurgeSkipped"} == set()


def test_a_feed_that_is_not_the_last_of_its_exchange_keeps_shared_topics(api: Api, namespace: str, operator: Operator):
    with operator.run():
        running(api, namespace, deletionPolicy="Delete")
        create(api, namespace, feed("other", ["ETHUSDT"], kafka={"topic": "theirs"}))
        eventually(lambda: reconciled(api, namespace, "other"))
        delete(api, namespace)
        job = eventually(lambda: exists(api, JOB.format(namespace)) and api.request("GET", JOB.format(namespace)))
        assert "--exchange" not in job["spec"]["template"]["spec"]["containers"][0]["args"]
        finish_job(api, namespace, "Complete")
        eventually(lambda: is_gone(api, namespace))
    assert not exists(api, TOPIC.format(namespace, TRADES))
    assert topics(api, namespace) == {"theirs", *SHARED}


def test_a_failed_purge_is_reported_and_the_feed_is_released_at_the_deadline(
    api: Api, namespace: str, operator: Operator
):
    with operator.run(K2_OPERATOR_DELETION_DEADLINE="15s"):
        running(api, namespace, deletionPolicy="Delete")
        delete(api, namespace)
        eventually(lambda: exists(api, JOB.format(namespace)))
        finish_job(api, namespace, "Failed")
        eventually(lambda: "PurgeFailed" in warnings(api, namespace), within=10)
        assert not is_gone(api, namespace)
        eventually(lambda: is_gone(api, namespace), within=30)
    warning = warnings(api, namespace)["PurgeIncomplete"]
    assert "python -m k2.jobs.purge" in warning
    assert f"KafkaTopic {TRADES}" in warning
    assert topics(api, namespace) == {"trades", *SHARED}


def test_an_operator_killed_during_a_purge_resumes_it(api: Api, namespace: str, operator: Operator):
    with operator.run() as process:
        running(api, namespace, deletionPolicy="Delete")
        delete(api, namespace)
        eventually(lambda: exists(api, JOB.format(namespace)))
        process.kill()
        process.wait(5)
    uid = api.request("GET", JOB.format(namespace))["metadata"]["uid"]
    finish_job(api, namespace, "Complete")
    with operator.run():
        eventually(lambda: is_gone(api, namespace))
    assert api.request("GET", JOB.format(namespace))["metadata"]["uid"] == uid
    assert topics(api, namespace) == set()


def test_a_feed_deleted_while_the_operator_was_down_is_purged_though_it_never_ran(
    api: Api, namespace: str, operator: Operator
):
    create(api, namespace, feed("spot", ["BTCUSDT"], deletionPolicy="Delete", suspend=True))
    with operator.run():
        running_once = eventually(lambda: reconciled(api, namespace, "spot"))
        assert running_once
    delete(api, namespace)
    api.request("DELETE", f"/api/v1/namespaces/{namespace}/configmaps/spot-feed")
    with operator.run():
        eventually(lambda: exists(api, JOB.format(namespace)))
        assert exists(api, f"/api/v1/namespaces/{namespace}/configmaps/spot-feed")
        finish_job(api, namespace, "Complete")
        eventually(lambda: is_gone(api, namespace))


def test_changing_the_policy_to_retain_releases_a_waiting_feed(
    api: Api, namespace: str, operator: Operator, cluster: Cluster
):
    with operator.run():
        running(api, namespace, deletionPolicy="Delete")
        cluster.kubelet()
        delete(api, namespace)
        eventually(lambda: "waiting for pods" in message(api, namespace))
        api.request("PATCH", api.feed(namespace, "spot"), {"spec": {"deletionPolicy": "Retain"}}, MERGE)
        eventually(lambda: is_gone(api, namespace))
    assert topics(api, namespace) == {"trades", *SHARED}


def test_deleting_a_conflicting_feed_deletes_nothing_of_the_other(api: Api, namespace: str, operator: Operator):
    with operator.run():
        running(api, namespace)
        create(api, namespace, feed("rival", ["BTCUSDT"], deletionPolicy="Delete"))
        eventually(lambda: status(api, namespace, "rival").get("phase") == "Failed")
        api.request("DELETE", api.feed(namespace, "rival"))
        eventually(lambda: not exists(api, api.feed(namespace, "rival")))
        eventually(lambda: "PurgeSkipped" in warnings(api, namespace))
    assert not exists(api, f"/apis/batch/v1/namespaces/{namespace}/jobs/rival-purge")
    assert topics(api, namespace) == {"trades", *SHARED}


def test_a_terminating_namespace_is_not_blocked(api: Api, namespace: str, operator: Operator):
    with operator.run():
        running(api, namespace, deletionPolicy="Delete")
        api.request("DELETE", f"/api/v1/namespaces/{namespace}")
        assert api.request("GET", f"/api/v1/namespaces/{namespace}")["status"]["phase"] == "Terminating"
        delete(api, namespace)
        eventually(lambda: is_gone(api, namespace), within=20)
    assert not exists(api, JOB.format(namespace))


def test_a_feed_that_is_not_deleted_has_no_kopf_annotations(api: Api, namespace: str, operator: Operator):
    with operator.run():
        running(api, namespace)
        api.request("PATCH", api.feed(namespace, "spot"), {"spec": {"layers": {"gold": {"trigger": "90s"}}}}, MERGE)
        eventually(lambda: reconciled(api, namespace, "spot"))
    assert api.request("GET", api.feed(namespace, "spot"))["metadata"].get("annotations", {}) == {}
