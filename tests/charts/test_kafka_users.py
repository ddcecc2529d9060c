"""Kafka in the chart k2-platform: its listener, the users and what they may do, and how the chart's pods connect."""

import json
from typing import Any

import pytest

from k2.common.platform import Platform
from k2.schemas import topics
from tests.charts.rendering import CHARTS, Manifest, needs_helm, of_kind, one, render, render_error

pytestmark = needs_helm

CHART = "k2-platform"
PLAINTEXT = {"kafka": {"tls": {"enabled": False}, "authentication": "none"}}
# What contracts say of each user: operations on topics, and the prefix of its consumer groups.
MAY = {
    "k2-ingest": ({"Describe", "Read", "Write"}, "k2-resume-"),
    "k2-jobs": ({"Describe", "Read"}, "spark-kafka-source-"),
    "k2-query": ({"Describe", "Read"}, "k2-query-"),
    "k2-audit": ({"Describe"}, None),
}


def kafka(manifests: list[Manifest]) -> Manifest:
    """Return the spec of the Kafka cluster."""
    spec: Manifest = one(manifests, "Kafka")["spec"]
    return spec


def clients(manifests: list[Manifest]) -> dict[str, Manifest]:
    """Return the pod specs that connect to Kafka, by component."""
    query = next(each for each in of_kind(manifests, "Deployment") if each["metadata"]["name"] == "k2-query")
    audit = one(manifests, "CronJob")["spec"]["jobTemplate"]["spec"]
    return {"audit": audit["template"]["spec"], "query": query["spec"]["template"]["spec"]}


def read(pod: Manifest, monkeypatch: pytest.MonkeyPatch) -> Platform:
    """Read a pod's variables as its process does."""
    for entry in pod["containers"][0]["env"]:
        monkeypatch.setenv(entry["name"], entry.get("value", "from-a-secret"))
    return Platform.read()


def files(pod: Manifest) -> dict[str, tuple[str, str]]:
    """Return Secret and key of each file under /etc/k2-kafka."""
    volumes = {volume["name"]: volume["secret"] for volume in pod["volumes"] if volume["name"].startswith("kafka-")}
    assert all(secret["optional"] is True for secret in volumes.values())
    return {
        f"{mount['mountPath']}/{item['path']}": (volumes[mount["name"]]["secretName"], item["key"])
        for mount in pod["containers"][0]["volumeMounts"]
        if mount["name"] in volumes
        for item in volumes[mount["name"]]["items"]
    }


def test_by_default_the_only_listener_has_tls_and_users_and_denies_what_no_acl_allows():
    manifests = render(CHART)
    (listener,) = kafka(manifests)["kafka"]["listeners"]
    assert {key: listener[key] for key in ("name", "port", "tls", "authentication")} == {
        "name": "tls",
        "port": 9093,
        "tls": True,
        "authentication": {"type": "scram-sha-512"},
    }
    assert kafka(manifests)["kafka"]["authorization"] == {"type": "simple"}
    assert "userOperator" in kafka(manifests)["entityOperator"]
    assert "9092" not in json.dumps(manifests)


@pytest.mark.parametrize("authentication", ["scram-sha-512", "tls"])
def test_each_component_has_a_user_with_the_acls_that_it_needs_and_no_others(authentication: str):
    values = {"kafka": {"authentication": authentication, "topicPrefixes": ["market.crypto.", "lab."]}}
    users = {user["metadata"]["name"]: user for user in of_kind(render(CHART, values=values), "KafkaUser")}
    assert users.keys() == MAY.keys()
    for name, (operations, group) in MAY.items():
        assert users[name]["metadata"]["labels"]["strimzi.io/cluster"] == "k2-kafka"
        spec = users[name]["spec"]
        assert spec["authentication"] == {"type": authentication}
        allowed = {
            (
                acl["resource"]["type"],
                acl["resource"]["name"],
                acl["resource"]["patternType"],
                *sorted(acl["operations"]),
            )
            for acl in spec["authorization"]["acls"]
        }
        assert allowed == {
            ("topic", prefix, "prefix", *sorted(operations)) for prefix in ("market.crypto.", "lab.")
        } | ({("group", group, "prefix", "Read")} if group else set())


