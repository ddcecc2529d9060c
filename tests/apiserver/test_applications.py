"""Drivers when the Spark operator is missing, inactive or stuck, when they flap, and when their pods cannot start."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.apiserver.support import crds
from tests.apiserver.support.servers import Api, Operator, eventually, server
from tests.apiserver.test_layers import LAYERS, MERGE, SPARK, Cluster, api, cluster, now
from tests.apiserver.test_manual_edits import condition
from tests.apiserver.test_operator import KINDS, create, feed, reconciled, status

__all__ = ["api", "cluster"]

pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(240)]

DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


@pytest.fixture
def growing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Api, dict[str, Any]]]:
    """An API server without the SparkApplication CRD, and that CRD."""
    if why := crds.missing():
        pytest.skip(why)
    folder = tmp_path_factory.mktemp("growing-apiserver")
    spark_crd = next(
        definition for definition in crds.published(folder) if definition["spec"]["names"]["kind"] == "SparkApplication"
    )
    with server(folder) as running:
        yield running, spark_crd


def reason(api: Api, namespace: str, name: str, kind: str) -> str:
    """Return the reason of a condition."""
    return str(condition(api, namespace, name, kind).get("reason", ""))


def events(api: Api, namespace: str, reason: str) -> list[str]:
    """Return the messages of Events with a reason."""
    items = api.request("GET", f"/api/v1/namespaces/{namespace}/events")["items"]
    return [event["message"] for event in items if event["reason"] == reason]


def test_without_the_spark_operator_ingest_runs_and_layers_follow_once_it_is_installed(
    growing: tuple[Api, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
):
    api, definition = growing
    api.request("POST", "/api/v1/namespaces", {"metadata": {"name": "feeds"}})
    create(api, "feeds", feed("spot", ["BTCUSDT"]))
    create(api, "feeds", feed("other", ["BTC/USD"], "kraken"))
    operator = Operator(tmp_path_factory.mktemp("operator"), api, "feeds")
    with operator.run(K2_OPERATOR_RESYNC="10", K2_OPERATOR_KAFKA_CLUSTER="") as process:
        for name in ("spot", "other"):
            eventually(lambda name=name: reason(api, "feeds", name, "GoldReady") == "SparkOperatorMissing")
            assert "install the Spark operator" in status(api, "feeds", name)["message"]
            assert status(api, "feeds", name)["phase"] == "Degraded"
            path = f"{KINDS['Deployment'].format('feeds')}/{name}-shard-0-0/status"
            new_status = {"observedGeneration": 1, "replicas": 1, "readyReplicas": 1}
            assert api.request("PATCH", path, {"status": new_status}, MERGE)["kind"] == "Deployment"
            eventually(lambda name=name: reason(api, "feeds", name, "IngestReady") == "Ready", within=5)
        assert api.request("POST", DEFINITIONS, definition)["kind"] == "CustomResourceDefinition"
        for name in ("spot", "other"):
            eventually(lambda name=name: reason(api, "feeds", name, "GoldReady") == "Waiting", within=20)
            eventually(lambda name=name: status(api, "feeds", name)["phase"] == "Progressing", within=5)
        # Their changes cause events from now on; the operator does not wait for the next resync.
        rounds = operator.rounds("spot")
        eventually(lambda: operator.rounds("spot") > rounds, within=15)
        path = SPARK.format("feeds", "spot-gold") + "/status"
        new_status = {"applicationState": {"state": "SUBMITTED"}, "lastSubmissionAttemptTime": now(), "driverInfo": {}}
        assert api.request("PATCH", path, {"status": new_status}, MERGE)["kind"] == "SparkApplication"
        eventually(lambda: reason(api, "feeds", "spot", "GoldReady") == "Starting", within=9)
        assert process.poll() is None


@pytest.mark.slow
def test_objects_that_no_operator_reconciles_are_reported_after_two_minutes_until_one_does(
    api: Api, namespace: str, operator: Operator, cluster: Cluster
):
    create(api, namespace, feed("spot", ["BTCUSDT"]))
    started = time.monotonic()
    with operator.run(K2_OPERATOR_RESYNC="10"):
        eventually(lambda: reason(api, namespace, "spot", "GoldReady") == "Waiting")
        eventually(lambda: reason(api, namespace, "spot", "GoldReady") == "NotReconciled", within=150)
        assert time.monotonic() - started > 115  # creation times are whole seconds
        eventually(lambda: reason(api, namespace, "spot", "TopicReady") == "NotReconciled", within=12)
        assert "spark.jobNamespaces" in condition(api, namespace, "spot", "GoldReady")["message"]
        assert status(api, namespace, "spot")["phase"] == "Degraded"
        cluster.run()
        eventually(lambda: status(api, namespace, "spot")["phase"] == "Running")


def test_an_application_stuck_in_pending_rerun_is_recreated_once_and_then_reported(
    api: Api, namespace: str, operator: Operator, cluster: Cluster
):
    limits = {"K2_OPERATOR_RERUN_STUCK_AFTER": "3s", "K2_OPERATOR_RERUN_COOL_DOWN": "1h", "K2_OPERATOR_RESYNC": "1"}
    with cluster.ready(operator, **limits):
        hash_ = cluster.application("gold")["metadata"]["annotations"]["k2.marketdata.io/spec-hash"]
        eventually(lambda: cluster.rollout_state("gold").get("stable") == hash_)
        before = {layer: cluster.application(layer)["metadata"]["uid"] for layer in LAYERS}
        cluster.spark("gold", "PENDING_RERUN")
        time.sleep(2)
        assert cluster.application("gold")["metadata"]["uid"] == before["gold"]
        eventually(lambda: cluster.application("gold").get("metadata", {}).get("uid", before["gold"]) != before["gold"])
        recreated = cluster.application("gold")["metadata"]["uid"]
        assert cluster.rollout_state("gold")["stable"] == hash_  # so that a later change can still be rolled back
        eventually(lambda: events(api, namespace, "Recreated"), within=5)
        cluster.spark("gold", "PENDING_RERUN")
        eventually(lambda: reason(api, namespace, "spot", "GoldReady") == "PendingRerunStuck", within=15)
        rounds = operator.rounds("spot")
        eventually(lambda: operator.rounds("spot") > rounds + 4)
        assert cluster.application("gold")["metadata"]["uid"] == recreated
        assert {layer: cluster.application(layer)["metadata"]["uid"] for layer in ("bronze", "silver")} == {
            layer: before[layer] for layer in ("bronze", "silver")
        }
    (message,) = events(api, namespace, "Recreated")
    assert message == "spot-gold was in PENDING_RERUN for 3s; it was deleted and is recreated"


def test_a_driver_that_keeps_failing_is_reported_with_its_last_error_without_a_write_storm(
    api: Api, namespace: str, operator: Operator, cluster: Cluster
):
    cycles, changes, events_so_far = 8, 0, 0
    with cluster.ready(operator):
        eventually(lambda: all(cluster.rollout_state(layer).get("stable") for layer in LAYERS))
        writes = len(operator.writes())
        versions = {layer: cluster.application(layer)["metadata"]["generation"] for layer in LAYERS}
        for attempt in range(1, cycles + 1):
            if attempt == 4:
                events_so_far = len(_event_writes(operator))
            for state in ("FAILING", "PENDING_RERUN", "SUBMITTED", "RUNNING"):
                # The Spark operator clears the error when it starts the driver again.
                cluster.spark("silver", state, f"exit code {attempt}" if state == "FAILING" else "", attempt)
                changes += 1
                if attempt > 3 or state == "FAILING":
                    eventually(lambda: _crashing(api, namespace, attempt, state), within=5)  # noqa: B023
        assert condition(api, namespace, "spot", "GoldReady")["status"] == "True"
        requests = operator.writes()[writes:]
        assert len([write for write in requests if write.endswith("/exchangefeeds/spot/status")]) <= changes
        assert [write for write in requests if "/events" not in write and not write.endswith("/status")] == []
        assert len(_event_writes(operator)) == events_so_far
        assert {layer: cluster.application(layer)["metadata"]["generation"] for layer in LAYERS} == versions


def _event_writes(operator: Operator) -> list[str]:
    return [write for write in operator.writes() if write.endswith("/events")]


def _crashing(api: Api, namespace: str, attempt: int, state: str) -> bool:
    about = condition(api, namespace, "spot", "SilverReady")
    words = f"spot-silver is {state} after {attempt} attempts: exit code {attempt}"
    return about["reason"] == "CrashLoop" and about["message"] == words


@pytest.mark.parametrize("part", ["ingest", "silver"])
@pytest.mark.parametrize(
    "words",
    ['secret "k2-s3" not found', "couldn't find key access-key in Secret feeds/k2-s3"],
    ids=["no-secret", "no-key"],
)
def test_a_missing_secret_is_named_by_the_condition_of_the_part_that_waits_for_it(
    api: Api, namespace: str, operator: Operator, cluster: Cluster, part: str, words: str
):
    own, other = ("IngestReady", "SilverReady") if part == "ingest" else ("SilverReady", "IngestReady")
    path = f"/api/v1/namespaces/{namespace}/pods/{part}/status"
    waiting = {"reason": "CreateContainerConfigError", "message": words}
    about = {"name": "one", "image": "none", "imageID": "", "ready": False, "restartCount": 0}
    with cluster.ready(operator):
        if part != "ingest":
            cluster.spark(part, "SUBMITTED")  # as its driver's pod never runs
        stuck = {"status": {"containerStatuses": [about | {"state": {"waiting": waiting}}]}}
        assert api.request("PATCH", path, stuck, MERGE)["kind"] == "Pod"
        eventually(lambda: reason(api, namespace, "spot", own) == "SecretNotFound", within=10)
        assert (
            f"create the Secret k2-s3 in the feed's namespace, or add the key: {words}"
            in condition(api, namespace, "spot", own)["message"]
        )
        assert condition(api, namespace, "spot", other)["status"] == "True"
        assert status(api, namespace, "spot")["phase"] == "Degraded"
        api.request("PATCH", path, {"status": {"containerStatuses": None}}, MERGE)
        if part != "ingest":
            cluster.spark(part, "RUNNING")
        eventually(lambda: status(api, namespace, "spot")["phase"] == "Running", within=10)


def test_a_thousand_rejected_symbols_make_a_short_status(
    api: Api, namespace: str, operator: Operator, cluster: Cluster
):
    with cluster.ready(operator):
        cluster.shard["refused"] = {f"S{number:04}USDT": "y" * 1500 for number in range(1000)}
        api.request("PATCH", api.feed(namespace, "spot"), {"metadata": {"annotations": {"look": "again"}}}, MERGE)
        eventually(lambda: reason(api, namespace, "spot", "IngestReady") == "SymbolsRejected", within=10)
        assert reconciled(api, namespace, "spot")
        assert len(str(status(api, namespace, "spot"))) < 8000
