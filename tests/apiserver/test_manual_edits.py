"""The operator when a colleague deletes, edits or forbids what is the operator's."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.apiserver.support.servers import OPERATOR, Api, Operator, eventually
from tests.apiserver.test_faults import DEPLOYMENT, MERGE, complete, live
from tests.apiserver.test_operator import KINDS, children, create, feed, reconciled, status

pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(120)]

LABEL = "k2.marketdata.io/feed"


def patch(api: Api, namespace: str, kind: str, name: str, change: Any) -> None:
    """What a colleague does with kubectl."""
    path = f"{KINDS[kind].format(namespace)}/{name}?fieldManager=kubectl-edit"
    answer = api.ask("PATCH", path, change, MERGE)
    assert answer["kind"] == kind, answer


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_child_that_was_deleted_is_back_in_seconds(api: Api, namespace: str, operator: Operator, kind: str):
    create(api, namespace, feed("spot", ["BTCUSDT"]))
    with operator.run():
        eventually(lambda: complete(api, namespace))
        found = {key: item for key, item in children(api, namespace, "spot").items() if key[0] == kind}
        assert found
        for (_, name), item in found.items():
            api.ask("DELETE", f"{KINDS[kind].format(namespace)}/{name}?propagationPolicy=Background")
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
        found = live(api, namespace, "ConfigMap", "spot-feed")
    assert found["metadata"]["annotations"]["theirs"] == "kept"
    assert found["metadata"]["labels"]["their-label"] == "kept"


def test_an_owner_reference_that_was_removed_is_put_back(api: Api, namespace: str, operator: Operator):
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
    """Lets the operator do something in its namespace; returns where the RoleBinding is."""
    root = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    api.ask("POST", f"{root}/roles", {"metadata": {"name": name}, "rules": rules})
    bound = api.ask("POST", f"{root}/rolebindings", {
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "k2-operator"}],
    })  # fmt: skip
    assert bound["kind"] == "RoleBinding", bound
    return f"{root}/rolebindings/{name}"


def may_patch_deployments(api: Api, namespace: str) -> bool:
    """Whether the API server would let the operator do so by now."""
    wanted = {"namespace": namespace, "verb": "patch", "group": "apps", "resource": "deployments"}
    review = {"spec": {"user": "k2-operator", "resourceAttributes": wanted}}
    allowed: bool = api.ask("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)["status"]["allowed"]
    return allowed


@pytest.fixture
def restricted(api: Api, namespace: str, tmp_path: Path) -> Operator:
    """The operator under a token of its own. Of the whole cluster it sees the CRDs and namespaces only."""
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    rules = [
        {"apiGroups": ["apiextensions.k8s.io"], "resources": ["customresourcedefinitions"], "verbs": ["list", "watch"]},
        {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["list", "watch"]},
    ]
    user = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "k2-operator"}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": namespace}
    api.ask("POST", f"{rbac}/clusterroles", {"metadata": {"name": namespace}, "rules": rules})
    bound = {"metadata": {"name": namespace}, "roleRef": role, "subjects": [user]}
    assert api.ask("POST", f"{rbac}/clusterrolebindings", bound)["kind"] == "ClusterRoleBinding"
    return Operator(tmp_path / "restricted", api, namespace, token=OPERATOR)


def condition(api: Api, namespace: str, name: str, kind: str) -> dict[str, Any]:
    """One condition of a feed; empty if it is not there."""
    found: list[dict[str, Any]] = status(api, namespace, name).get("conditions", [])
    return next((about for about in found if about["type"] == kind), {})


def test_a_right_that_was_revoked_is_named_and_its_return_heals(api: Api, namespace: str, restricted: Operator):
    grant(api, namespace, "reads", READS)
    writes = grant(api, namespace, "writes", WRITES)
    create(api, namespace, feed("spot", ["BTCUSDT"]))
    with restricted.run(K2_OPERATOR_RESYNC="5"):
        eventually(lambda: complete(api, namespace))
        api.ask("DELETE", writes)
        eventually(lambda: not may_patch_deployments(api, namespace))  # the authorizer learns of it by a watch
        api.ask("DELETE", f"{KINDS['Deployment'].format(namespace)}/{DEPLOYMENT}")

        def told() -> str:  # a pass that was under way may have been refused something else first
            about = condition(api, namespace, "spot", "IngestReady")
            return f"{about.get('reason')}: {about.get('message')}"

        eventually(lambda: f"apply deployments {DEPLOYMENT}" in told(), within=15)
        assert told().startswith("Forbidden: ")
        assert 'cannot patch resource "deployments"' in told()
        assert status(api, namespace, "spot")["phase"] == "Degraded"
        assert live(api, namespace, "Deployment", DEPLOYMENT)["kind"] == "Status"
        api.ask("DELETE", writes.replace("rolebindings", "roles"))
        grant(api, namespace, "writes", WRITES)
        eventually(lambda: live(api, namespace, "Deployment", DEPLOYMENT)["kind"] == "Deployment", within=15)
        eventually(lambda: condition(api, namespace, "spot", "IngestReady").get("reason") != "Forbidden", within=15)


def test_without_any_right_for_a_while_the_operator_goes_on_when_it_has_them_again(
    api: Api, namespace: str, restricted: Operator
):
    reads = grant(api, namespace, "reads", READS)
    writes = grant(api, namespace, "writes", WRITES)
    create(api, namespace, feed("spot", ["BTCUSDT"]))
    with restricted.run(K2_OPERATOR_RESYNC="2") as process:
        eventually(lambda: complete(api, namespace))
        for binding in (reads, writes):
            api.ask("DELETE", binding)
        time.sleep(4)
        api.ask("PATCH", api.feed(namespace, "spot"), {"spec": {"symbols": ["ETHUSDT"]}}, MERGE)
        for name, binding, rules in (("reads", reads, READS), ("writes", writes, WRITES)):
            api.ask("DELETE", binding.replace("rolebindings", "roles"))
            grant(api, namespace, name, rules)
        eventually(
            lambda: "ETHUSDT" in json.dumps(live(api, namespace, "ConfigMap", "spot-feed").get("data")), within=20
        )
        eventually(lambda: reconciled(api, namespace, "spot"))
        assert process.poll() is None


def test_a_quota_that_is_used_up_is_said_and_unsaid(api: Api, namespace: str, operator: Operator):
    create(api, namespace, feed("spot", ["BTCUSDT"]))
    path = f"{KINDS['Deployment'].format(namespace)}/{DEPLOYMENT}/status"
    failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota: pods"}
    with operator.run():
        eventually(lambda: complete(api, namespace))
        api.ask("PATCH", path, {"status": {"conditions": [failure]}}, MERGE)
        eventually(lambda: condition(api, namespace, "spot", "IngestReady").get("reason") == "QuotaExceeded", within=5)
        assert "exceeded quota: pods" in condition(api, namespace, "spot", "IngestReady")["message"]
        api.ask("PATCH", path, {"status": {"conditions": []}}, MERGE)
        eventually(lambda: condition(api, namespace, "spot", "IngestReady").get("reason") != "QuotaExceeded", within=5)
