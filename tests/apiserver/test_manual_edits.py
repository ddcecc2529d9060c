"""Manual deletions, edits and revoked permissions of the operator's objects."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.apiserver.faults.test_faults import DEPLOYMENT, MERGE, complete, live
from tests.apiserver.support.servers import OPERATOR, Api, Operator, eventually
from tests.apiserver.test_operator import KINDS, children, create, feed, reconciled, status

pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(120)]

LABEL = "k2.marketdata.io/feed"


def patch(api: Api, namespace: str, kind: str, name: str, change: Any) -> None:
    """Edit an object, as a user does with kubectl."""
    path = f"{KINDS[kind].format(namespace)}/{name}?fieldManager=kubectl-edit"
    answer = api.request("PATCH", path, change, MERGE)
    assert answer["kind"] == kind, answer


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_deleted_child_is_recreated_within_seconds(api: Api, namespace: str, operator: Operator, kind: str):
    create(api, namespace, feed("spot", ["BTCUSDT"]))
    with operator.run():
        eventually(lambda: complete(api, namespace))
        of_kind = {key: item for key, item in children(api, namespace, "spot").items() if key[0] == kind}
        assert of_kind
        for (_, name), item in of_kind.items():
            api.request("DELETE", f"{KINDS[kind].format(namespace)}/{name}?propagationPolicy=Background")
            uid = item["metadata"]["uid"]
            eventually(
                lambda name=name, uid=uid: (
                    live(api, namespace, kind, name)["metadata"].get("uid", uid) != uid  # a Status has no uid
                ),
                within=5,
            )


def test_a_field_of_ours_is_restored_and_a_field_of_theirs_is_kept(api: Api, namespace: str, operator: Operator):
    create(api, namespace, feed("spot", ["BTCUSDT"]))
    with operator.run():
        eventually(lambda: complete(api, namespace))
        before = live(api, namespace, "ConfigMap", "spot-feed")["data"]
        theirs = {"metadata": {"annotations": {"theirs": "kept"}, "labels": {"their-label": "kept"}}}
        patch(api, namespace, "ConfigMap", "spot-feed", theirs | {"data": dict.fromkeys(before, "") | {"more": "1"}})
        eventually(lambda: live(api, namespace, "ConfigMap", "spot-feed")["data"] == before | {"more": "1"}, within=5)
        after = live(api, namespace, "ConfigMap", "spot-feed")
    assert after["metadata"]["annotations"]["theirs"] == "kept"
    assert after["metadata"]["labels"]["their-label"] == "kept"


def test_a_removed_owner_reference_is_restored(api: Api, namespace: str, operator: Operator):
    create(api, namespace, feed("spot", ["BTCUSDT"]))
    with operator.run():
        eventually(lambda: complete(api, namespace))
        before = live(api, namespace, "Deployment", DEPLOYMENT)["metadata"]
        patch(api, namespace, "Deployment", DEPLOYMENT, {"metadata": {"ownerReferences": None}})
        eventually(
            lambda: (
                live(api, namespace, "Deployment", DEPLOYMENT)["metadata"].get("ownerReferences")
                == before["ownerReferences"]
            ),
            within=5,
        )
        assert live(api, namespace, "Deployment", DEPLOYMENT)["metadata"]["uid"] == before["uid"]


@pytest.mark.parametrize(
    ("stomped", "orphaned"),
    [(None, False), ("nobody", False), ("other", False), (None, True), ("nobody", True)],
    ids=["removed", "of-nobody", "of-another-feed", "removed-with-the-owner", "of-nobody-without-owner"],
)
def test_labels_are_restored_and_the_object_stays_the_same(
    api: Api, namespace: str, operator: Operator, stomped: str | None, orphaned: bool
):
    create(api, namespace, feed("spot", ["BTCUSDT"]))
    create(api, namespace, feed("other", ["BTC/USD"], "kraken"))
    with operator.run():
        eventually(lambda: complete(api, namespace) and reconciled(api, namespace, "other"))
        before = live(api, namespace, "Deployment", DEPLOYMENT)
        change: dict[str, Any] = {"labels": {LABEL: stomped, "app.kubernetes.io/name": "theirs"}}
        patch(
            api, namespace, "Deployment", DEPLOYMENT,
            {"metadata": change | ({"ownerReferences": None} if orphaned else {})},
        )  # fmt: skip
        eventually(
            lambda: (
                live(api, namespace, "Deployment", DEPLOYMENT)["metadata"].get("labels") == before["metadata"]["labels"]
            ),
            within=5,
        )
        after = live(api, namespace, "Deployment", DEPLOYMENT)
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["metadata"]["ownerReferences"] == before["metadata"]["ownerReferences"]
    assert after["spec"]["selector"] == before["spec"]["selector"]


READS: list[dict[str, Any]] = [
    {"apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list", "watch"]},
    {"apiGroups": ["k2.marketdata.io"], "resources": ["exchangefeeds", "exchangefeeds/status"], "verbs": ["patch"]},
    {"apiGroups": [""], "resources": ["events"], "verbs": ["create"]},
]
WRITES: list[dict[str, Any]] = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["create", "patch", "delete"]}]


def grant(api: Api, namespace: str, name: str, rules: list[dict[str, Any]]) -> str:
    """Grant the operator permissions in its namespace; return the path of the RoleBinding."""
    root = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    api.request("POST", f"{root}/roles", {"metadata": {"name": name}, "rules": rules})
    bound = api.request("POST", f"{root}/rolebindings", {
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "k2-operator"}],
    })  # fmt: skip
    assert bound["kind"] == "RoleBinding", bound
    return f"{root}/rolebindings/{name}"


def may_patch_deployments(api: Api, namespace: str) -> bool:
    """Return whether the API server permits the operator to patch Deployments."""
    attributes = {"namespace": namespace, "verb": "patch", "group": "apps", "resource": "deployments"}
    review = {"spec": {"user": "k2-operator", "resourceAttributes": attributes}}
    allowed: bool = api.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)["status"][
        "allowed"
    ]
    return allowed


@pytest.fixture
def restricted(api: Api, namespace: str, tmp_path: Path) -> Operator:
    """The operator with its own token. Cluster-wide it may list CRDs and namespaces only."""
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    rules = [
        {"apiGroups": ["apiextensions.k8s.io"], "resources": ["customresourcedefinitions"], "verbs": ["list", "watch"]},
        {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["list", "watch"]},
    ]
    user = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "k2-operator"}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": namespace}
    api.request("POST", f"{rbac}/clusterroles", {"metadata": {"name": namespace}, "rules": rules})
    bound = {"metadata": {"name": namespace}, "roleRef": role, "subjects": [user]}
    assert api.request("POST", f"{rbac}/clusterrolebindings", bound)["kind"] == "ClusterRoleBinding"
    return Operator(tmp_path / "restricted", api, namespace, token=OPERATOR)


def condition(api: Api, namespace: str, name: str, kind: str) -> dict[str, Any]:
    """Return a condition of a feed; empty if it does not exist."""
    conditions: list[dict[str, Any]] = status(api, namespace, name).get("conditions", [])
    return next((about for about in conditions if about["type"] == kind), {})


def test_a_revoked_permission_is_reported_and_granting_it_again_recovers_the_feed(
    api: Api, namespace: str, restricted: Operator
):
    grant(api, namespace, "reads", READS)
    writes = grant(api, namespace, "writes", WRITES)
    create(api, namespace, feed("spot", ["BTCUSDT"]))
    with restricted.run(K2_OPERATOR_RESYNC="5"):
        eventually(lambda: complete(api, namespace))
        api.request("DELETE", writes)
        eventually(lambda: not may_patch_deployments(api, namespace))  # the authorizer is updated by a watch
        api.request("DELETE", f"{KINDS['Deployment'].format(namespace)}/{DEPLOYMENT}")

        def ingest_condition() -> str:  # a round in progress may have been rejected for something else first
            about = condition(api, namespace, "spot", "IngestReady")
            return f"{about.get('reason')}: {about.get('message')}"

        eventually(lambda: f"apply deployments {DEPLOYMENT}" in ingest_condition(), within=15)
        assert ingest_condition().startswith("Forbidden: ")
        assert 'cannot patch resource "deployments"' in ingest_condition()
        assert status(api, namespace, "spot")["phase"] == "Degraded"
        assert live(api, namespace, "Deployment", DEPLOYMENT)["kind"] == "Status"
        api.request("DELETE", writes.replace("rolebindings", "roles"))
        grant(api, namespace, "writes", WRITES)
        eventually(lambda: live(api, namespace, "Deployment", DEPLOYMENT)["kind"] == "Deployment", within=15)
        eventually(lambda: condition(api, namespace, "spot", "IngestReady").get("reason") != "Forbidden", within=15)


def test_the_operator_recovers_when_revoked_permissions_are_granted_again(
    api: Api, namespace: str, restricted: Operator
):
    reads = grant(api, namespace, "reads", READS)
    writes = grant(api, namespace, "writes", WRITES)
    create(api, namespace, feed("spot", ["BTCUSDT"]))
    with restricted.run(K2_OPERATOR_RESYNC="2") as process:
        eventually(lambda: complete(api, namespace))
        for binding in (reads, writes):
            api.request("DELETE", binding)
        time.sleep(4)
        api.request("PATCH", api.feed(namespace, "spot"), {"spec": {"symbols": ["ETHUSDT"]}}, MERGE)
        for name, binding, rules in (("reads", reads, READS), ("writes", writes, WRITES)):
            api.request("DELETE", binding.replace("rolebindings", "roles"))
            grant(api, namespace, name, rules)
        eventually(
            lambda: "ETHUSDT" in json.dumps(live(api, namespace, "ConfigMap", "spot-feed").get("data")), within=20
        )
        eventually(lambda: reconciled(api, namespace, "spot"))
        assert process.poll() is None


def test_an_exceeded_quota_is_reported_until_it_is_resolved(api: Api, namespace: str, operator: Operator):
    create(api, namespace, feed("spot", ["BTCUSDT"]))
    path = f"{KINDS['Deployment'].format(namespace)}/{DEPLOYMENT}/status"
    failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota: pods"}
    with operator.run():
        eventually(lambda: complete(api, namespace))
        api.request("PATCH", path, {"status": {"conditions": [failure]}}, MERGE)
        eventually(lambda: condition(api, namespace, "spot", "IngestReady").get("reason") == "QuotaExceeded", within=5)
        assert "exceeded quota: pods" in condition(api, namespace, "spot", "IngestReady")["message"]
        api.request("PATCH", path, {"status": {"conditions": []}}, MERGE)
        eventually(lambda: condition(api, namespace, "spot", "IngestReady").get("reason") != "QuotaExceeded", within=5)
