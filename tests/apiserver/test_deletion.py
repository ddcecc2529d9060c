"""Deleting feeds: data that is to stay stays, data that is to go goes before the feed does, and every feed goes."""

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
DEPLOYMENT = "/apis/apps/v1/namespaces/{}/deployments/spot-ingest-0-0"
TRADES = "market.crypto.trades.binance"


@pytest.fixture
def api(whole_api: Api) -> Api:
    return whole_api


@pytest.fixture
def cluster(api: Api, namespace: str, serve: Callable[[web.Application], str]) -> Cluster:
    return Cluster(api, namespace, serve)


def there(api: Api, path: str) -> bool:
    return api.ask("GET", path)["kind"] != "Status"


def topics(api: Api, namespace: str) -> set[str]:
    items = api.ask("GET", TOPIC.format(namespace, "").rstrip("/"))["items"]
    return {item["metadata"]["name"].removeprefix("market.crypto.").partition(".")[0] for item in items}


def running(api: Api, namespace: str, **spec: Any) -> None:
    """A feed that was reconciled once."""
    create(api, namespace, feed("spot", ["BTCUSDT"], **spec))
    eventually(lambda: reconciled(api, namespace, "spot") and topics(api, namespace))


def delete(api: Api, namespace: str) -> None:
    api.ask("DELETE", api.feed(namespace, "spot"))


def gone(api: Api, namespace: str) -> bool:
    return not there(api, api.feed(namespace, "spot"))


