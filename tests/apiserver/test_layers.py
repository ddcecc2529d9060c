"""Topics, monitors and SparkApplications on the real CRDs. The test plays the role of their operators."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web

from tests.apiserver.support.servers import Api, Operator, eventually
from tests.apiserver.test_operator import create, feed, reconciled, status

pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(180)]

SPARK = "/apis/sparkoperator.k8s.io/v1beta2/namespaces/{}/sparkapplications/{}"
TOPIC = "/apis/kafka.strimzi.io/v1/namespaces/{}/kafkatopics/{}"
LAYERS = ("bronze", "silver", "gold")
MERGE = "application/merge-patch+json"


@pytest.fixture
def api(whole_api: Api) -> Api:
    return whole_api


class Cluster:
    """The rest of the cluster: Strimzi, the Spark operator, kubelets and the pods' status endpoints."""

    def __init__(self, api: Api, namespace: str, serve: Callable[[web.Application], str]) -> None:
        self.api, self.namespace = api, namespace
        self.shard: dict[str, Any] = {"shard": "0-0", "connected": True, "messagesPerSecond": 12.4, "reconnects": 1}
        self.layers = {layer: {"state": "RUNNING", "rows": 7, "freshnessSeconds": 4.2} for layer in LAYERS}
        app = web.Application()
        app.router.add_get("/status", self._status)
        self._port = int(serve(app).rpartition(":")[2])

    async def _status(self, _: web.Request) -> web.Response:
        return web.json_response({**self.shard, "feeds": {"spot": self.layers}})

    def application(self, layer: str) -> dict[str, Any]:
        """Return a layer's SparkApplication."""
        answer: dict[str, Any] = self.api.request("GET", SPARK.format(self.namespace, f"spot-{layer}"))
        return answer

    def rollout_state(self, layer: str) -> dict[str, Any]:
        """Return the rollout state of a layer's application."""
        annotations = self.application(layer)["metadata"]["annotations"]
        state: dict[str, Any] = json.loads(annotations["k2.marketdata.io/rollout"])
        return state

    def spark(self, layer: str, state: str, error: str = "", attempts: int = 1) -> None:
        """Set an application's status, as the Spark operator does."""
        path = SPARK.format(self.namespace, f"spot-{layer}") + "/status"
        new_status = {
            "applicationState": {"state": state, "errorMessage": error},
            "lastSubmissionAttemptTime": now(),
            "executionAttempts": attempts,
            "driverInfo": {},
        }
        answer = self.api.request("PATCH", path, {"status": new_status}, MERGE)
        assert answer["kind"] == "SparkApplication", answer

    def strimzi(self) -> None:
        """Set the topic Ready, as Strimzi does."""
        path = TOPIC.format(self.namespace, "market.crypto.trades.binance")
        about = {"type": "Ready", "status": "True", "lastTransitionTime": now()}
        generation = self.api.request("GET", path)["metadata"]["generation"]
        new_status = {"status": {"observedGeneration": generation, "conditions": [about]}}
        assert self.api.request("PATCH", f"{path}/status", new_status, MERGE)["kind"] == "KafkaTopic"

    def kubelet(self) -> None:
        """Create running pods for the Deployment and the drivers."""
        deployment = self.rolled_out()
        self.pod("ingest", deployment["spec"]["template"]["metadata"]["labels"])
        for layer in LAYERS:
            self.pod(layer, self.application(layer)["spec"]["driver"]["labels"])

    def rolled_out(self) -> dict[str, Any]:
        """Set the newest spec of the ingest's Deployment as rolled out, and return it; of two, its successor."""
        path = f"/apis/apps/v1/namespaces/{self.namespace}/deployments"
        items = self.api.request("GET", f"{path}?labelSelector=app.kubernetes.io/component=ingest")["items"]
        deployment: dict[str, Any] = max(items, key=lambda item: str(item["metadata"]["creationTimestamp"]))
        path = f"{path}/{deployment['metadata']['name']}/status"
        new_status = {"observedGeneration": deployment["metadata"]["generation"], "replicas": 1, "readyReplicas": 1}
        self.api.request("PATCH", path, {"status": new_status}, MERGE)
        return deployment

    def pod(self, name: str, labels: dict[str, str]) -> None:
        """Create a running pod."""
        port = {"name": "metrics", "containerPort": self._port}
        spec = {"containers": [{"name": "one", "image": "none", "ports": [port]}]}
        path = f"/api/v1/namespaces/{self.namespace}/pods"
        created = self.api.request("POST", path, {"metadata": {"name": name, "labels": labels}, "spec": spec})
        assert created["kind"] == "Pod", created
        new_status = {"phase": "Running", "podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}]}
        self.api.request("PATCH", f"{path}/{name}/status", {"status": new_status}, MERGE)

    def run(self) -> None:
        """Set everything to running."""
        self.strimzi()
        for layer in LAYERS:
            self.spark(layer, "RUNNING")
        self.kubelet()

    @contextmanager
    def ready(self, operator: Operator, **environment: str) -> Iterator[None]:
        """Run the operator with a feed of one symbol until it is Running."""
        create(self.api, self.namespace, feed("spot", ["BTCUSDT"]))
        with operator.run(**environment):
            eventually(lambda: reconciled(self.api, self.namespace, "spot"))
            self.run()
            eventually(lambda: running(self.api, self.namespace))
            yield


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.fixture
def cluster(api: Api, namespace: str, serve: Callable[[web.Application], str]) -> Cluster:
    return Cluster(api, namespace, serve)


def running(api: Api, namespace: str) -> bool:
    return status(api, namespace, "spot").get("phase") == "Running"


def test_a_feed_whose_parts_run_is_ready_and_reports_their_figures(
    api: Api, namespace: str, operator: Operator, cluster: Cluster
):
    create(api, namespace, feed("spot", ["BTCUSDT"]))
    with operator.run():
        eventually(lambda: reconciled(api, namespace, "spot"))
        first = status(api, namespace, "spot")
        assert {about["reason"] for about in first["conditions"]} <= {"Waiting", "Starting", "Creating", "NoConnection"}
        cluster.run()
        eventually(lambda: running(api, namespace))
        running_status = status(api, namespace, "spot")
    assert running_status["ingest"] == {
        "connected": 1, "desired": 1, "messagesPerSecond": 12, "reconnects": 1, "openGaps": 0, "repairedGaps": 0,
        "shards": 1,
    }  # fmt: skip
    assert running_status["layers"]["gold"] == {
        "application": "spot-gold",
        "state": "RUNNING",
        "rows": 7,
        "freshness": "4s",
    }
    assert running_status["symbols"] == 1
    by_type = {about["type"]: about["status"] for about in running_status["conditions"]}
    assert by_type.pop("SymbolsRefused") == "False"
    assert set(by_type.values()) == {"True"}
    names = {item["metadata"]["name"] for item in api.request("GET", TOPIC.format(namespace, "").rstrip("/"))["items"]}
    assert names == {
        f"market.crypto.{kind}.binance" for kind in ("trades", "gaps", "evidence", "instruments", "deadletter")
    }


def test_a_changed_layer_is_stopped_started_and_then_stable(
    api: Api, namespace: str, operator: Operator, cluster: Cluster
):
    with cluster.ready(operator):
        before = {layer: cluster.application(layer) for layer in LAYERS}
        edit = {"spec": {"layers": {"gold": {"trigger": "90s"}}}}
        api.request("PATCH", api.feed(namespace, "spot"), edit, MERGE)
        eventually(lambda: cluster.application("gold")["spec"]["suspend"])
        stopping = cluster.application("gold")["spec"]
        assert {**stopping, "suspend": False} == before["gold"]["spec"]
        cluster.spark("gold", "SUSPENDED")
        eventually(lambda: not cluster.application("gold")["spec"]["suspend"])
        after = cluster.application("gold")
        assert after["spec"]["driver"]["annotations"] != before["gold"]["spec"]["driver"]["annotations"]
        cluster.spark("gold", "RUNNING")
        new_hash = after["metadata"]["annotations"]["k2.marketdata.io/spec-hash"]
        eventually(lambda: cluster.rollout_state("gold").get("stable") == new_hash)
        for layer in ("bronze", "silver"):
            assert cluster.application(layer)["metadata"]["generation"] == before[layer]["metadata"]["generation"]
        eventually(lambda: running(api, namespace))


def test_a_restart_of_the_operator_restarts_no_driver(api: Api, namespace: str, operator: Operator, cluster: Cluster):
    with cluster.ready(operator):
        eventually(lambda: cluster.rollout_state("gold").get("stable"))
    before = {layer: cluster.application(layer)["metadata"]["resourceVersion"] for layer in LAYERS}
    with operator.run():
        eventually(lambda: operator.rounds("spot"))
        assert {layer: cluster.application(layer)["metadata"]["resourceVersion"] for layer in LAYERS} == before
        assert operator.writes() == []


def test_a_suspended_feed_runs_nothing_and_keeps_its_topic(
    api: Api, namespace: str, operator: Operator, cluster: Cluster
):
    with cluster.ready(operator):
        api.request("PATCH", api.feed(namespace, "spot"), {"spec": {"suspend": True}}, MERGE)
        eventually(lambda: all(cluster.application(layer)["spec"]["suspend"] for layer in LAYERS))
        deployment = f"/apis/apps/v1/namespaces/{namespace}/deployments/spot-shard-0-0"
        assert api.request("GET", deployment)["spec"]["replicas"] == 0
        api.request("PATCH", f"{deployment}/status", {"status": {"replicas": 0, "readyReplicas": 0}}, MERGE)
        for layer in LAYERS:
            cluster.spark(layer, "SUSPENDED")
        eventually(lambda: status(api, namespace, "spot")["phase"] == "Suspended")
        assert api.request("GET", TOPIC.format(namespace, "market.crypto.trades.binance"))["kind"] == "KafkaTopic"


def test_a_crashing_driver_degrades_its_layer_with_the_reason(
    api: Api, namespace: str, operator: Operator, cluster: Cluster
):
    with cluster.ready(operator):
        path = SPARK.format(namespace, "spot-silver") + "/status"
        new_status = {"applicationState": {"state": "FAILED", "errorMessage": "out of memory"}, "executionAttempts": 4}
        api.request("PATCH", path, {"status": {**new_status, "driverInfo": {}}}, MERGE)
        eventually(lambda: status(api, namespace, "spot")["phase"] == "Degraded")
        conditions = {about["type"]: about for about in status(api, namespace, "spot")["conditions"]}
        assert conditions["SilverReady"]["reason"] == "CrashLoop"
        assert "out of memory" in conditions["SilverReady"]["message"]
        assert conditions["GoldReady"]["status"] == "True"
        events = api.request("GET", f"/api/v1/namespaces/{namespace}/events")["items"]
        assert "CrashLoop" in {event["reason"] for event in events}
