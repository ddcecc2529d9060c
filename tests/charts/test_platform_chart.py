"""The chart k2-platform: rendered objects, compatibility with the operator, and validation of values."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from k2.operator.desired.naming import INGEST, JOBS_PORT, labels, selector
from k2.operator.settings import Settings, load
from k2.schemas.feed.model import ExchangeFeed
from tests.charts.rendering import CHARTS, SCENARIOS, Manifest, name, needs_helm, of_kind, one, render, render_error

pytestmark = needs_helm

CHART = "k2-platform"
PROTOCOLS = ("UDP", "TCP")
OWN = [scenario for scenario in SCENARIOS if scenario.parents[1].name == CHART]
WORKLOADS = ("StatefulSet", "Deployment", "Job", "CronJob", "Pod")


def named(manifests: list[Manifest], kind: str, name_: str) -> Manifest:
    """Return the object of a kind and name."""
    (manifest,) = [manifest for manifest in of_kind(manifests, kind) if manifest["metadata"]["name"] == name_]
    return manifest


def scenario(stem: str) -> list[Manifest]:
    """Render one of the values files in ci/."""
    return render(CHART, file=CHARTS / CHART / f"ci/{stem}-values.yaml")


def pods(manifests: list[Manifest]) -> Iterator[Manifest]:
    """Yield the pod templates of the chart's own workloads."""
    for kind in WORKLOADS:
        for manifest in of_kind(manifests, kind):
            spec = manifest["spec"]
            spec = spec["jobTemplate"]["spec"] if kind == "CronJob" else spec
            yield manifest if kind == "Pod" else spec["template"]


def variables(container: Manifest) -> dict[str, Any]:
    """Return the environment of a container: values, or the Secret and key of a reference."""
    values = {}
    for variable in container["env"]:
        reference = variable.get("valueFrom", {}).get("secretKeyRef")
        values[variable["name"]] = (reference["name"], reference["key"]) if reference else variable["value"]
    return values


def audit(manifests: list[Manifest]) -> dict[str, Any]:
    """Return the environment of the audit."""
    pod = one(manifests, "CronJob")["spec"]["jobTemplate"]["spec"]["template"]
    return variables(pod["spec"]["containers"][0])


@pytest.fixture(scope="module")
def default() -> list[Manifest]:
    return scenario("default")


def operator_settings() -> Settings:
    """Return the default settings of the operator's chart."""
    return load(one(render("k2-operator"), "ConfigMap")["data"]["settings.yaml"], {})


def test_created_objects_match_the_operators_default_settings(default: list[Manifest]):
    expected = operator_settings()
    kafka = one(default, "Kafka")["metadata"]["name"]
    assert (expected.kafka_cluster, expected.kafka_bootstrap) == (kafka, f"{kafka}-kafka-bootstrap:9093")
    addresses = {
        f"{service['metadata']['name']}:{port['port']}"
        for service in of_kind(default, "Service")
        for port in service["spec"]["ports"]
    }
    urls = (expected.registry_url, expected.catalog_uri, expected.s3_endpoint)
    assert {url.split("/")[2] for url in urls} == addresses - {"k2-query:8000"}
    catalog, keys = (
        named(default, "Secret", secret)["data"] for secret in (expected.catalog_secret, expected.s3_secret)
    )
    assert set(catalog) == {expected.catalog_user_key, expected.catalog_password_key}
    assert set(keys) == {expected.s3_access_key, expected.s3_secret_key}


def test_the_audit_has_the_services_of_the_drivers(default: list[Manifest]):
    expected, environment = operator_settings(), audit(default)
    assert environment["K2_KAFKA_BOOTSTRAP"] == expected.kafka_bootstrap
    assert environment["K2_REGISTRY_URL"] == expected.registry_url
    assert environment["K2_CATALOG_URI"] == expected.catalog_uri
    assert (environment["K2_WAREHOUSE"], environment["K2_CHECKPOINTS"]) == (expected.warehouse, expected.checkpoints)
    assert (environment["K2_S3_ENDPOINT"], environment["K2_S3_PATH_STYLE"]) == (expected.s3_endpoint, "true")
    assert environment["K2_S3_REGION"] == environment["AWS_REGION"] == expected.s3_region
    assert environment["K2_CATALOG_PASSWORD"] == (expected.catalog_secret, expected.catalog_password_key)
    assert environment["AWS_SECRET_ACCESS_KEY"] == ("k2-s3-audit", expected.s3_secret_key)


