"""The chart k2-operator: rendered objects, and validation of values."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from k2.operator.desired.naming import FEED, JOBS_PORT, STATUS_PORT
from k2.operator.settings import InvalidSettings, Settings, load
from tests.charts.rendering import (
    CHARTS,
    SCENARIOS,
    Manifest,
    name,
    needs_helm,
    of_kind,
    one,
    render,
    render_error,
)

pytestmark = needs_helm

CHART = "k2-operator"
OWN = [scenario for scenario in SCENARIOS if scenario.parents[1].name == CHART]
ROOT = CHARTS.parent


def pod_specs(manifests: list[Manifest]) -> list[Manifest]:
    """Return the pod specs of a chart, of Pods and Deployments."""
    bare = [manifest["spec"] for manifest in of_kind(manifests, "Pod")]
    return bare + [manifest["spec"]["template"]["spec"] for manifest in of_kind(manifests, "Deployment")]


def settings(**values: Any) -> Settings:
    """Return the settings that the operator loads."""
    return load(one(render(CHART, values=values), "ConfigMap")["data"]["settings.yaml"], {})


@pytest.mark.parametrize("scenario", OWN, ids=name)
def test_the_operator_can_read_the_settings_that_are_rendered(scenario: Path):
    rendered = of_kind(render(CHART, file=scenario), "ConfigMap")
    assert load(
        next(manifest["data"]["settings.yaml"] for manifest in rendered if "settings.yaml" in manifest["data"]), {}
    )


def test_default_settings_match_the_platform_chart():
    loaded = settings()
    assert (loaded.kafka_bootstrap, loaded.kafka_cluster) == ("k2-kafka-kafka-bootstrap:9093", "k2-kafka")
    assert loaded.registry_url == "http://k2-registry:8080/apis/ccompat/v7"
    assert (loaded.catalog_uri, loaded.catalog_secret) == ("postgresql://k2-postgres:5432/iceberg", "k2-catalog")
    assert (loaded.catalog_user_key, loaded.catalog_password_key) == ("username", "password")
    assert (loaded.s3_endpoint, loaded.s3_secret, loaded.s3_path_style) == ("http://k2-minio:9000", "k2-s3-jobs", True)
    assert (loaded.s3_access_key, loaded.s3_secret_key) == ("access-key", "secret-key")
    assert (loaded.warehouse, loaded.checkpoints) == ("s3://k2-lake/warehouse", "s3a://k2-lake/checkpoints")


def test_images_have_the_app_version_unless_a_tag_or_a_digest_is_set():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert settings().ingest_image == f"ghcr.io/k2-market-data/ingest:{version}"
    assert settings(images={"jobs": {"tag": "other"}}).jobs_image == "ghcr.io/k2-market-data/jobs:other"
    digest = f"sha256:{'0' * 64}"
    assert settings(images={"jobs": {"tag": "other", "digest": digest}}).jobs_image.endswith(f"/jobs@{digest}")
    container = one(render(CHART), "Deployment")["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == f"ghcr.io/k2-market-data/operator:{version}"


@pytest.mark.parametrize("scenario", OWN, ids=name)
def test_no_variable_is_set_twice_and_only_the_operator_has_a_token(scenario: Path):
    manifests = render(CHART, file=scenario)
    for pod in pod_specs(manifests):
        names = [variable["name"] for container in pod["containers"] for variable in container.get("env", ())]
        assert len(names) == len(set(names))
        assert pod["automountServiceAccountToken"] == (
            "operator" in {container["name"] for container in pod["containers"]}
        )
    accounts = [
        manifest for manifest in of_kind(manifests, "ServiceAccount") if "spark" not in manifest["metadata"]["name"]
    ]
    assert {manifest["automountServiceAccountToken"] for manifest in accounts} <= {False}


@pytest.mark.parametrize("scenario", OWN, ids=name)
def test_selectors_match_the_operators_pod_and_have_no_version(scenario: Path):
    manifests = render(CHART, file=scenario)
    deployment, service = one(manifests, "Deployment"), one(manifests, "Service")
    labels = deployment["spec"]["template"]["metadata"]["labels"].items()
    selectors = [deployment["spec"]["selector"]["matchLabels"], service["spec"]["selector"]]
    policies = of_kind(manifests, "NetworkPolicy")
    selectors += [manifest["spec"]["podSelector"]["matchLabels"] for manifest in policies]
    for selector in selectors:
        assert selector
        assert selector.items() <= labels
        assert not {"app.kubernetes.io/version", "helm.sh/chart"} & set(selector)
    for monitor in of_kind(manifests, "ServiceMonitor"):
        assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
        ports = {port["name"] for port in service["spec"]["ports"]}
        assert {endpoint["port"] for endpoint in monitor["spec"]["endpoints"]} <= ports


def test_the_crd_equals_the_manifest_and_is_kept_by_default():
    crd = one(render(CHART), "CustomResourceDefinition")
    assert crd["metadata"].pop("annotations") == {"helm.sh/resource-policy": "keep"}
    assert crd["metadata"].pop("labels")["app.kubernetes.io/part-of"] == "k2"
    assert crd == yaml.safe_load((ROOT / "manifests/crds/exchangefeeds.yaml").read_text())
    left = one(render(CHART, values={"crds": {"keep": False}}), "CustomResourceDefinition")
    assert "annotations" not in left["metadata"]
    assert of_kind(render(CHART, values={"crds": {"enabled": False}}), "CustomResourceDefinition") == []


def test_only_a_changed_setting_restarts_the_operator():
    def annotations(**values: Any) -> Any:
        return one(render(CHART, values=values), "Deployment")["spec"]["template"]["metadata"]["annotations"]

    assert annotations(settings={"s3Region": "eu-west-1"}) != annotations()
    assert annotations(images={"jobs": {"tag": "other"}}) != annotations()
    assert annotations(rbac={"aggregate": False}, metrics={"serviceMonitor": {"enabled": True}}) == annotations()


def test_every_feed_namespace_is_watched_and_has_accounts_roles_and_network_access():
    manifests = render(CHART, values={"feedNamespaces": ["one", "two"]})
    args = one(manifests, "Deployment")["spec"]["template"]["spec"]["containers"][0]["args"]
    assert [word for word in args if word.startswith("--namespace")] == ["--namespace=one", "--namespace=two"]
    where = {
        (kind, manifest["metadata"]["name"], manifest["metadata"]["namespace"])
        for kind in ("Role", "RoleBinding", "ServiceAccount")
        for manifest in of_kind(manifests, kind)
    }
    both = ("one", "two")
    rights = {(kind, who, at) for kind in ("Role", "RoleBinding") for who in (CHART, "k2-spark") for at in both}
    lease = {(kind, f"{CHART}-lease", "k2") for kind in ("Role", "RoleBinding")}
    accounts = {("ServiceAccount", "k2-spark", at) for at in both} | {("ServiceAccount", CHART, "k2")}
    assert where == rights | lease | accounts
    (status,) = [rule for rule in one(manifests, "NetworkPolicy")["spec"]["egress"] if "to" in rule]
    assert [port["port"] for port in status["ports"]] == [STATUS_PORT, JOBS_PORT]
    assert [peer["namespaceSelector"]["matchLabels"] for peer in status["to"]] == [
        {"kubernetes.io/metadata.name": at} for at in both
    ]
    assert {peer["podSelector"]["matchExpressions"][0]["key"] for peer in status["to"]} == {FEED}


@pytest.mark.parametrize(("url", "port"), [("http://collector:4318", 4318), ("https://traces.example.org/v1", 443)])
def test_the_receiver_of_traces_is_reached(url: str, port: int):
    variables = [{"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": url}]
    before = one(render(CHART), "NetworkPolicy")["spec"]["egress"]
    rules = one(render(CHART, values={"extraEnv": variables}), "NetworkPolicy")["spec"]["egress"]
    assert [rule for rule in rules if rule not in before] == [{"ports": [{"port": port}]}]


def test_without_feed_namespaces_feeds_are_in_the_namespace_of_the_release():
    manifests = render(CHART, namespace="market")
    assert {manifest["metadata"].get("namespace", "market") for manifest in manifests} == {"market"}
    assert "--namespace=market" in one(manifests, "Deployment")["spec"]["template"]["spec"]["containers"][0]["args"]


def test_in_a_separate_kafka_namespace_the_operator_may_only_manage_topics():
    manifests = render(CHART, values={"settings": {"kafkaNamespace": "kafka"}})
    (role,) = [manifest for manifest in of_kind(manifests, "Role") if manifest["metadata"]["namespace"] == "kafka"]
    assert [rule["resources"] for rule in role["rules"]] == [["kafkatopics"]]
    same = render(CHART, values={"settings": {"kafkaNamespace": "k2"}})
    assert len(of_kind(same, "Role")) == len(of_kind(render(CHART), "Role"))


def test_drivers_use_the_service_account_of_the_settings():
    manifests = render(CHART, values={"settings": {"sparkServiceAccount": "lake"}})
    assert "lake" in {manifest["metadata"]["name"] for manifest in of_kind(manifests, "ServiceAccount")}
    (binding,) = [manifest for manifest in of_kind(manifests, "RoleBinding") if manifest["metadata"]["name"] == "lake"]
    assert [subject["name"] for subject in binding["subjects"]] == ["lake"]


def test_without_rbac_no_role_is_created():
    kinds = {manifest["kind"] for manifest in render(CHART, values={"rbac": {"create": False}})}
    assert {"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"} & kinds == set()


def test_releases_of_one_name_in_two_namespaces_do_not_collide():
    def cluster_wide(namespace: str) -> set[tuple[str, str]]:
        manifests = render(CHART, namespace=namespace, values={"crds": {"enabled": False}})
        return {
            (manifest["kind"], manifest["metadata"]["name"])
            for manifest in manifests
            if "namespace" not in manifest["metadata"]
        }

    assert cluster_wide("one")
    assert cluster_wide("one") & cluster_wide("two") == set()


@pytest.mark.parametrize(
    ("values", "path"),
    [
        ({"feedNamespace": ["k2"]}, "feedNamespace"),
        ({"feedNamespaces": "k2"}, "/feedNamespaces"),
        ({"feedNamespaces": ["K2"]}, "/feedNamespaces/0"),
        ({"feedNamespaces": ["k2", "k2"]}, "/feedNamespaces"),
        ({"resync": "60"}, "/resync"),
        ({"resync": 0}, "/resync"),
        ({"logLevel": "trace"}, "/logLevel"),
        ({"images": {"operator": {"repository": ""}}}, "/images/operator/repository"),
        ({"images": {"operator": {"tag": "a:b"}}}, "/images/operator/tag"),
        ({"images": {"jobs": {"tag": "latest"}}}, "/images/jobs/tag"),
        ({"images": {"operator": {"digest": "sha256:1"}}}, "/images/operator/digest"),
        ({"images": {"jobs": None}}, "/images"),
        ({"crds": {"install": True}}, "/crds"),
        ({"metrics": {"port": 80}}, "/metrics/port"),
        ({"metrics": {"port": 8080}}, "healthPort"),
        ({"metrics": {"serviceMonitor": {"interval": "15"}}}, "/metrics/serviceMonitor/interval"),
        ({"networkPolicy": {"apiServerPorts": []}}, "/networkPolicy/apiServerPorts"),
        ({"serviceAccount": {"annotations": {"a": 1}}}, "/serviceAccount/annotations/a"),
        ({"extraEnv": [{"value": "1"}]}, "/extraEnv/0"),
        ({"extraEnv": [{"name": "K2_LOG_LEVEL", "value": "info"}]}, "extraEnv: K2_LOG_LEVEL"),
        ({"extraEnv": [{"name": "A"}, {"name": "A"}]}, "extraEnv: A"),
        ({"settings": {"ingestImage": "k2/ingest:1"}}, "ingestImage"),
        # The operator would read these as a number, a boolean and an odd host name.
        ({"settings": {"kafkaReplicas": "3"}}, "/settings/kafkaReplicas"),
        ({"settings": {"s3PathStyle": "yes"}}, "/settings/s3PathStyle"),
        ({"settings": {"kafkaBootstrap": "kafka:9092;other:9092"}}, "/settings/kafkaBootstrap"),
        ({"settings": {"kafkaBootstrap": None}}, "/settings"),
        ({"settings": {"kafkaSecurityProtocol": "TLS"}}, "/settings/kafkaSecurityProtocol"),
        ({"settings": {"kafkaPasswordKey": ""}}, "/settings/kafkaPasswordKey"),
        ({"settings": {"kafkaCaSecret": ""}}, "set settings.kafkaCaSecret to the Secret with"),
        ({"settings": {"kafkaJobsSecret": ""}}, "set settings.kafkaIngestSecret and settings.kafkaJobsSecret to"),
        (
            {"settings": {"kafkaSecurityProtocol": "SSL", "kafkaJobsSecret": ""}},
            "one of the two clients would have no certificate",
        ),
    ],
    ids=str,
)
def test_an_invalid_value_is_rejected_with_its_path(values: Any, path: str):
    assert path.replace("/", ".").strip(".") in render_error(CHART, values).replace("/", ".")


INVALID: list[tuple[str, Any]] = [
    ("kafkaBootstrap", ""), ("kafkaBootstrap", "kafka"),
    ("kafkaCluster", "K2"), ("kafkaReplicas", -1), ("kafkaTopicVersion", "1"),
    ("registryUrl", ""), ("registryUrl", "k2-registry:8080"), ("registryUrl", "http://user:secret@registry"),
    ("registryPodPort", 65536), ("catalogUri", "jdbc:postgresql://db/iceberg"),
    ("catalogUri", "postgresql://user:secret@db/iceberg"), ("warehouse", "s3a://k2"), ("checkpoints", "s3://k2"),
    ("ingestMemory", "lots"), ("driverMemory", "-1Gi"), ("sparkCpu", "fast"),
    ("sparkVersion", "4.1"), ("sparkConf", {"spark.x": 1}), ("restartInterval", 0), ("monitor", "none"),
    ("monitorInterval", "15"), ("logLevel", "trace"), ("imagePullSecrets", "registry"), ("warehous", "s3://k2"),
]  # fmt: skip
VALID: list[tuple[str, Any]] = [
    ("kafkaBootstrap", "a.example.com:9092,b:1"), ("kafkaBootstrap", "a:1, b:2"), ("kafkaCluster", ""),
    ("registryUrl", "https://registry.example.com/api"), ("catalogUri", "postgresql+psycopg://db/iceberg"),
    ("catalogUri", "postgresql+psycopg2://db/iceberg"), ("warehouse", "file:///data"), ("checkpoints", "file:///data"),
    ("ingestMemory", "1.5Gi"), ("driverMemory", "2G"), ("sparkCpu", "0.5"), ("sparkCpu", "250m"),
    ("monitorInterval", "1m"), ("monitorInterval", "500ms"), ("sparkConf", {"spark.x": "1"}),
]  # fmt: skip


@pytest.mark.parametrize(("setting", "value"), INVALID, ids=str)
def test_a_setting_that_the_operator_rejects_is_rejected_at_install(setting: str, value: Any):
    document = {"ingestImage": "a:1", "jobsImage": "b:1", **_defaults(), setting: value}
    with pytest.raises(InvalidSettings):
        load(yaml.safe_dump(document), {})
    error = render_error(CHART, {"settings": {setting: value}})
    assert setting in error
    assert "settings" in error


@pytest.mark.parametrize(("setting", "value"), VALID, ids=str)
def test_a_setting_that_the_operator_accepts_is_accepted_at_install(setting: str, value: Any):
    rendered = one(render(CHART, values={"settings": {setting: value}}), "ConfigMap")["data"]["settings.yaml"]
    assert load(rendered, {})
    assert yaml.safe_load(rendered)[setting] == value


def _defaults() -> dict[str, Any]:
    defaults: dict[str, Any] = yaml.safe_load((CHARTS / CHART / "values.yaml").read_text())["settings"]
    return defaults


def test_the_documented_settings_are_accepted():
    documented = (ROOT / "docs/how-to/install-operator.md").read_text().partition("```yaml\n")[2].partition("```")[0]
    loaded = settings(**yaml.safe_load(documented))
    assert (loaded.kafka_cluster, loaded.s3_secret, loaded.s3_path_style) == ("", "", False)


def test_the_operator_may_read_only_secrets_that_pods_read_at_their_start():
    def names(**values: Any) -> list[str]:
        role = of_kind(render("k2-operator", values=values), "Role")[0]
        return [name for rule in role["rules"] if "secrets" in rule["resources"] for name in rule["resourceNames"]]

    assert names() == ["k2-catalog", "k2-s3-jobs"]
    assert names(settings={"catalogSecret": "", "s3Secret": ""}) == []
    assert names(
        extraEnv=[
            {"name": "A", "valueFrom": {"secretKeyRef": {"name": "one", "key": "a"}}},
            {"name": "B", "value": ""},
        ],
        extraVolumes=[
            {"name": "a", "secret": {"secretName": "two"}},
            {"name": "b", "projected": {"sources": [{"secret": {"name": "three"}}, {"configMap": {"name": "c"}}]}},
            {"name": "c", "emptyDir": {}},
        ],
    ) == ["k2-catalog", "k2-s3-jobs", "one", "three", "two"]


def test_two_pods_share_one_lease_and_are_evicted_one_at_a_time():
    manifests = render("k2-operator")
    deployment, budget = one(manifests, "Deployment"), one(manifests, "PodDisruptionBudget")
    assert deployment["spec"]["replicas"] == 2
    assert deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert "--lease=k2/k2-operator" in container["args"]
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "metrics"}
    assert budget["spec"] == {"maxUnavailable": 1, "selector": deployment["spec"]["selector"]}
    (role,) = [each for each in of_kind(manifests, "Role") if each["metadata"]["name"] == "k2-operator-lease"]
    assert [rule.get("resourceNames") for rule in role["rules"]] == [None, ["k2-operator"]]
