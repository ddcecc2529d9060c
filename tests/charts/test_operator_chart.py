"""The chart k2-operator: what it renders, and which values it refuses."""

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
    refusal,
    render,
)

pytestmark = needs_helm

CHART = "k2-operator"
OWN = [scenario for scenario in SCENARIOS if scenario.parents[1].name == CHART]
ROOT = CHARTS.parent


def pod_specs(manifests: list[Manifest]) -> list[Manifest]:
    """The pods of a chart, bare ones and those of Deployments."""
    bare = [found["spec"] for found in of_kind(manifests, "Pod")]
    return bare + [found["spec"]["template"]["spec"] for found in of_kind(manifests, "Deployment")]


def settings(**values: Any) -> Settings:
    """The settings that the operator reads."""
    return load(one(render(CHART, values=values), "ConfigMap")["data"]["settings.yaml"], {})


@pytest.mark.parametrize("scenario", OWN, ids=name)
def test_the_operator_can_read_the_settings_that_are_rendered(scenario: Path):
    rendered = of_kind(render(CHART, file=scenario), "ConfigMap")
    assert load(next(found["data"]["settings.yaml"] for found in rendered if "settings.yaml" in found["data"]), {})


def test_by_default_feeds_use_what_the_platform_chart_makes():
    found = settings()
    assert (found.kafka_bootstrap, found.kafka_cluster) == ("k2-kafka-kafka-bootstrap:9092", "k2-kafka")
    assert found.registry_url == "http://k2-registry:8080/apis/ccompat/v7"
    assert (found.catalog_uri, found.catalog_secret) == ("postgresql://k2-postgres:5432/iceberg", "k2-catalog")
    assert (found.catalog_user_key, found.catalog_password_key) == ("username", "password")
    assert (found.s3_endpoint, found.s3_secret, found.s3_path_style) == ("http://k2-minio:9000", "k2-s3", True)
    assert (found.s3_access_key, found.s3_secret_key) == ("access-key", "secret-key")
    assert (found.warehouse, found.checkpoints) == ("s3://k2-lake/warehouse", "s3a://k2-lake/checkpoints")


def test_images_are_of_this_version_unless_a_tag_or_a_digest_is_given():
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
    made = [found for found in of_kind(manifests, "ServiceAccount") if "spark" not in found["metadata"]["name"]]
    assert {found["automountServiceAccountToken"] for found in made} <= {False}


@pytest.mark.parametrize("scenario", OWN, ids=name)
def test_service_monitor_and_policy_select_the_operators_pod_and_no_version_is_selected_by(scenario: Path):
    manifests = render(CHART, file=scenario)
    deployment, service = one(manifests, "Deployment"), one(manifests, "Service")
    labels = deployment["spec"]["template"]["metadata"]["labels"].items()
    selectors = [deployment["spec"]["selector"]["matchLabels"], service["spec"]["selector"]]
    policies = of_kind(manifests, "NetworkPolicy")
    selectors += [found["spec"]["podSelector"]["matchLabels"] for found in policies]
    for selector in selectors:
        assert selector
        assert selector.items() <= labels
        assert not {"app.kubernetes.io/version", "helm.sh/chart"} & set(selector)
    for monitor in of_kind(manifests, "ServiceMonitor"):
        assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
        ports = {port["name"] for port in service["spec"]["ports"]}
        assert {endpoint["port"] for endpoint in monitor["spec"]["endpoints"]} <= ports


def test_the_crd_is_the_manifest_and_stays_unless_told_otherwise():
    crd = one(render(CHART), "CustomResourceDefinition")
    assert crd["metadata"].pop("annotations") == {"helm.sh/resource-policy": "keep"}
    assert crd["metadata"].pop("labels")["app.kubernetes.io/part-of"] == "k2"
    assert crd == yaml.safe_load((ROOT / "manifests/crds/exchangefeeds.yaml").read_text())
    left = one(render(CHART, values={"crds": {"keep": False}}), "CustomResourceDefinition")
    assert "annotations" not in left["metadata"]
    assert of_kind(render(CHART, values={"crds": {"enabled": False}}), "CustomResourceDefinition") == []