@pytest.mark.parametrize(("brokers", "copies", "in_sync"), [(1, 1, 1), (2, 2, 1), (3, 3, 2), (5, 3, 2)])
def test_the_replication_factor_follows_the_number_of_brokers(brokers: int, copies: int, in_sync: int):
    manifests = render(CHART, values={"kafka": {"replicas": brokers}})
    assert one(manifests, "KafkaNodePool")["spec"]["replicas"] == brokers
    config = one(manifests, "Kafka")["spec"]["kafka"]["config"]
    assert {value for key, value in config.items() if key.endswith("replication.factor")} == {copies}
    assert {value for key, value in config.items() if key.endswith(("min.isr", "min.insync.replicas"))} == {in_sync}
    assert config["auto.create.topics.enable"] is False


def test_a_broker_setting_of_the_values_takes_precedence():
    config = {"min.insync.replicas": 3, "log.retention.hours": 72}
    rendered = one(render(CHART, values={"kafka": {"replicas": 3, "config": config}}), "Kafka")["spec"]["kafka"][
        "config"
    ]
    assert config.items() <= rendered.items()
    assert rendered["default.replication.factor"] == 3


def test_for_strimzi_v1beta2_annotations_enable_node_pools():
    old = render(CHART, values={"kafka": {"apiVersion": "kafka.strimzi.io/v1beta2"}})
    expected = {"strimzi.io/node-pools": "enabled", "strimzi.io/kraft": "enabled"}
    assert one(old, "Kafka")["metadata"]["annotations"] == expected
    assert one(old, "KafkaNodePool")["apiVersion"] == "kafka.strimzi.io/v1beta2"
    assert "annotations" not in one(render(CHART), "Kafka")["metadata"]


