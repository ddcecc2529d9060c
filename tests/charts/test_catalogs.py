"""The Iceberg catalog of the charts: PostgreSQL or a REST catalog, and values that contradict each other."""

from typing import Any

import pytest

from tests.charts.rendering import Manifest, needs_helm, of_kind, render, render_error

pytestmark = needs_helm

URI = "https://catalog.example.org/api"
REST = {"type": "rest", "uri": URI, "existingSecret": "client", "users": {"query": {"existingSecret": "reader"}}}


def containers(manifests: list[Manifest]) -> dict[str, Manifest]:
    """Return the containers that use the catalog, by name, each with its pod's volumes."""
    pods = [each["spec"]["template"]["spec"] for each in of_kind(manifests, "Deployment") + of_kind(manifests, "Job")]
    pods += [each["spec"]["jobTemplate"]["spec"]["template"]["spec"] for each in of_kind(manifests, "CronJob")]
    return {
        container["name"]: container | {"volumes": pod["volumes"]}
        for pod in pods
        for container in pod["containers"]
        if "K2_CATALOG_URI" in {variable["name"] for variable in container.get("env", ())}
    }


def catalog_variables(container: Manifest) -> dict[str, Any]:
    """Return the variables of the catalog; those from a Secret as its name and key."""
    values = {}
    for variable in container["env"]:
        name, reference = variable["name"], variable.get("valueFrom", {}).get("secretKeyRef")
        if name.startswith("K2_CATALOG_"):
            key = name.removeprefix("K2_CATALOG_")
            values[key] = (reference["name"], reference["key"]) if reference else variable["value"]
    return values


def test_every_client_of_a_rest_catalog_has_its_address_and_an_oauth2_client_of_its_own():
    catalog = REST | {"warehouse": "market", "scope": "all", "oauth2Uri": "https://login.example.org/token"}
    used = containers(render("k2-platform", values={"catalog": catalog}))
    assert used.keys() == {"audit", "initialise", "query"}
    common = {"TYPE": "rest", "URI": URI, "WAREHOUSE": "market", "SCOPE": "all"}
    common |= {"OAUTH2_URI": "https://login.example.org/token"}
    for name, container in used.items():
        secret = "reader" if name == "query" else "client"
        own = {"USER": (secret, "username"), "PASSWORD": (secret, "password")}
        assert catalog_variables(container) == common | own


def test_a_token_is_a_file_and_in_no_variable():
    used = containers(render("k2-platform", values={"catalog": REST | {"tokenKey": "bearer"}}))
    for name, container in used.items():
        expected = {"TYPE": "rest", "URI": URI, "TOKEN_FILE": "/etc/k2-catalog/bearer"}
        assert catalog_variables(container) == expected
        assert "/etc/k2-catalog" in {mount["mountPath"] for mount in container["volumeMounts"]}
        (volume,) = [each for each in container["volumes"] if each["name"] == "catalog"]
        assert volume["secret"]["secretName"] == ("reader" if name == "query" else "client")


def test_postgresql_holds_no_catalog_beside_a_rest_catalog():
    manifests = render("k2-platform", values={"catalog": REST})
    names = {secret["metadata"]["name"] for secret in of_kind(manifests, "Secret")}
    assert not {"k2-catalog", "k2-catalog-query"} & names
    assert "k2-registry" in names
    (postgres,) = [each for each in of_kind(manifests, "StatefulSet") if each["metadata"]["name"] == "k2-postgres"]
    (volume,) = [each for each in postgres["spec"]["template"]["spec"]["volumes"] if each["name"] == "secrets"]
    sources = {source["secret"]["name"] for source in volume["projected"]["sources"] if "secret" in source}
    assert sources == {"k2-postgres", "k2-registry"}


def test_pods_may_connect_to_a_rest_catalog_and_to_where_its_tokens_come_from():
    catalog = REST | {"uri": "http://catalog:8181", "oauth2Uri": "https://login.example.org:8443/token"}
    (egress,) = [
        each
        for each in of_kind(render("k2-platform", values={"catalog": catalog}), "NetworkPolicy")
        if each["metadata"]["name"] == "k2-platform-egress"
    ]
    ports = {port["port"] for rule in egress["spec"]["egress"] for port in rule.get("ports", ())}
    assert {8181, 8443} <= ports


@pytest.mark.parametrize(
    ("chart", "values", "sentence"),
    [
        ("k2-platform", {"catalog": {"type": "rest"}}, "catalog.type is rest: set catalog.uri to the URL"),
        ("k2-platform", {"catalog": {"uri": URI}}, "catalog.type is jdbc: set it to rest"),
        ("k2-platform", {"catalog": {"scope": "all"}}, "are for a REST catalog: set catalog.type to rest"),
        (
            "k2-platform",
            {"catalog": {"type": "rest", "uri": URI, "tokenKey": "t"}},
            "set catalog.existingSecret to the Secret with the token",
        ),
        ("k2-operator", {"settings": {"catalogUri": URI}}, "an http or https URL is rest"),
        ("k2-operator", {"settings": {"catalogType": "rest"}}, "PostgreSQL is jdbc"),
        ("k2-operator", {"settings": {"catalogScope": "all"}}, "set settings.catalogType to rest"),
        (
            "k2-operator",
            {"settings": {"catalogUri": URI, "catalogType": "rest", "catalogSecret": "", "catalogTokenKey": "t"}},
            "set settings.catalogSecret to the Secret with the token",
        ),
    ],
)
def test_values_that_contradict_each_other_are_refused_with_a_sentence(
    chart: str, values: dict[str, Any], sentence: str
):
    assert sentence in render_error(chart, values)
