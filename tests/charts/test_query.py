"""The query in the chart k2-platform: API keys, environment, network access and number of pods."""

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
    """Return the query's objects of a kind."""
    return [
        manifest
        for manifest in of_kind(render(CHART, values={"query": values}), kind)
        if manifest["metadata"]["labels"]["app.kubernetes.io/component"] == "query"
    ]


def deployment(**values: Any) -> Manifest:
    """Return the query's Deployment."""
    (manifest,) = query("Deployment", **values)
    return manifest


def pod(**values: Any) -> Manifest:
    """Return the query's pod spec."""
    return deployment(**values)["spec"]["template"]["spec"]


def environment(**values: Any) -> dict[str, Any]:
    """Return the environment of the query, with name and key of the Secret for references."""
    variables = {}
    for variable in pod(**values)["containers"][0]["env"]:
        reference = variable.get("valueFrom", {}).get("secretKeyRef", {})
        variables[variable["name"]] = variable.get("value", (reference.get("name"), reference.get("key")))
    return variables


def test_a_random_key_is_generated_and_the_api_gets_only_its_hash(tmp_path: Path):
    (secret,) = query("Secret")
    data = {name: base64.b64decode(text).decode() for name, text in secret["data"].items()}
    file = tmp_path / "keys.yaml"
    file.write_text(data["keys.yaml"])
    (key,) = load(file)
    assert key.hash == hash_key(data["key"])
    assert key.scopes == (Scope.READ, Scope.STREAM)
    assert data["key"] not in data["keys.yaml"]
    (keys,) = [volume["secret"] for volume in pod()["volumes"] if volume["name"] == "keys"]
    assert (keys["secretName"], keys["items"]) == ("k2-query-keys", [{"key": "keys.yaml", "path": "keys.yaml"}])
    assert environment()["K2_API_KEYS"] == "/etc/k2/keys.yaml"


def test_the_scopes_of_the_generated_key_are_configurable(tmp_path: Path):
    (secret,) = query("Secret", keys={"scopes": ["read", "sql"]})
    keys = yaml.safe_load(base64.b64decode(secret["data"]["keys.yaml"]))
    assert keys["keys"][0]["scopes"] == ["read", "sql"]


def test_an_existing_key_file_replaces_the_generated_key():
    own = {"keys": {"existingSecret": "api", "key": "all.yaml"}}
    assert query("Secret", **own) == []
    (keys,) = [volume["secret"] for volume in pod(**own)["volumes"] if volume["name"] == "keys"]
    assert (keys["secretName"], keys["items"]) == ("api", [{"key": "all.yaml", "path": "keys.yaml"}])
    assert "K2_API_SECRET" not in environment(**own)
    assert environment()["K2_API_SECRET"] == ("k2-query-keys", "cursors")


def test_the_api_listens_on_the_port_of_the_service_and_the_probes():
    container = pod()["containers"][0]
    (port,) = container["ports"]
    assert (environment()["K2_API_HOST"], environment()["K2_API_PORT"]) == ("0.0.0.0", str(port["containerPort"]))
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


def test_listed_clients_and_helm_test_only_may_connect():
    peer = {"namespaceSelector": {"matchLabels": {"team": "desk"}}}
    (policy,) = query("NetworkPolicy", clients=[peer])
    (rule,) = policy["spec"]["ingress"]
    assert rule["ports"] == [{"port": 8000}]
    assert peer in rule["from"]
    (own,) = [other for other in rule["from"] if other != peer]
    assert own["podSelector"]["matchExpressions"][0]["values"] == ["test"]


def test_only_the_querys_own_values_restart_its_pods():
    def changed(**values: Any) -> Manifest:
        deployments = of_kind(render(CHART, values=values), "Deployment")
        return next(manifest for manifest in deployments if manifest["metadata"]["name"] == "k2-query")["spec"][
            "template"
        ]

    assert changed(jobs={"extraEnv": [{"name": "A", "value": "b"}]}, audit={"suspend": True}) == changed()
    assert changed(query={"keys": {"scopes": ["sql"]}}) == changed()
    assert changed(query={"memory": "1GB"}) != changed()


def test_the_autoscaler_replaces_replicas():
    assert deployment(replicas=3)["spec"]["replicas"] == 3
    assert query("HorizontalPodAutoscaler", replicas=3) == []
    scaled = {"autoscaling": {"enabled": True, "min": 1, "max": 4, "cpu": 70}}
    assert "replicas" not in deployment(**scaled)["spec"]
    (autoscaler,) = query("HorizontalPodAutoscaler", **scaled)
    spec = autoscaler["spec"]
    assert spec["scaleTargetRef"]["name"] == deployment()["metadata"]["name"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (1, 4)
    assert spec["metrics"][0]["resource"]["target"]["averageUtilization"] == 70


def test_only_several_pods_have_a_disruption_budget_and_a_spread_constraint():
    many: tuple[dict[str, Any], ...] = ({"replicas": 2}, {"autoscaling": {"enabled": True, "min": 2}})
    for values in many:
        assert len(query("PodDisruptionBudget", **values)) == 1
        assert len(pod(**values)["topologySpreadConstraints"]) == 1
    for values in ({}, {"autoscaling": {"enabled": True, "min": 1}}):
        assert query("PodDisruptionBudget", **values) == []
        assert "topologySpreadConstraints" not in pod(**values)


def test_ingress_and_service_monitor_are_disabled_by_default():
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


def test_without_the_query_no_object_of_it_is_rendered():
    manifests = render(CHART, values={"query": {"enabled": False}})
    assert not [manifest for manifest in manifests if manifest["metadata"]["name"].startswith("k2-query")]
    environment = one(manifests, "Pod")["spec"]["containers"][0]["env"]
    assert {"name": "K2_QUERY_URL", "value": ""} in environment


def test_the_catalog_is_read_as_a_user_of_its_own_which_only_the_chart_s_postgresql_makes():
    assert environment()["K2_CATALOG_USER"] == ("k2-catalog-query", "username")
    assert environment()["K2_CATALOG_PASSWORD"] == ("k2-catalog-query", "password")
    manifests = render(CHART)
    (secret,) = [each for each in of_kind(manifests, "Secret") if each["metadata"]["name"] == "k2-catalog-query"]
    assert base64.b64decode(secret["data"]["username"]) == b"k2-query"
    database = of_kind(manifests, "StatefulSet")
    assert "catalog-query/password" in str([each for each in database if each["metadata"]["name"] == "k2-postgres"])

    elsewhere = {"postgres": {"enabled": False}, "registry": {"databaseUri": "postgresql://db:5432/registry"}}
    elsewhere["registry"] |= {"existingSecret": "lake-registry"}
    for own, expected in (("", "lake-catalog"), ("lake-reader", "lake-reader")):
        catalog = {"uri": "postgresql://db:5432/iceberg", "existingSecret": "lake-catalog"}
        catalog |= {"users": {"query": {"existingSecret": own}}}
        manifests = render(CHART, values=elsewhere | {"catalog": catalog})
        (service,) = [each for each in of_kind(manifests, "Deployment") if each["metadata"]["name"] == "k2-query"]
        variables = service["spec"]["template"]["spec"]["containers"][0]["env"]
        (user,) = [each["valueFrom"]["secretKeyRef"] for each in variables if each["name"] == "K2_CATALOG_USER"]
        assert user == {"name": expected, "key": "username"}
        assert "k2-catalog-query" not in str(manifests)
