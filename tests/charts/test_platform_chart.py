"""The chart k2-platform: what it renders, how it fits the operator, and which values it refuses."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from k2.operator.desired.naming import INGEST, JOBS_PORT, labels, selector
from k2.operator.settings import Settings, load
from k2.schemas.feed.model import ExchangeFeed
from tests.charts.rendering import CHARTS, SCENARIOS, Manifest, name, needs_helm, of_kind, one, refusal, render

pytestmark = needs_helm

CHART = "k2-platform"
OWN = [scenario for scenario in SCENARIOS if scenario.parents[1].name == CHART]
WORKLOADS = ("StatefulSet", "Deployment", "Job", "CronJob", "Pod")


def named(manifests: list[Manifest], kind: str, wanted: str) -> Manifest:
    """The object of a kind and name."""
    (found,) = [found for found in of_kind(manifests, kind) if found["metadata"]["name"] == wanted]
    return found


def scenario(wanted: str) -> list[Manifest]:
    """What is rendered of one of the files in ci/."""
    return render(CHART, file=CHARTS / CHART / f"ci/{wanted}-values.yaml")


def pods(manifests: list[Manifest]) -> Iterator[Manifest]:
    """The pods that the chart makes itself, as templates."""
    for kind in WORKLOADS:
        for found in of_kind(manifests, kind):
            spec = found["spec"]
            spec = spec["jobTemplate"]["spec"] if kind == "CronJob" else spec
            yield found if kind == "Pod" else spec["template"]


def variables(container: Manifest) -> dict[str, Any]:
    """The variables of a container: their values, or the Secret and key that they come from."""
    found = {}
    for variable in container["env"]:
        reference = variable.get("valueFrom", {}).get("secretKeyRef")
        found[variable["name"]] = (reference["name"], reference["key"]) if reference else variable["value"]
    return found


def audit(manifests: list[Manifest]) -> dict[str, Any]:
    """What the audit is told of its services."""
    pod = one(manifests, "CronJob")["spec"]["jobTemplate"]["spec"]["template"]
    return variables(pod["spec"]["containers"][0])


@pytest.fixture(scope="module")
def default() -> list[Manifest]:
    return scenario("default")


def operator_settings() -> Settings:
    """What the operator's chart expects by default."""
    return load(one(render("k2-operator"), "ConfigMap")["data"]["settings.yaml"], {})


def test_what_the_operator_expects_by_default_is_what_is_made(default: list[Manifest]):
    expected = operator_settings()
    kafka = one(default, "Kafka")["metadata"]["name"]
    assert (expected.kafka_cluster, expected.kafka_bootstrap) == (kafka, f"{kafka}-kafka-bootstrap:9092")
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


def test_the_audit_is_told_what_the_operator_tells_its_drivers(default: list[Manifest]):
    expected, told = operator_settings(), audit(default)
    assert told["K2_KAFKA_BOOTSTRAP"] == expected.kafka_bootstrap
    assert told["K2_REGISTRY_URL"] == expected.registry_url
    assert told["K2_CATALOG_URI"] == expected.catalog_uri
    assert (told["K2_WAREHOUSE"], told["K2_CHECKPOINTS"]) == (expected.warehouse, expected.checkpoints)
    assert (told["K2_S3_ENDPOINT"], told["K2_S3_PATH_STYLE"]) == (expected.s3_endpoint, "true")
    assert told["K2_S3_REGION"] == told["AWS_REGION"] == expected.s3_region
    assert told["K2_CATALOG_PASSWORD"] == (expected.catalog_secret, expected.catalog_password_key)
    assert told["AWS_SECRET_ACCESS_KEY"] == (expected.s3_secret, expected.s3_secret_key)