def test_a_component_that_is_disabled_has_no_user():
    values = {"kafka": {"namespace": "kafka"}, "audit": {"enabled": False}, "query": {"enabled": False}}
    manifests = render(CHART, values=values)
    assert {user["metadata"]["name"] for user in of_kind(manifests, "KafkaUser")} == {"k2-ingest", "k2-jobs"}
    assert not {"k2-audit", "k2-query"} & {each["metadata"]["name"] for each in of_kind(manifests, "Secret")}


def test_the_prefix_is_that_of_all_topics_of_k2():
    (prefix,) = of_kind(render(CHART), "KafkaUser")[0]["spec"]["authorization"]["acls"][0]["resource"]["name"].split()
    named = [topics.gaps, topics.evidence, topics.instruments, topics.dead_letters, topics.trades]
    assert all(name("binance").startswith(prefix) for name in named)


@pytest.mark.parametrize("namespace", ["", "kafka"])
@pytest.mark.parametrize("component", ["audit", "query"])
def test_audit_and_query_connect_with_their_own_users(monkeypatch: pytest.MonkeyPatch, namespace: str, component: str):
    pod = clients(render(CHART, values={"kafka": {"namespace": namespace}}))[component]
    connection = read(pod, monkeypatch).kafka
    assert (connection.protocol, connection.username) == ("SASL_SSL", f"k2-{component}")
    assert connection.bootstrap.endswith(":9093")
    assert files(pod) == {
        connection.ca_file: ("k2-kafka-cluster-ca-cert", "ca.crt"),
        connection.password_file: (f"k2-{component}", "password"),
    }


def test_client_certificates_instead_of_passwords(monkeypatch: pytest.MonkeyPatch):
    pod = clients(render(CHART, values={"kafka": {"authentication": "tls"}}))["query"]
    connection = read(pod, monkeypatch).kafka
    assert (connection.protocol, connection.username) == ("SSL", "")
    assert files(pod) == {
        connection.ca_file: ("k2-kafka-cluster-ca-cert", "ca.crt"),
        connection.certificate_file: ("k2-query", "user.crt"),
        connection.key_file: ("k2-query", "user.key"),
    }


def test_an_existing_kafka_is_reached_with_existing_secrets(monkeypatch: pytest.MonkeyPatch):
    pods = clients(render(CHART, file=CHARTS / CHART / "ci/external-values.yaml"))
    audit = read(pods["audit"], monkeypatch).kafka
    assert audit.username == "market-audit"
    assert files(pods["audit"]) == {
        audit.ca_file: ("company-ca", "bundle.pem"),
        audit.password_file: ("kafka-audit", "secret"),
    }
    assert read(pods["query"], monkeypatch).kafka.username == "market-query"


def test_plaintext_is_a_choice_without_users_and_secrets(monkeypatch: pytest.MonkeyPatch):
    manifests = render(CHART, values=PLAINTEXT)
    (listener,) = kafka(manifests)["kafka"]["listeners"]
    assert (listener["port"], listener["tls"], "authentication" in listener) == (9092, False, False)
    assert "authorization" not in kafka(manifests)["kafka"]
    assert of_kind(manifests, "KafkaUser") == []
    for pod in clients(manifests).values():
        assert read(pod, monkeypatch).kafka.protocol == "PLAINTEXT"
        assert files(pod) == {}


def test_encryption_without_users(monkeypatch: pytest.MonkeyPatch):
    manifests = render(CHART, values={"kafka": {"authentication": "none"}})
    assert of_kind(manifests, "KafkaUser") == []
    pod = clients(manifests)["query"]
    connection = read(pod, monkeypatch).kafka
    assert (connection.protocol, connection.certificate_file) == ("SSL", "")
    assert files(pod) == {connection.ca_file: ("k2-kafka-cluster-ca-cert", "ca.crt")}