@pytest.mark.parametrize("path", OWN, ids=name)
def test_no_pod_has_a_token_service_links_or_duplicate_variables(path: Path):
    for pod in pods(render(CHART, file=path)):
        copies_secrets = pod["metadata"]["labels"]["app.kubernetes.io/component"] == "kafka-credentials"
        assert pod["spec"]["automountServiceAccountToken"] is copies_secrets
        assert pod["spec"]["enableServiceLinks"] is False
        for container in pod["spec"]["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert container["resources"]["limits"]["memory"]
            names = [variable["name"] for variable in container.get("env", ())]
            assert len(names) == len(set(names))


@pytest.mark.parametrize("path", OWN, ids=name)
def test_selectors_match_pods_of_the_chart_and_an_upgrade_restarts_none(path: Path):
    manifests = render(CHART, file=path)
    pod_labels = [pod["metadata"]["labels"].items() for pod in pods(manifests)]
    selectors = [manifest["spec"]["selector"]["matchLabels"] for manifest in of_kind(manifests, "PodDisruptionBudget")]
    selectors += [manifest["spec"]["selector"] for manifest in of_kind(manifests, "Service")]
    selectors += [
        manifest["spec"]["selector"]["matchLabels"] for kind in WORKLOADS[:2] for manifest in of_kind(manifests, kind)
    ]
    for selected in selectors:
        assert sum(selected.items() <= manifest for manifest in pod_labels) == 1
    for template in (manifest["spec"]["template"] for kind in WORKLOADS[:2] for manifest in of_kind(manifests, kind)):
        assert not {"app.kubernetes.io/version", "helm.sh/chart"} & set(template["metadata"]["labels"])


FEED = ExchangeFeed.from_yaml((CHARTS.parent / "manifests/samples/binance.yaml").read_bytes())
_RELEASE_LABELS = {"app.kubernetes.io/name": "k2-platform", "app.kubernetes.io/instance": "k2-platform"}


def own(component: str) -> dict[str, str]:
    """Return the labels of a pod of the chart."""
    return {**_RELEASE_LABELS, "app.kubernetes.io/component": component}


CLIENTS = {
    "ingest": labels(FEED, INGEST),
    "driver": selector(FEED, "bronze"),
    "executor": selector(FEED, "bronze") | {"app.kubernetes.io/component": "bronze-executor"},
    "audit": own("audit"),
    "catalog-init": own("catalog-init"),
    "bucket": own("bucket"),
    "registry": own("registry"),
    "query": own("query"),
    "test": own("test"),
    "other": {"app": "other"},
}


def matches(selector_: Manifest, pod_labels: dict[str, str]) -> bool:
    """Return whether a label selector matches a pod."""
    result = selector_.get("matchLabels", {}).items() <= pod_labels.items()
    for rule in selector_.get("matchExpressions", ()):
        value, values = pod_labels.get(rule["key"]), rule.get("values", ())
        result = (
            result
            and {"Exists": value is not None, "In": value in values, "NotIn": value not in values}[rule["operator"]]
        )
    return result


def admitted(policy: Manifest, port: int) -> set[str]:
    """Return the clients in the same namespace that a policy admits to a port."""
    peers = [peer for rule in policy["spec"]["ingress"] if {"port": port} in rule["ports"] for peer in rule["from"]]
    return {
        client
        for client, pod_labels in CLIENTS.items()
        if any("namespaceSelector" not in peer and matches(peer["podSelector"], pod_labels) for peer in peers)
    }


@pytest.mark.parametrize(
    ("policy", "port", "clients"),
    [
        ("k2-kafka-clients", 9093, {"ingest", "driver", "executor", "audit", "query", "test"}),
        ("k2-registry", 8080, {"ingest", "driver", "executor", "audit", "query", "test"}),
        ("k2-postgres", 5432, {"driver", "executor", "audit", "catalog-init", "registry", "query", "test"}),
        ("k2-minio", 9000, {"driver", "executor", "audit", "catalog-init", "bucket", "query", "test"}),
    ],
)
def test_a_policy_admits_only_the_clients_of_its_service(
    default: list[Manifest], policy: str, port: int, clients: set[str]
):
    assert admitted(named(default, "NetworkPolicy", policy), port) == clients


def test_strimzi_reaches_the_brokers_and_their_agents(default: list[Manifest]):
    rules = named(default, "NetworkPolicy", "k2-kafka-clients")["spec"]["ingress"]
    (ports,) = [rule["ports"] for rule in rules if "strimzi-cluster-operator" in str(rule["from"])]
    assert ports == [{"port": 9090}, {"port": 9091}, {"port": 8443}]  # replication, control plane, agent


def test_strimzis_own_policy_admits_the_same_peers():
    for path in OWN:
        manifests = render(CHART, file=path)
        for kafka in of_kind(manifests, "Kafka"):
            (listener,) = kafka["spec"]["kafka"]["listeners"]
            policies = [
                manifest
                for manifest in of_kind(manifests, "NetworkPolicy")
                if manifest["metadata"]["name"] == "k2-kafka-clients"
            ]
            rules = [policy["spec"]["ingress"][0]["from"] for policy in policies]
            assert rules == ([listener["networkPolicyPeers"]] if "networkPolicyPeers" in listener else [])


def test_feed_pods_are_admitted_from_the_feed_namespaces_only():
    manifests = render(CHART, values={"feedNamespaces": ["one", "two"]})
    for policy in (
        manifest
        for manifest in of_kind(manifests, "NetworkPolicy")
        if manifest["metadata"]["name"] != "k2-query" and "ingress" in manifest["spec"]
    ):
        feeds = policy["spec"]["ingress"][0]["from"][0]
        (rule,) = feeds["namespaceSelector"]["matchExpressions"]
        assert (rule["key"], rule["values"]) == ("kubernetes.io/metadata.name", ["one", "two"])


def test_kafka_in_its_own_namespace_is_addressed_there_and_admits_the_release():
    manifests = render(CHART, values={"kafka": {"namespace": "kafka"}})
    policy = named(manifests, "NetworkPolicy", "k2-kafka-clients")
    objects = [one(manifests, "Kafka"), one(manifests, "KafkaNodePool"), policy]
    assert [manifest["metadata"]["namespace"] for manifest in objects] == ["kafka"] * 3
    assert audit(manifests)["K2_KAFKA_BOOTSTRAP"] == "k2-kafka-kafka-bootstrap.kafka:9093"
    peers = policy["spec"]["ingress"][0]["from"]
    assert [peer["namespaceSelector"]["matchExpressions"][0]["values"] for peer in peers] == [["k2"], ["k2"]]


def egress(manifests: list[Manifest], policy: str = "k2-platform-egress") -> list[Manifest]:
    """Return the rules of an egress policy of the chart."""
    spec = named(manifests, "NetworkPolicy", policy)["spec"]
    assert spec["policyTypes"] == ["Egress"]
    rules: list[Manifest] = spec["egress"]
    return rules


def test_every_pod_of_the_chart_reaches_only_name_servers_the_chart_and_kafka(default: list[Manifest]):
    dns, own_pods, kafka = egress(default)
    assert dns == {
        "ports": [{"port": port, "protocol": protocol} for port in (53, 5353) for protocol in ("UDP", "TCP")]
    }
    assert own_pods == {"to": [{"podSelector": {"matchLabels": _RELEASE_LABELS}}]}
    assert kafka["ports"] == [{"port": 9093}]
    assert kafka["to"][0]["podSelector"]["matchLabels"]["strimzi.io/cluster"] == "k2-kafka"
    selector_ = named(default, "NetworkPolicy", "k2-platform-egress")["spec"]["podSelector"]
    for pod in pods(default):
        assert matches(selector_, pod["metadata"]["labels"])
    for client, pod_labels in CLIENTS.items():
        assert matches(selector_, pod_labels) is (client not in {"ingest", "driver", "executor", "other"})


def test_services_elsewhere_are_reached_by_port_but_not_at_link_local_addresses():
    values = {"networkPolicy": {"ipv6": True}, "s3": {"endpoint": "https://store.example.org:9001"}}
    manifests = render(CHART, file=CHARTS / CHART / "ci/external-values.yaml", values=values)
    _, _, elsewhere, identity = egress(manifests)
    assert elsewhere["ports"] == [{"port": 9092}, {"port": 443}, {"port": 5432}, {"port": 9001}]
    assert elsewhere["to"] == [
        {"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16"]}},
        {"ipBlock": {"cidr": "::/0", "except": ["fe80::/10", "fd00:ec2::254/128"]}},
        {"namespaceSelector": {}},
    ]
    assert identity["to"] == [{"ipBlock": {"cidr": "169.254.0.0/16"}}]
    keys = {"s3": {"users": {user: {"existingSecret": user} for user in ("jobs", "audit", "query")}}}
    assert len(egress(render(CHART, file=CHARTS / CHART / "ci/external-values.yaml", values=keys))) == 3