@pytest.mark.parametrize(("brokers", "copies", "in_sync"), [(1, 1, 1), (2, 2, 1), (3, 3, 2), (5, 3, 2)])
def test_copies_follow_the_number_of_brokers(brokers: int, copies: int, in_sync: int):
    manifests = render(CHART, values={"kafka": {"replicas": brokers}})
    assert one(manifests, "KafkaNodePool")["spec"]["replicas"] == brokers
    config = one(manifests, "Kafka")["spec"]["kafka"]["config"]
    assert {value for key, value in config.items() if key.endswith("replication.factor")} == {copies}
    assert {value for key, value in config.items() if key.endswith(("min.isr", "min.insync.replicas"))} == {in_sync}
    assert config["auto.create.topics.enable"] is False


def test_a_brokers_setting_of_the_values_wins():
    config = {"min.insync.replicas": 3, "log.retention.hours": 72}
    found = one(render(CHART, values={"kafka": {"replicas": 3, "config": config}}), "Kafka")["spec"]["kafka"]["config"]
    assert config.items() <= found.items()
    assert found["default.replication.factor"] == 3


def test_a_strimzi_before_its_api_v1_is_told_of_node_pools_by_annotations():
    old = render(CHART, values={"kafka": {"apiVersion": "kafka.strimzi.io/v1beta2"}})
    asked = {"strimzi.io/node-pools": "enabled", "strimzi.io/kraft": "enabled"}
    assert one(old, "Kafka")["metadata"]["annotations"] == asked
    assert one(old, "KafkaNodePool")["apiVersion"] == "kafka.strimzi.io/v1beta2"
    assert "annotations" not in one(render(CHART), "Kafka")["metadata"]


@pytest.mark.parametrize("path", OWN, ids=name)
def test_no_pod_has_a_token_service_links_or_a_variable_twice(path: Path):
    for pod in pods(render(CHART, file=path)):
        assert pod["spec"]["automountServiceAccountToken"] is False
        assert pod["spec"]["enableServiceLinks"] is False
        for container in pod["spec"]["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
            assert container["resources"]["limits"]["memory"]
            names = [variable["name"] for variable in container.get("env", ())]
            assert len(names) == len(set(names))


@pytest.mark.parametrize("path", OWN, ids=name)
def test_selectors_find_pods_of_the_chart_and_an_upgrade_restarts_none(path: Path):
    manifests = render(CHART, file=path)
    worn = [pod["metadata"]["labels"].items() for pod in pods(manifests)]
    wanted = [found["spec"]["selector"]["matchLabels"] for found in of_kind(manifests, "PodDisruptionBudget")]
    wanted += [found["spec"]["selector"] for found in of_kind(manifests, "Service")]
    wanted += [found["spec"]["selector"]["matchLabels"] for kind in WORKLOADS[:2] for found in of_kind(manifests, kind)]
    for selected in wanted:
        assert sum(selected.items() <= found for found in worn) == 1
    for template in (found["spec"]["template"] for kind in WORKLOADS[:2] for found in of_kind(manifests, kind)):
        assert not {"app.kubernetes.io/version", "helm.sh/chart"} & set(template["metadata"]["labels"])


FEED = ExchangeFeed.from_yaml((CHARTS.parent / "manifests/samples/binance.yaml").read_bytes())
_MINE = {"app.kubernetes.io/name": "k2-platform", "app.kubernetes.io/instance": "k2-platform"}


def own(component: str) -> dict[str, str]:
    """The labels of a pod of the chart."""
    return {**_MINE, "app.kubernetes.io/component": component}


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
    "stranger": {"app": "stranger"},
}


def matches(wanted: Manifest, worn: dict[str, str]) -> bool:
    """Whether a label selector finds a pod."""
    found = wanted.get("matchLabels", {}).items() <= worn.items()
    for rule in wanted.get("matchExpressions", ()):
        value, values = worn.get(rule["key"]), rule.get("values", ())
        found = (
            found
            and {"Exists": value is not None, "In": value in values, "NotIn": value not in values}[rule["operator"]]
        )
    return found


def let_in(policy: Manifest, port: int) -> set[str]:
    """Who of the clients may reach a port, of the same namespace."""
    peers = [peer for rule in policy["spec"]["ingress"] if {"port": port} in rule["ports"] for peer in rule["from"]]
    return {
        client
        for client, worn in CLIENTS.items()
        if any("namespaceSelector" not in peer and matches(peer["podSelector"], worn) for peer in peers)
    }


