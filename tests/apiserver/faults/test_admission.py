"""Children that cannot be written, because of a webhook, a policy or the server: the others do not wait for them."""

import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.apiserver.support.proxy import Fault, Proxy, proxied
from tests.apiserver.support.servers import Api, Operator, eventually, free_port
from tests.apiserver.test_operator import KINDS, children, create, feed, status

pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(120)]

ADMISSION = "/apis/admissionregistration.k8s.io/v1"
DEPLOYMENT = ("Deployment", "spot-shard-0-0")
OTHERS = {("ConfigMap", "spot-feed"), ("PodDisruptionBudget", "spot-ingest"), ("NetworkPolicy", "spot-ingest")}

Register = Callable[[str, dict[str, Any]], None]


@pytest.fixture
def register(api: Api) -> Iterator[Register]:
    """Creates objects of admission control, and deletes them at the end."""
    created: list[str] = []

    def register(plural: str, body: dict[str, Any]) -> None:
        answer = api.request("POST", f"{ADMISSION}/{plural}", body)
        assert answer["kind"] != "Status", answer
        created.append(f"{ADMISSION}/{plural}/{body['metadata']['name']}")

    yield register
    for path in created:
        api.request("DELETE", path)


def deployments_of(namespace: str) -> dict[str, Any]:
    """Return a rule for writes of Deployments, and a selector of the namespace."""
    rule = {"apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"]}
    return {
        "rule": {**rule, "operations": ["CREATE", "UPDATE"]},
        "namespaces": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
    }


def condition(api: Api, namespace: str, kind: str = "IngestReady") -> dict[str, Any]:
    """Return a condition of the feed; empty if it has none."""
    conditions = {each["type"]: each for each in status(api, namespace, "spot").get("conditions", [])}
    selected: dict[str, Any] = conditions.get(kind, {})
    return selected


def test_a_webhook_that_is_down_is_named_and_only_its_children_wait(
    api: Api, namespace: str, operator: Operator, register: Register
):
    selected = deployments_of(namespace)
    webhook = {
        "name": "images.policy.example.com",
        "clientConfig": {"url": f"https://127.0.0.1:{free_port()}/validate"},
        "rules": [selected["rule"]],
        "namespaceSelector": selected["namespaces"],
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "timeoutSeconds": 1,
    }
    name = f"images-{namespace}"
    register("validatingwebhookconfigurations", {"metadata": {"name": name}, "webhooks": [webhook]})
    create(api, namespace, feed("spot", ["BTCUSDT"]))
    with operator.run():
        eventually(lambda: condition(api, namespace).get("reason") == "ApplyFailed")
        assert "images.policy.example.com" in condition(api, namespace)["message"]
        assert set(children(api, namespace, "spot")) >= OTHERS
        assert DEPLOYMENT not in children(api, namespace, "spot")
        api.request("DELETE", f"{ADMISSION}/validatingwebhookconfigurations/{name}")
        eventually(lambda: DEPLOYMENT in children(api, namespace, "spot"), within=30)
        eventually(lambda: condition(api, namespace).get("reason") != "ApplyFailed", within=30)


def test_a_policy_that_denies_a_child_is_named(api: Api, namespace: str, operator: Operator, register: Register):
    selected, name = deployments_of(namespace), f"team-label-{namespace}"
    rules = {"resourceRules": [selected["rule"]]}
    validation = {"expression": "'team' in object.metadata.labels", "message": "label team is missing"}
    policy = {"failurePolicy": "Fail", "matchConstraints": rules, "validations": [validation]}
    register("validatingadmissionpolicies", {"metadata": {"name": name}, "spec": policy})
    binding = {
        "policyName": name,
        "validationActions": ["Deny"],
        "matchResources": {"namespaceSelector": selected["namespaces"]},
    }
    register("validatingadmissionpolicybindings", {"metadata": {"name": name}, "spec": binding})
    probe = {"metadata": {"name": "probe"}, "spec": _minimal_deployment()}
    path = KINDS["Deployment"].format(namespace)
    eventually(lambda: name in api.request("POST", f"{path}?dryRun=All", probe).get("message", ""))
    create(api, namespace, feed("spot", ["BTCUSDT"]))
    with operator.run():
        eventually(lambda: condition(api, namespace).get("status") == "False")
        message = condition(api, namespace)["message"]
        assert name in message
        assert "label team is missing" in message
        assert set(children(api, namespace, "spot")) >= OTHERS


def _minimal_deployment() -> dict[str, Any]:
    labels = {"app": "probe"}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "probe", "image": "probe"}]}}
    return {"selector": {"matchLabels": labels}, "template": pod}


def test_an_error_of_the_server_for_one_kind_is_reported_and_no_reason_to_restart(
    api: Api, namespace: str, tmp_path: Path
):
    health = f"http://127.0.0.1:{free_port()}/healthz"
    with proxied(api) as (proxy, url):
        _fail(proxy, "networkpolicies")
        create(api, namespace, feed("spot", ["BTCUSDT"]))
        operator = Operator(tmp_path / "behind", api, namespace, url)
        with operator.run(f"--liveness={health}", K2_OPERATOR_RESYNC="1"):
            eventually(lambda: DEPLOYMENT in children(api, namespace, "spot"))
            eventually(lambda: "networkpolicies" in condition(api, namespace).get("message", ""))
            assert "503" in condition(api, namespace)["message"]
            time.sleep(4)  # longer than three periods
            with urllib.request.urlopen(health, timeout=5) as answer:
                assert answer.status == 200
            proxy.rule = lambda _: None
            eventually(lambda: ("NetworkPolicy", "spot-ingest") in children(api, namespace, "spot"), within=30)


def _fail(proxy: Proxy, plural: str) -> None:
    proxy.rule = lambda request: Fault(code=503) if request.is_apply and f"/{plural}/" in request.path else None