def test_a_changed_setting_starts_the_operator_anew_and_other_values_do_not():
    def annotations(**values: Any) -> Any:
        return one(render(CHART, values=values), "Deployment")["spec"]["template"]["metadata"]["annotations"]

    assert annotations(settings={"s3Region": "eu-west-1"}) != annotations()
    assert annotations(images={"jobs": {"tag": "other"}}) != annotations()
    assert annotations(rbac={"aggregate": False}, metrics={"serviceMonitor": {"enabled": True}}) == annotations()


def test_every_namespace_of_feeds_is_watched_and_reached_and_has_its_accounts_and_rights():
    manifests = render(CHART, values={"feedNamespaces": ["one", "two"]})
    args = one(manifests, "Deployment")["spec"]["template"]["spec"]["containers"][0]["args"]
    assert [word for word in args if word.startswith("--namespace")] == ["--namespace=one", "--namespace=two"]
    where = {
        (kind, found["metadata"]["name"], found["metadata"]["namespace"])
        for kind in ("Role", "RoleBinding", "ServiceAccount")
        for found in of_kind(manifests, kind)
    }
    both = ("one", "two")
    rights = {(kind, who, at) for kind in ("Role", "RoleBinding") for who in (CHART, "k2-spark") for at in both}
    assert where == rights | {("ServiceAccount", "k2-spark", at) for at in both} | {("ServiceAccount", CHART, "k2")}
    (status,) = [rule for rule in one(manifests, "NetworkPolicy")["spec"]["egress"] if "to" in rule]
    assert [port["port"] for port in status["ports"]] == [STATUS_PORT, JOBS_PORT]
    assert [peer["namespaceSelector"]["matchLabels"] for peer in status["to"]] == [
        {"kubernetes.io/metadata.name": at} for at in both
    ]
    assert {peer["podSelector"]["matchExpressions"][0]["key"] for peer in status["to"]} == {FEED}


def test_without_namespaces_of_feeds_they_live_in_the_releases_own():
    manifests = render(CHART, namespace="market")
    assert {found["metadata"].get("namespace", "market") for found in manifests} == {"market"}
    assert "--namespace=market" in one(manifests, "Deployment")["spec"]["template"]["spec"]["containers"][0]["args"]


def test_where_topics_live_elsewhere_the_operator_may_make_topics_there_and_nothing_more():
    manifests = render(CHART, values={"settings": {"kafkaNamespace": "kafka"}})
    (role,) = [found for found in of_kind(manifests, "Role") if found["metadata"]["namespace"] == "kafka"]
    assert [rule["resources"] for rule in role["rules"]] == [["kafkatopics"]]
    same = render(CHART, values={"settings": {"kafkaNamespace": "k2"}})
    assert len(of_kind(same, "Role")) == len(of_kind(render(CHART), "Role"))


def test_drivers_get_the_account_that_the_settings_name():
    manifests = render(CHART, values={"settings": {"sparkServiceAccount": "lake"}})
    assert "lake" in {found["metadata"]["name"] for found in of_kind(manifests, "ServiceAccount")}
    (binding,) = [found for found in of_kind(manifests, "RoleBinding") if found["metadata"]["name"] == "lake"]
    assert [subject["name"] for subject in binding["subjects"]] == ["lake"]


def test_without_rights_no_role_is_made():
    kinds = {found["kind"] for found in render(CHART, values={"rbac": {"create": False}})}
    assert {"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"} & kinds == set()