@pytest.mark.parametrize(
    ("policy", "port", "clients"),
    [
        ("k2-kafka-clients", 9092, {"ingest", "driver", "executor", "query", "test"}),
        ("k2-registry", 8080, {"ingest", "driver", "executor", "audit", "query", "test"}),
        ("k2-postgres", 5432, {"driver", "executor", "audit", "catalog-init", "registry", "query", "test"}),
        ("k2-minio", 9000, {"driver", "executor", "audit", "catalog-init", "bucket", "query", "test"}),
    ],
)
def test_only_who_has_business_with_a_service_gets_in(
    default: list[Manifest], policy: str, port: int, clients: set[str]
):
    assert let_in(named(default, "NetworkPolicy", policy), port) == clients


def test_strimzis_own_policy_lets_in_the_same():
    for path in OWN:
        manifests = render(CHART, file=path)
        for kafka in of_kind(manifests, "Kafka"):
            (listener,) = kafka["spec"]["kafka"]["listeners"]
            policies = [found for found in of_kind(manifests, "NetworkPolicy") if "kafka" in found["metadata"]["name"]]
            rules = [policy["spec"]["ingress"][0]["from"] for policy in policies]
            assert rules == ([listener["networkPolicyPeers"]] if "networkPolicyPeers" in listener else [])


def test_pods_of_feeds_are_let_in_from_their_namespaces_only():
    manifests = render(CHART, values={"feedNamespaces": ["one", "two"]})
    for policy in (found for found in of_kind(manifests, "NetworkPolicy") if found["metadata"]["name"] != "k2-query"):
        feeds = policy["spec"]["ingress"][0]["from"][0]
        (rule,) = feeds["namespaceSelector"]["matchExpressions"]
        assert (rule["key"], rule["values"]) == ("kubernetes.io/metadata.name", ["one", "two"])


def test_kafka_in_a_namespace_of_its_own_is_found_there_and_lets_in_those_of_the_release():
    manifests = render(CHART, values={"kafka": {"namespace": "kafka"}})
    policy = named(manifests, "NetworkPolicy", "k2-kafka-clients")
    made = [one(manifests, "Kafka"), one(manifests, "KafkaNodePool"), policy]
    assert [found["metadata"]["namespace"] for found in made] == ["kafka"] * 3
    assert audit(manifests)["K2_KAFKA_BOOTSTRAP"] == "k2-kafka-kafka-bootstrap.kafka:9092"
    peers = policy["spec"]["ingress"][0]["from"]
    assert [peer["namespaceSelector"]["matchExpressions"][0]["values"] for peer in peers] == [["k2"], ["k2"]]


def test_where_everybody_is_denied_spark_and_metrics_go_on():
    manifests = scenario("three-brokers")
    assert named(manifests, "NetworkPolicy", "k2-default-deny")["spec"] == {
        "podSelector": {},
        "policyTypes": ["Ingress"],
    }
    spec = named(manifests, "NetworkPolicy", "k2-feeds")["spec"]
    for client, fenced in (("driver", True), ("executor", True), ("ingest", False)):
        assert matches(spec["podSelector"], CLIENTS[client]) is fenced
        assert matches(spec["ingress"][0]["from"][0]["podSelector"], CLIENTS[client]) is fenced
    assert spec["ingress"][1] == {"ports": [{"port": JOBS_PORT}]}