def test_the_catalogs_initialisation_has_no_user_of_kafka():
    job = next(each for each in of_kind(render(CHART), "Job") if each["metadata"]["name"] == "k2-catalog-init")
    pod = job["spec"]["template"]["spec"]
    assert files(pod) == {}
    assert not any(entry["name"].startswith("K2_KAFKA_CA") for entry in pod["containers"][0]["env"])


def test_secrets_are_copied_only_where_clients_are_not_in_kafkas_namespace():
    assert not any("credentials" in manifest["metadata"]["name"] for manifest in render(CHART))
    values: Any = {"kafka": {"namespace": "kafka"}, "feedNamespaces": ["one", "kafka"]}
    manifests = render(CHART, values=values)
    deployment = next(each for each in of_kind(manifests, "Deployment") if "credentials" in each["metadata"]["name"])
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    variables = {entry["name"]: entry["value"] for entry in container["env"]}
    authority, password = {"k2-kafka-cluster-ca-cert": ["ca.crt"]}, ["password"]
    assert variables["SOURCE"] == "kafka"
    assert json.loads(variables["COPIES"]) == {
        "k2": authority | {"k2-audit": password, "k2-query": password},
        "one": authority | {"k2-ingest": password, "k2-jobs": password},
    }
    placeholders = {
        (each["metadata"]["namespace"], each["metadata"]["name"])
        for each in of_kind(manifests, "Secret")
        if "namespace" in each["metadata"]
    }
    assert placeholders == {
        (namespace, name) for namespace, secrets in json.loads(variables["COPIES"]).items() for name in secrets
    }


def test_what_copies_the_secrets_may_read_and_fill_these_and_create_none():
    manifests = render(CHART, values={"kafka": {"namespace": "kafka"}})
    rules = {role["metadata"]["namespace"]: role["rules"] for role in of_kind(manifests, "Role")}
    secrets = ["k2-audit", "k2-ingest", "k2-jobs", "k2-kafka-cluster-ca-cert", "k2-query"]
    base = {"apiGroups": [""], "resources": ["secrets"], "resourceNames": secrets}
    assert rules == {"kafka": [{**base, "verbs": ["get"]}], "k2": [{**base, "verbs": ["get", "patch"]}]}
    bound = {binding["metadata"]["namespace"]: binding["subjects"] for binding in of_kind(manifests, "RoleBinding")}
    subject = {"kind": "ServiceAccount", "name": "k2-kafka-credentials", "namespace": "k2"}
    assert bound == {"kafka": [subject], "k2": [subject]}


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"tls": {"enabled": False}}, "kafka.authentication is scram-sha-512, which needs TLS: set kafka.tls.enabled"),
        ({"tls": {"enabled": False}, "authentication": "tls"}, "kafka.authentication is tls, which needs TLS"),
        (
            {"tls": {"enabled": False, "existingSecret": "ca"}, "authentication": "none"},
            "kafka.tls.existingSecret is set, but kafka.tls.enabled is false",
        ),
        ({"tls": {"existingSecret": "ca"}}, "are for an existing Kafka: remove them"),
        ({"users": {"audit": {"existingSecret": "x"}}}, "are for an existing Kafka: remove them"),
        ({"enabled": False, "bootstrap": "a:1"}, "kafka.tls.existingSecret must name the Secret"),
        (
            {"enabled": False, "bootstrap": "a:1", "tls": {"existingSecret": "ca"}},
            "kafka.users.audit.existingSecret must name the Secret of the user",
        ),
        (
            {
                "enabled": False,
                "bootstrap": "a:1",
                "tls": {"existingSecret": "ca"},
                "users": {"audit": {"existingSecret": "x"}},
            },
            "kafka.users.query.existingSecret must name the Secret of the user",
        ),
        ({"users": {"passwordKey": ""}}, "/kafka/users/passwordKey"),
        ({"tls": {"key": ""}}, "/kafka/tls/key"),
        ({"authentication": "oauth"}, "/kafka/authentication"),
        ({"topicPrefixes": []}, "/kafka/topicPrefixes"),
    ],
)
def test_contradicting_values_are_refused_with_a_sentence(values: Any, sentence: str):
    assert sentence in render_error(CHART, {"kafka": values})