def ends(api: Api, namespace: str, kind: str) -> None:
    """The Job controller says how the Job ended."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    before = {"Complete": "SuccessCriteriaMet", "Failed": "FailureTarget"}[kind]
    about = {"status": "True", "lastTransitionTime": now, "lastProbeTime": now, "reason": "Test", "message": "it ended"}
    said = {"startTime": now, "conditions": [{"type": before, **about}, {"type": kind, **about}]}
    if kind == "Complete":
        said |= {"completionTime": now, "succeeded": 1}
    else:
        said |= {"failed": 1}
    answer = api.ask("PATCH", f"{JOB.format(namespace)}/status", {"status": said}, MERGE)
    assert answer["kind"] == "Job", answer


def warnings(api: Api, namespace: str) -> dict[str, str]:
    items = api.ask("GET", f"/api/v1/namespaces/{namespace}/events")["items"]
    return {item["reason"]: item["message"] for item in items if item["type"] == "Warning"}


def message(api: Api, namespace: str) -> str:
    return str(status(api, namespace, "spot").get("message", ""))


def test_a_feed_that_retains_its_data_goes_at_once_and_keeps_its_topics(api: Api, namespace: str, operator: Operator):
    with operator.run():
        running(api, namespace)
        delete(api, namespace)
        eventually(lambda: gone(api, namespace), within=10)
    assert topics(api, namespace) == {"trades", "gaps", "deadletter"}
    assert "ownerReferences" not in api.ask("GET", TOPIC.format(namespace, TRADES))["metadata"]
    assert not there(api, JOB.format(namespace))


def test_data_is_purged_once_all_pods_are_gone_then_the_topics_and_then_the_feed(
    api: Api, namespace: str, operator: Operator, cluster: Cluster
):
    with operator.run():
        running(api, namespace, deletionPolicy="Delete")
        cluster.kubelet()
        delete(api, namespace)
        paths = [DEPLOYMENT.format(namespace), *(SPARK.format(namespace, f"spot-{layer}") for layer in LAYERS)]
        eventually(lambda: not any(there(api, path) for path in paths))
        eventually(lambda: "waiting for pods" in message(api, namespace))
        assert status(api, namespace, "spot")["phase"] == "Deleting"
        for name in ("ingest", *LAYERS):
            assert not there(api, JOB.format(namespace))
            api.ask("DELETE", f"/api/v1/namespaces/{namespace}/pods/{name}?gracePeriodSeconds=0")
        job = eventually(lambda: there(api, JOB.format(namespace)) and api.ask("GET", JOB.format(namespace)))
        pod = job["spec"]["template"]["spec"]
        assert "--exchange" in pod["containers"][0]["args"]
        assert there(api, f"/api/v1/namespaces/{namespace}/configmaps/{pod['volumes'][0]['configMap']['name']}")
        assert topics(api, namespace) == {"trades", "gaps", "deadletter"}
        ends(api, namespace, "Complete")
        eventually(lambda: gone(api, namespace))
    assert topics(api, namespace) == set()
    assert warnings(api, namespace).keys() & {"PurgeFailed", "PurgeUnfinished", "PurgeSkipped"} == set()


def test_a_feed_of_an_exchange_that_has_others_leaves_what_they_share(api: Api, namespace: str, operator: Operator):
    with operator.run():
        running(api, namespace, deletionPolicy="Delete")
        create(api, namespace, feed("other", ["ETHUSDT"], kafka={"topic": "theirs"}))
        eventually(lambda: reconciled(api, namespace, "other"))
        delete(api, namespace)
        job = eventually(lambda: there(api, JOB.format(namespace)) and api.ask("GET", JOB.format(namespace)))
        assert "--exchange" not in job["spec"]["template"]["spec"]["containers"][0]["args"]
        ends(api, namespace, "Complete")
        eventually(lambda: gone(api, namespace))
    assert not there(api, TOPIC.format(namespace, TRADES))
    assert topics(api, namespace) == {"theirs", "gaps", "deadletter"}


def test_a_purge_that_fails_is_told_and_the_feed_goes_at_the_deadline(api: Api, namespace: str, operator: Operator):
    with operator.run(K2_OPERATOR_DELETION_DEADLINE="15s"):
        running(api, namespace, deletionPolicy="Delete")
        delete(api, namespace)
        eventually(lambda: there(api, JOB.format(namespace)))
        ends(api, namespace, "Failed")
        eventually(lambda: "PurgeFailed" in warnings(api, namespace), within=10)
        assert not gone(api, namespace)
        eventually(lambda: gone(api, namespace), within=30)
    told = warnings(api, namespace)["PurgeUnfinished"]
    assert "python -m k2.jobs.purge" in told
    assert f"KafkaTopic {TRADES}" in told
    assert topics(api, namespace) == {"trades", "gaps", "deadletter"}


def test_an_operator_killed_in_the_middle_goes_on(api: Api, namespace: str, operator: Operator):
    with operator.run() as process:
        running(api, namespace, deletionPolicy="Delete")
        delete(api, namespace)
        eventually(lambda: there(api, JOB.format(namespace)))
        process.kill()
        process.wait(5)
    uid = api.ask("GET", JOB.format(namespace))["metadata"]["uid"]
    ends(api, namespace, "Complete")
    with operator.run():
        eventually(lambda: gone(api, namespace))
    assert api.ask("GET", JOB.format(namespace))["metadata"]["uid"] == uid
    assert topics(api, namespace) == set()


def test_a_feed_deleted_while_the_operator_was_down_is_purged_though_it_never_ran(
    api: Api, namespace: str, operator: Operator
):
    create(api, namespace, feed("spot", ["BTCUSDT"], deletionPolicy="Delete", suspend=True))
    with operator.run():
        running_once = eventually(lambda: reconciled(api, namespace, "spot"))
        assert running_once
    delete(api, namespace)
    api.ask("DELETE", f"/api/v1/namespaces/{namespace}/configmaps/spot-feed")
    with operator.run():
        eventually(lambda: there(api, JOB.format(namespace)))
        assert there(api, f"/api/v1/namespaces/{namespace}/configmaps/spot-feed")
        ends(api, namespace, "Complete")
        eventually(lambda: gone(api, namespace))


def test_a_policy_changed_to_retain_lets_a_feed_go_that_waits(
    api: Api, namespace: str, operator: Operator, cluster: Cluster
):
    with operator.run():
        running(api, namespace, deletionPolicy="Delete")
        cluster.kubelet()
        delete(api, namespace)
        eventually(lambda: "waiting for pods" in message(api, namespace))
        api.ask("PATCH", api.feed(namespace, "spot"), {"spec": {"deletionPolicy": "Retain"}}, MERGE)
        eventually(lambda: gone(api, namespace))
    assert topics(api, namespace) == {"trades", "gaps", "deadletter"}


def test_a_refused_feed_takes_nothing_of_its_rival_with_it(api: Api, namespace: str, operator: Operator):
    with operator.run():
        running(api, namespace)
        create(api, namespace, feed("rival", ["BTCUSDT"], deletionPolicy="Delete"))
        eventually(lambda: status(api, namespace, "rival").get("phase") == "Failed")
        api.ask("DELETE", api.feed(namespace, "rival"))
        eventually(lambda: not there(api, api.feed(namespace, "rival")))
        eventually(lambda: "PurgeSkipped" in warnings(api, namespace))
    assert not there(api, f"/apis/batch/v1/namespaces/{namespace}/jobs/rival-purge")
    assert topics(api, namespace) == {"trades", "gaps", "deadletter"}


def test_a_namespace_that_ends_is_not_held_up(api: Api, namespace: str, operator: Operator):
    with operator.run():
        running(api, namespace, deletionPolicy="Delete")
        api.ask("DELETE", f"/api/v1/namespaces/{namespace}")
        assert api.ask("GET", f"/api/v1/namespaces/{namespace}")["status"]["phase"] == "Terminating"
        delete(api, namespace)
        eventually(lambda: gone(api, namespace), within=20)
    assert not there(api, JOB.format(namespace))


def test_a_feed_that_is_not_deleted_bears_no_note_of_its_changes(api: Api, namespace: str, operator: Operator):
    with operator.run():
        running(api, namespace)
        api.ask("PATCH", api.feed(namespace, "spot"), {"spec": {"layers": {"gold": {"trigger": "90s"}}}}, MERGE)
        eventually(lambda: reconciled(api, namespace, "spot"))
    assert api.ask("GET", api.feed(namespace, "spot"))["metadata"].get("annotations", {}) == {}