def test_two_releases_of_one_name_in_two_namespaces_share_no_name():
    def cluster_wide(namespace: str) -> set[tuple[str, str]]:
        manifests = render(CHART, namespace=namespace, values={"crds": {"enabled": False}})
        return {
            (found["kind"], found["metadata"]["name"]) for found in manifests if "namespace" not in found["metadata"]
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
        # The operator takes these for a number, a truth value and a strange host.
        ({"settings": {"kafkaReplicas": "3"}}, "/settings/kafkaReplicas"),
        ({"settings": {"s3PathStyle": "yes"}}, "/settings/s3PathStyle"),
        ({"settings": {"kafkaBootstrap": "kafka:9092;other:9092"}}, "/settings/kafkaBootstrap"),
        ({"settings": {"kafkaBootstrap": None}}, "/settings"),
    ],
    ids=str,
)
def test_a_wrong_value_is_refused_by_its_path(values: Any, path: str):
    assert path.replace("/", ".").strip(".") in refusal(CHART, values).replace("/", ".")


WRONG: list[tuple[str, Any]] = [
    ("kafkaBootstrap", ""), ("kafkaBootstrap", "kafka"),
    ("kafkaCluster", "K2"), ("kafkaReplicas", -1), ("kafkaTopicVersion", "1"),
    ("registryUrl", ""), ("registryUrl", "k2-registry:8080"), ("registryUrl", "http://user:secret@registry"),
    ("registryPodPort", 65536), ("catalogUri", "jdbc:postgresql://db/iceberg"),
    ("catalogUri", "postgresql://user:secret@db/iceberg"), ("warehouse", "s3a://k2"), ("checkpoints", "s3://k2"),
    ("ingestMemory", "lots"), ("driverMemory", "-1Gi"), ("sparkCpu", "fast"),
    ("sparkVersion", "4.1"), ("sparkConf", {"spark.x": 1}), ("restartInterval", 0), ("monitor", "none"),
    ("monitorInterval", "15"), ("logLevel", "trace"), ("imagePullSecrets", "registry"), ("warehous", "s3://k2"),
]  # fmt: skip
RIGHT: list[tuple[str, Any]] = [
    ("kafkaBootstrap", "a.example.com:9092,b:1"), ("kafkaBootstrap", "a:1, b:2"), ("kafkaCluster", ""),
    ("registryUrl", "https://registry.example.com/api"), ("catalogUri", "postgresql+psycopg://db/iceberg"),
    ("catalogUri", "postgresql+psycopg2://db/iceberg"), ("warehouse", "file:///data"), ("checkpoints", "file:///data"),
    ("ingestMemory", "1.5Gi"), ("driverMemory", "2G"), ("sparkCpu", "0.5"), ("sparkCpu", "250m"),
    ("monitorInterval", "1m"), ("monitorInterval", "500ms"), ("sparkConf", {"spark.x": "1"}),
]  # fmt: skip


@pytest.mark.parametrize(("setting", "value"), WRONG, ids=str)
def test_a_setting_that_the_operator_refuses_is_refused_at_install_already(setting: str, value: Any):
    document = {"ingestImage": "a:1", "jobsImage": "b:1", **_defaults(), setting: value}
    with pytest.raises(InvalidSettings):
        load(yaml.safe_dump(document), {})
    said = refusal(CHART, {"settings": {setting: value}})
    assert setting in said
    assert "settings" in said


@pytest.mark.parametrize(("setting", "value"), RIGHT, ids=str)
def test_a_setting_that_the_operator_takes_is_taken(setting: str, value: Any):
    rendered = one(render(CHART, values={"settings": {setting: value}}), "ConfigMap")["data"]["settings.yaml"]
    assert load(rendered, {})
    assert yaml.safe_load(rendered)[setting] == value


def _defaults() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((CHARTS / CHART / "values.yaml").read_text())["settings"]
    return found


def test_the_settings_that_the_documentation_shows_are_taken():
    shown = (ROOT / "docs/how-to/install-operator.md").read_text().partition("```yaml\n")[2].partition("```")[0]
    found = settings(**yaml.safe_load(shown))
    assert (found.kafka_cluster, found.s3_secret, found.s3_path_style) == ("", "", False)
