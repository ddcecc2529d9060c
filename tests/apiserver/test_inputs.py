"""Invalid and malicious feeds: how the API server and the operator handle them."""

import contextlib
import json
import urllib.error
import urllib.request
from typing import Any

import pytest

from tests.apiserver.support.servers import TOKEN, Api, Operator, eventually
from tests.apiserver.test_layers import LAYERS, MERGE, api
from tests.apiserver.test_manual_edits import condition
from tests.apiserver.test_operator import create, feed, reconciled
from tests.apiserver.test_upgrade import live_objects

__all__ = ["api"]

pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(120)]

LABEL = 63  # characters of a label's value, and of a Service's name
FEEDS = "/apis/k2.marketdata.io/v1alpha1/namespaces/{}/exchangefeeds"


def written(api: Api, namespace: str, body: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Create a feed without strict validation, as an old kubectl does; return it as stored, and the warnings."""
    request = urllib.request.Request(
        api.url + FEEDS.format(namespace),
        json.dumps(body).encode(),
        {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30, context=api.trust()) as answer:
        return json.load(answer), answer.headers.get_all("Warning") or []


PRIVILEGES = {
    "sparkConf": {"spark.kubernetes.driver.serviceAccountName": "admin"},
    "image": "evil.example/jobs:latest",
    "serviceAccount": "admin",
    "hostPath": "/",
    "env": [{"name": "LD_PRELOAD", "value": "/tmp/x.so"}],
    "template": {"spec": {"hostNetwork": True}},
}


@pytest.mark.parametrize("field", list(PRIVILEGES))
@pytest.mark.parametrize("where", ["", "ingest", "layers", "layers.gold"])
def test_a_field_that_would_escalate_privileges_is_rejected_or_dropped_with_a_warning(
    api: Api, namespace: str, where: str, field: str
):
    body = feed("spot", ["BTCUSDT"])
    place = body["spec"]
    for part in where.split(".") if where else ():
        place = place.setdefault(part, {})
    place[field] = PRIVILEGES[field]
    path = ".".join(["spec", *([where] if where else []), field])
    strict = api.request("POST", f"{FEEDS.format(namespace)}?fieldValidation=Strict", body)
    assert strict["kind"] == "Status"
    assert f'unknown field "{path}"' in strict["message"]
    stored, warnings = written(api, namespace, body)
    assert [warning for warning in warnings if f'unknown field \\"{path}\\"' in warning]
    assert field not in json.dumps(stored["spec"])


def test_a_feed_with_the_longest_name_has_every_child_and_none_is_named_too_long(
    api: Api, namespace: str, operator: Operator
):
    name = "a" * 40
    for long in ("a" * 41, "a" * 64, "a" * 254):
        assert api.request("POST", FEEDS.format(namespace), feed(long, ["BTCUSDT"]))["kind"] == "Status"
    symbols = [f"A{number:03}USDT" for number in range(128)]
    create(api, namespace, feed(name, symbols, ingest={"shards": 64, "redundancy": 2}))
    with operator.run():
        eventually(lambda: reconciled(api, namespace, name), within=60)
        reasons = {about["type"]: about["reason"] for about in api.request("GET", api.feed(namespace, name))["status"][
            "conditions"
        ]}  # fmt: skip
        objects = live_objects(api, namespace)
    assert not set(reasons.values()) & {"ApplyFailed", "Forbidden", "InvalidSpec"}
    names = [child for kind, child in objects if kind != "KafkaTopic"]
    assert len([kind for kind, _ in objects if kind == "Deployment"]) > 100  # a shard without a symbol has none
    assert {child for kind, child in objects if kind == "SparkApplication"} == {f"{name}-{layer}" for layer in LAYERS}
    # The names that Spark derives from an application are longer still.
    assert max(map(len, [*names, *(f"{name}-{layer}-driver-svc" for layer in LAYERS)])) <= LABEL


@pytest.mark.parametrize("size", [2_000_000, 4_000_000])
def test_a_feed_of_megabytes_is_rejected_by_the_api_server(api: Api, namespace: str, size: int):
    body = feed("spot", ["BTCUSDT"], placement={"affinity": {"nodeAffinity": {"x": ["y" * size]}}})
    with contextlib.suppress(
        urllib.error.URLError
    ):  # the server may close the connection before it received everything
        assert api.request("POST", FEEDS.format(namespace), body)["kind"] == "Status"
    assert api.request("GET", FEEDS.format(namespace))["items"] == []


def test_an_invalid_affinity_is_reported_and_does_not_affect_other_feeds(api: Api, namespace: str, operator: Operator):
    misspelt = {"nodeAffinity": {"requiredDuringScheduling": {"nodeSelectorTerms": []}}}
    create(api, namespace, feed("wrong", ["BTCUSDT"], placement={"affinity": misspelt}))
    create(api, namespace, feed("other", ["BTC/USD"], "kraken"))
    with operator.run() as process:
        eventually(lambda: condition(api, namespace, "wrong", "IngestReady").get("reason") == "ApplyFailed")
        message = condition(api, namespace, "wrong", "IngestReady")["message"]
        assert "deployments wrong-shard-0-0" in message
        assert "affinity.nodeAffinity.requiredDuringScheduling: field not declared in schema" in message
        eventually(lambda: ("Deployment", "other-shard-0-0") in live_objects(api, namespace))
        right = {"spec": {"placement": {"affinity": {"nodeAffinity": None}}}}
        api.request("PATCH", api.feed(namespace, "wrong"), right, MERGE)
        eventually(lambda: condition(api, namespace, "wrong", "IngestReady").get("reason") == "Starting", within=15)
        assert process.poll() is None
