"""Another rebuildNonce stops Silver and Gold, runs a Job, and starts them again."""

from datetime import UTC, datetime
from typing import Any

import pytest

from tests.apiserver.support.servers import Api, Operator, eventually
from tests.apiserver.test_layers import LAYERS, MERGE, Cluster, api, cluster
from tests.apiserver.test_operator import status

__all__ = ["api", "cluster"]

pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(180)]

JOB = "/apis/batch/v1/namespaces/{}/jobs/spot-rebuild-{}"


def ask(api: Api, namespace: str, nonce: int) -> None:
    api.request("PATCH", api.feed(namespace, "spot"), {"spec": {"rebuildNonce": nonce}}, MERGE)


def rebuild(api: Api, namespace: str) -> dict[str, Any]:
    reported: dict[str, Any] = status(api, namespace, "spot").get("rebuild", {})
    return reported


def suspended(cluster: Cluster) -> set[str]:
    return {layer for layer in LAYERS if cluster.application(layer)["spec"]["suspend"]}


def exists(api: Api, namespace: str, nonce: int) -> bool:
    return api.request("GET", JOB.format(namespace, nonce))["kind"] == "Job"


def end_job(api: Api, namespace: str, nonce: int, kind: str) -> None:
    """Set the Job's final status, as the Job controller does."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    before = {"Complete": "SuccessCriteriaMet", "Failed": "FailureTarget"}[kind]
    about = {"status": "True", "lastTransitionTime": now, "lastProbeTime": now, "reason": "Test", "message": "it ended"}
    ended: dict[str, Any] = {"startTime": now, "conditions": [{"type": each, **about} for each in (before, kind)]}
    ended |= {"completionTime": now, "succeeded": 1} if kind == "Complete" else {"failed": 1}
    answer = api.request("PATCH", f"{JOB.format(namespace, nonce)}/status", {"status": ended}, MERGE)
    assert answer["kind"] == "Job", answer


def test_a_new_number_stops_silver_and_gold_until_its_job_ended_and_a_failure_is_reported(
    api: Api, namespace: str, operator: Operator, cluster: Cluster
):
    with cluster.ready(operator):
        assert rebuild(api, namespace) == {"nonce": 0}
        ask(api, namespace, 5)
        eventually(lambda: suspended(cluster) == {"silver", "gold"})
        eventually(lambda: rebuild(api, namespace).get("state") == "Pending")
        for layer in ("silver", "gold"):
            assert not exists(api, namespace, 5)
            cluster.spark(layer, "SUSPENDED")
            api.request("DELETE", f"/api/v1/namespaces/{namespace}/pods/{layer}?gracePeriodSeconds=0")
        eventually(lambda: exists(api, namespace, 5))
        eventually(lambda: rebuild(api, namespace).get("state") == "Running")
        conditions = {each["type"]: each for each in status(api, namespace, "spot")["conditions"]}
        assert {conditions[name]["reason"] for name in ("SilverReady", "GoldReady")} == {"Rebuilding"}
        assert conditions["BronzeReady"]["status"] == "True"
        end_job(api, namespace, 5, "Complete")
        eventually(lambda: not suspended(cluster))
        eventually(lambda: rebuild(api, namespace).get("state") == "Succeeded")
        assert (rebuild(api, namespace)["nonce"], exists(api, namespace, 5)) == (5, True)

        ask(api, namespace, 6)
        eventually(lambda: exists(api, namespace, 6) and not exists(api, namespace, 5))
        end_job(api, namespace, 6, "Failed")
        eventually(lambda: not suspended(cluster) and rebuild(api, namespace).get("state") == "Failed")
        assert rebuild(api, namespace)["nonce"] == 6
        items = api.request("GET", f"/api/v1/namespaces/{namespace}/events")["items"]
        assert {"RebuildPending", "RebuildRunning", "RebuildSucceeded", "RebuildFailed"} <= {
            item["reason"] for item in items
        }