def test_with_services_of_others_only_the_audit_the_catalogs_tables_and_the_query_are_left():
    manifests = scenario("external")
    query = [found["kind"] for found in manifests if found["metadata"]["name"].startswith("k2-query")]
    assert sorted(query) == ["Deployment", "NetworkPolicy", "Secret", "Service"]
    others = [found["kind"] for found in manifests if not found["metadata"]["name"].startswith("k2-query")]
    assert sorted(others) == ["CronJob", "Job", "Pod"]
    told = audit(manifests)
    assert told["K2_KAFKA_BOOTSTRAP"] == "broker-1.example.org:9092,broker-2.example.org:9092"
    assert told["K2_CATALOG_URI"] == "postgresql://database.example.org:5432/iceberg"
    assert told["K2_CATALOG_USER"] == ("lake-catalog", "username")
    assert (told["K2_S3_ENDPOINT"], told["K2_S3_PATH_STYLE"]) == ("", "false")
    assert (told["K2_WAREHOUSE"], told["K2_CHECKPOINTS"]) == (
        "s3://example-lake/warehouse",
        "s3a://example-lake/checkpoints",
    )
    assert "AWS_ACCESS_KEY_ID" not in told  # the ServiceAccount's identity


def test_a_registry_may_store_in_a_database_of_others():
    container = one(scenario("store-and-database-external"), "Deployment")["spec"]["template"]["spec"]["containers"][0]
    told = variables(container)
    assert told["APICURIO_DATASOURCE_URL"] == "jdbc:postgresql://database.example.org:5432/registry"
    assert told["APICURIO_DATASOURCE_PASSWORD"] == ("lake-registry", "password")


def test_own_secrets_are_used_under_their_own_keys_and_none_is_made():
    manifests = scenario("own-secrets")
    assert of_kind(manifests, "Secret") == []
    told = audit(manifests)
    assert (told["K2_CATALOG_USER"], told["K2_CATALOG_PASSWORD"]) == (
        ("catalog-user", "user"),
        ("catalog-user", "secret"),
    )
    assert (told["AWS_ACCESS_KEY_ID"], told["AWS_SECRET_ACCESS_KEY"]) == (("store", "key"), ("store", "secret"))
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
        "registry-user": {"username": "registry/username", "password": "registry/password"},
    }


def test_passwords_are_random_and_no_two_are_equal(default: list[Manifest]):
    found = [
        value
        for manifests in (default, render(CHART))
        for secret in of_kind(manifests, "Secret")
        for key, value in secret["data"].items()
        if "user" not in key and key != "access-key"
    ]
    assert len(found) == len(set(found)) == 14
    assert min(map(len, found)) >= 40


def test_the_bucket_is_there_before_the_tables(default: list[Manifest]):
    bucket, tables = (named(default, "Job", job)["metadata"]["annotations"] for job in ("k2-bucket", "k2-catalog-init"))
    assert bucket["helm.sh/hook"] == tables["helm.sh/hook"] == "post-install,post-upgrade"
    assert int(bucket["helm.sh/hook-weight"]) < int(tables["helm.sh/hook-weight"])


def test_findings_fail_an_audit_at_once_and_no_two_audits_run(default: list[Manifest]):
    spec = one(default, "CronJob")["spec"]
    assert (spec["concurrencyPolicy"], spec["schedule"], spec["timeZone"]) == ("Forbid", "10 * * * *", "Etc/UTC")
    job = spec["jobTemplate"]["spec"]
    (rule,) = job["podFailurePolicy"]["rules"]
    container = job["template"]["spec"]["containers"][0]
    assert rule["onExitCodes"] == {"containerName": container["name"], "operator": "In", "values": [1, 2]}
    assert (rule["action"], job["template"]["spec"]["restartPolicy"]) == ("FailJob", "Never")
    assert (container["command"], container["args"][0]) == (["python", "-m", "k2.jobs.audit"], "--master=local[1]")


def test_only_several_pods_have_a_disruption_budget(default: list[Manifest]):
    assert of_kind(default, "PodDisruptionBudget") == []
    budgets = of_kind(scenario("three-brokers"), "PodDisruptionBudget")
    assert {found["metadata"]["name"]: found["spec"]["maxUnavailable"] for found in budgets} == {
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
        ({"minio": {"resources": {"limit": {}}}}, "/minio/resources"),
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
def test_a_wrong_value_is_refused_by_its_path(values: Any, path: str):
    assert path in refusal(CHART, values)
