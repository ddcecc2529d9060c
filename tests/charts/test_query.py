"""The query in the chart k2-platform: who may ask, what the API is told, and how many pods answer."""

import base64
from pathlib import Path
from typing import Any

import yaml

from k2.query.api.keys import Scope, hash_key, load
from k2.query.api.settings import PORT
from tests.charts.rendering import Manifest, needs_helm, of_kind, one, render

pytestmark = needs_helm

CHART = "k2-platform"


def query(kind: str, **values: Any) -> list[Manifest]:
    """The objects of a kind of the query."""
    return [
        found
        for found in of_kind(render(CHART, values={"query": values}), kind)
        if found["metadata"]["labels"]["app.kubernetes.io/component"] == "query"
    ]


def deployment(**values: Any) -> Manifest:
    """The query's Deployment."""
    (found,) = query("Deployment", **values)
    return found


def pod(**values: Any) -> Manifest:
    """The query's pod."""
    return deployment(**values)["spec"]["template"]["spec"]


def told(**values: Any) -> dict[str, Any]:
    """The variables that the query is told, those out of Secrets by the Secret's name and key."""
    found = {}
    for variable in pod(**values)["containers"][0]["env"]:
        reference = variable.get("valueFrom", {}).get("secretKeyRef", {})
        found[variable["name"]] = variable.get("value", (reference.get("name"), reference.get("key")))
    return found


def test_a_random_key_is_made_of_which_the_api_is_told_the_hash_only(tmp_path: Path):
    (secret,) = query("Secret")
    held = {name: base64.b64decode(text).decode() for name, text in secret["data"].items()}
    file = tmp_path / "keys.yaml"
    file.write_text(held["keys.yaml"])
    (key,) = load(file)
    assert key.hash == hash_key(held["key"])
    assert key.scopes == (Scope.READ, Scope.STREAM)
    assert held["key"] not in held["keys.yaml"]
    (keys,) = [volume["secret"] for volume in pod()["volumes"] if volume["name"] == "keys"]
    assert (keys["secretName"], keys["items"]) == ("k2-query-keys", [{"key": "keys.yaml", "path": "keys.yaml"}])
    assert told()["K2_API_KEYS"] == "/etc/k2/keys.yaml"


def test_the_scopes_of_the_random_key_can_be_chosen(tmp_path: Path):
    (secret,) = query("Secret", keys={"scopes": ["read", "sql"]})
    held = yaml.safe_load(base64.b64decode(secret["data"]["keys.yaml"]))
    assert held["keys"][0]["scopes"] == ["read", "sql"]


def test_a_file_of_keys_of_ones_own_takes_the_place_of_the_random_key():
    own = {"keys": {"existingSecret": "api", "key": "all.yaml"}}
    assert query("Secret", **own) == []
    (keys,) = [volume["secret"] for volume in pod(**own)["volumes"] if volume["name"] == "keys"]
    assert (keys["secretName"], keys["items"]) == ("api", [{"key": "all.yaml", "path": "keys.yaml"}])
    assert "K2_API_SECRET" not in told(**own)
    assert told()["K2_API_SECRET"] == ("k2-query-keys", "cursors")


def test_the_api_listens_where_the_service_and_the_probes_ask():
    container = pod()["containers"][0]
    (port,) = container["ports"]
    assert (told()["K2_API_HOST"], told()["K2_API_PORT"]) == ("0.0.0.0", str(port["containerPort"]))
    (service,) = query("Service", service={"port": 80})
    assert service["spec"]["ports"] == [{"name": "http", "port": 80, "targetPort": port["name"]}]
    (policy,) = query("NetworkPolicy")
    assert policy["spec"]["ingress"] == [{"ports": [{"port": port["containerPort"]}]}]
    probes = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "readiness", "liveness")}
    assert {probe["port"] for probe in probes.values()} == {port["name"]}
    assert {name: probe["path"] for name, probe in probes.items()} == {
        "startup": "/healthz",
        "readiness": "/readyz",
        "liveness": "/healthz",
    }
    assert port["containerPort"] == PORT


def test_named_clients_and_helm_test_and_nobody_else_may_ask():
    peer = {"namespaceSelector": {"matchLabels": {"team": "desk"}}}
    (policy,) = query("NetworkPolicy", clients=[peer])
    (rule,) = policy["spec"]["ingress"]
    assert rule["ports"] == [{"port": 8000}]
    assert peer in rule["from"]
    (own,) = [found for found in rule["from"] if found != peer]
    assert own["podSelector"]["matchExpressions"][0]["values"] == ["test"]


def test_nothing_but_the_querys_own_values_rolls_its_pods():
    def changed(**values: Any) -> Manifest:
        found = of_kind(render(CHART, values=values), "Deployment")
        return next(each for each in found if each["metadata"]["name"] == "k2-query")["spec"]["template"]

    assert changed(jobs={"extraEnv": [{"name": "A", "value": "b"}]}, audit={"suspend": True}) == changed()
    assert changed(query={"keys": {"scopes": ["sql"]}}) == changed()
    assert changed(query={"memory": "1GB"}) != changed()


def test_replicas_are_the_autoscalers_where_there_is_one():
    assert deployment(replicas=3)["spec"]["replicas"] == 3
    assert query("HorizontalPodAutoscaler", replicas=3) == []
    scaled = {"autoscaling": {"enabled": True, "min": 1, "max": 4, "cpu": 70}}
    assert "replicas" not in deployment(**scaled)["spec"]
    (found,) = query("HorizontalPodAutoscaler", **scaled)
    spec = found["spec"]
    assert spec["scaleTargetRef"]["name"] == deployment()["metadata"]["name"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (1, 4)
    assert spec["metrics"][0]["resource"]["target"]["averageUtilization"] == 70


def test_several_pods_are_spread_and_budgeted_and_one_is_not():
    many: tuple[dict[str, Any], ...] = ({"replicas": 2}, {"autoscaling": {"enabled": True, "min": 2}})
    for values in many:
        assert len(query("PodDisruptionBudget", **values)) == 1
        assert len(pod(**values)["topologySpreadConstraints"]) == 1
    for values in ({}, {"autoscaling": {"enabled": True, "min": 1}}):
        assert query("PodDisruptionBudget", **values) == []
        assert "topologySpreadConstraints" not in pod(**values)


def test_an_ingress_and_a_service_monitor_come_only_when_asked_for():
    assert query("Ingress") == query("ServiceMonitor") == []
    (ingress,) = query("Ingress", ingress={"enabled": True, "host": "k2.example.org", "tls": "cert"})
    assert ingress["spec"]["tls"] == [{"hosts": ["k2.example.org"], "secretName": "cert"}]
    (service,) = query("Service")
    (rule,) = ingress["spec"]["rules"]
    assert rule["host"] == "k2.example.org"
    assert rule["http"]["paths"][0]["backend"]["service"] == {
        "name": service["metadata"]["name"],
        "port": {"name": service["spec"]["ports"][0]["name"]},
    }
    (monitor,) = query("ServiceMonitor", serviceMonitor={"enabled": True, "labels": {"release": "prometheus"}})
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["spec"]["endpoints"][0]["port"] == service["spec"]["ports"][0]["name"]


def test_where_it_is_off_nothing_of_it_is_there():
    manifests = render(CHART, values={"query": {"enabled": False}})
    assert not [found for found in manifests if found["metadata"]["name"].startswith("k2-query")]
    environment = one(manifests, "Pod")["spec"]["containers"][0]["env"]
    assert {"name": "K2_QUERY_URL", "value": ""} in environment