def test_the_receiver_of_traces_is_reached():
    variables = [{"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "http://collector.observability:4318"}]
    before = egress(render(CHART))
    (rule,) = [each for each in egress(render(CHART, values={"extraEnv": variables})) if each not in before]
    assert rule["ports"] == [{"port": 4318}]


def test_what_copies_kafkas_secrets_reaches_the_api_server():
    values = {"kafka": {"namespace": "kafka"}, "networkPolicy": {"apiServerPorts": [16443]}}
    (rule,) = egress(render(CHART, values=values), "k2-kafka-credentials")
    assert rule["ports"] == [{"port": 16443}]
    assert {"namespaceSelector": {}} in rule["to"]


def test_default_deny_still_allows_spark_and_metrics():
    manifests = scenario("three-brokers")
    assert named(manifests, "NetworkPolicy", "k2-default-deny")["spec"] == {
        "podSelector": {},
        "policyTypes": ["Ingress"],
    }
    spec = named(manifests, "NetworkPolicy", "k2-feeds")["spec"]
    for client, selected in (("driver", True), ("executor", True), ("ingest", False)):
        assert matches(spec["podSelector"], CLIENTS[client]) is selected
        assert matches(spec["ingress"][0]["from"][0]["podSelector"], CLIENTS[client]) is selected
    assert spec["ingress"][1] == {"ports": [{"port": JOBS_PORT}]}


def test_with_external_services_only_audit_catalog_tables_and_query_remain():
    manifests = scenario("external")
    query = [manifest["kind"] for manifest in manifests if manifest["metadata"]["name"].startswith("k2-query")]
    assert sorted(query) == ["Deployment", "NetworkPolicy", "Secret", "Service"]
    others = [manifest["kind"] for manifest in manifests if not manifest["metadata"]["name"].startswith("k2-query")]
    assert sorted(others) == ["CronJob", "Job", "NetworkPolicy", "Pod"]
    environment = audit(manifests)
    assert environment["K2_KAFKA_BOOTSTRAP"] == "broker-1.example.org:9092,broker-2.example.org:9092"
    assert environment["K2_CATALOG_URI"] == "postgresql://database.example.org:5432/iceberg"
    assert environment["K2_CATALOG_USER"] == ("lake-catalog", "username")
    assert (environment["K2_S3_ENDPOINT"], environment["K2_S3_PATH_STYLE"]) == ("", "false")
    assert (environment["K2_WAREHOUSE"], environment["K2_CHECKPOINTS"]) == (
        "s3://example-lake/warehouse",
        "s3a://example-lake/checkpoints",
    )
    assert "AWS_ACCESS_KEY_ID" not in environment  # the ServiceAccount's identity


def test_the_registry_may_use_an_external_database():
    container = one(scenario("store-and-database-external"), "Deployment")["spec"]["template"]["spec"]["containers"][0]
    environment = variables(container)
    assert environment["APICURIO_DATASOURCE_URL"] == "jdbc:postgresql://database.example.org:5432/registry"
    assert environment["APICURIO_DATASOURCE_PASSWORD"] == ("lake-registry", "password")


def test_existing_secrets_are_used_with_their_keys_and_none_is_created():
    manifests = scenario("own-secrets")
    assert of_kind(manifests, "Secret") == []
    environment = audit(manifests)
    assert (environment["K2_CATALOG_USER"], environment["K2_CATALOG_PASSWORD"]) == (
        ("catalog-user", "user"),
        ("catalog-user", "secret"),
    )
    assert (environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"]) == (
        ("store-audit", "key"),
        ("store-audit", "secret"),
    )
    postgres = named(manifests, "StatefulSet", "k2-postgres")["spec"]["template"]["spec"]["volumes"]
    (projected,) = [volume["projected"]["sources"] for volume in postgres if "projected" in volume]
    secrets = {
        source["secret"]["name"]: {item["key"]: item["path"] for item in source["secret"]["items"]}
        for source in projected
        if "secret" in source
    }
    assert secrets == {
        "superuser": {"postgres-password": "postgres/password"},
        "catalog-user": {"user": "catalog/username", "secret": "catalog/password"},
        "catalog-reader": {"user": "catalog-query/username", "secret": "catalog-query/password"},
        "registry-user": {"username": "registry/username", "password": "registry/password"},
    }


def test_passwords_are_random_and_no_two_are_equal(default: list[Manifest]):
    passwords = [
        value
        for manifests in (default, render(CHART))
        for secret in of_kind(manifests, "Secret")
        for key, value in secret["data"].items()
        if "user" not in key and key != "access-key"
    ]
    assert len(passwords) == len(set(passwords)) == 22
    assert min(map(len, passwords)) >= 40


def test_the_bucket_is_created_before_the_tables(default: list[Manifest]):
    bucket, tables = (named(default, "Job", job)["metadata"]["annotations"] for job in ("k2-bucket", "k2-catalog-init"))
    assert bucket["helm.sh/hook"] == tables["helm.sh/hook"] == "post-install,post-upgrade"
    assert int(bucket["helm.sh/hook-weight"]) < int(tables["helm.sh/hook-weight"])


def test_findings_fail_an_audit_at_once_and_audits_do_not_overlap(default: list[Manifest]):
    spec = one(default, "CronJob")["spec"]
    assert (spec["concurrencyPolicy"], spec["schedule"], spec["timeZone"]) == ("Forbid", "10 * * * *", "Etc/UTC")
    job = spec["jobTemplate"]["spec"]
    (rule,) = job["podFailurePolicy"]["rules"]
    container = job["template"]["spec"]["containers"][0]
    assert rule["onExitCodes"] == {"containerName": container["name"], "operator": "In", "values": [1, 2]}
    assert (rule["action"], job["template"]["spec"]["restartPolicy"]) == ("FailJob", "Never")
    assert (container["command"], container["args"][0]) == (["python", "-m", "k2.jobs.audit"], "--master=local[1]")


def test_only_workloads_with_several_pods_have_a_disruption_budget(default: list[Manifest]):
    assert of_kind(default, "PodDisruptionBudget") == []
    budgets = of_kind(scenario("three-brokers"), "PodDisruptionBudget")
    assert {manifest["metadata"]["name"]: manifest["spec"]["maxUnavailable"] for manifest in budgets} == {
        "k2-registry": 1,
        "k2-query": 1,
    }


@pytest.mark.parametrize(
    ("values", "path"),
    [
        ({"kafak": {}}, "kafak"),
        ({"kafka": {"replica": 3}}, "/kafka"),
        ({"kafka": {"replicas": "3"}}, "/kafka/replicas"),
        ({"kafka": {"replicas": 0}}, "/kafka/replicas"),
        ({"kafka": {"enabled": False}}, "/kafka/bootstrap"),
        ({"kafka": {"enabled": False, "bootstrap": "broker"}}, "/kafka/bootstrap"),
        ({"registry": {"enabled": False}}, "/registry/url"),
        ({"postgres": {"enabled": False}}, "/catalog/uri"),
        ({"postgres": {"enabled": False}, "catalog": {"uri": "postgresql://host/db"}}, "/catalog/existingSecret"),
        ({"postgres": {"enabled": False}}, "/registry/databaseUri"),
        ({"catalog": {"uri": "postgresql://user:password@host/db"}}, "/catalog/uri"),
        ({"s3": {"endpoint": "store:9000"}}, "/s3/endpoint"),
        ({"s3": {"checkpoints": "s3://bucket/checkpoints"}}, "/s3/checkpoints"),
        ({"images": {"jobs": {"digest": "sha256:1"}}}, "/images/jobs/digest"),
        ({"store": {"resources": {"limit": {}}}}, "/store/resources"),
        ({"store": {"type": "ceph"}}, "/store/type"),
        ({"s3": {"accessKeyKey": ""}}, "/s3/accessKeyKey"),
        (
            {"store": {"type": "external"}, "s3": {"existingSecret": "store"}},
            "name the Secrets of jobs, audit and query",
        ),
        ({"s3": {"endpoint": "https://store.example.org"}}, "s3.endpoint is set, but store.type is minio"),
        ({"networkPolicy": {"enabled": "yes"}}, "/networkPolicy/enabled"),
        ({"query": {"replicas": 0}}, "/query/replicas"),
        ({"query": {"memory": "1Gi"}}, "/query/memory"),
        ({"query": {"ingress": {"enabled": True}}}, "/query/ingress/host"),
        ({"query": {"ingress": {"host": "https://k2.example.org"}}}, "/query/ingress/host"),
        ({"query": {"keys": {"scopes": ["write"]}}}, "/query/keys/scopes/0"),
        ({"query": {"autoscaling": {"min": 0}}}, "/query/autoscaling/min"),
        ({"query": {"service": {"type": "ExternalName"}}}, "/query/service/type"),
    ],
)
def test_an_invalid_value_is_rejected_with_its_path(values: Any, path: str):
    assert path in render_error(CHART, values)
