"""Placement, security contexts and registries: every pod of both charts and of the feeds, custom resources included."""

from collections.abc import Iterator
from typing import Any

import pytest

from k2.operator.desired import children
from k2.operator.desired.jobs.purge import purge_job
from k2.operator.settings import load
from k2.schemas.feed.model import ExchangeFeed
from tests.charts.rendering import CHARTS, Manifest, needs_helm, of_kind, render, render_error

pytestmark = needs_helm

TOLERATION = {"key": "dedicated", "operator": "Equal", "value": "k2", "effect": "NoSchedule"}
FEED = (CHARTS.parent / "manifests/samples/binance.yaml").read_bytes()
IDS = {"runAsUser", "runAsGroup", "fsGroup", "supplementalGroups"}
ELSEWHERE = {"kafka": {"namespace": "kafka"}}  # with the Deployment that copies Kafka's credentials


def pod_specs(node: Any, path: str) -> Iterator[tuple[str, Manifest]]:
    """Yield every pod's spec in a manifest, whatever its kind: what has containers, and Strimzi's pod templates."""
    if isinstance(node, dict):
        if isinstance(node.get("containers"), list):
            yield path, node
        if isinstance(node.get("template"), dict) and isinstance(node["template"].get("pod"), dict):
            yield f"{path}.template.pod", node["template"]["pod"]
        for name, value in node.items():
            yield from pod_specs(value, f"{path}.{name}")
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from pod_specs(value, f"{path}[{index}]")


def all_pods(values: dict[str, Any], platform: dict[str, Any] | None = None) -> dict[str, Manifest]:
    """Return the spec of every pod of both charts with the same values, and of a feed with the operator's settings."""
    manifests = [*render("k2-platform", values=values | (platform or {})), *render("k2-operator", values=values)]
    (document,) = [
        each["data"]["settings.yaml"] for each in of_kind(manifests, "ConfigMap") if "settings.yaml" in each["data"]
    ]
    settings, feed = load(document, {}), ExchangeFeed.from_yaml(FEED)
    manifests += [*children(feed, settings), purge_job(feed, settings, exchange=True)]
    specs: dict[str, Manifest] = {}
    for each in manifests:
        specs |= pod_specs(each, f"{each['kind']}/{each['metadata']['name']}")
    return specs


@pytest.fixture(scope="module")
def everything() -> dict[str, Manifest]:
    """Return all pods with every value of pods set once."""
    values = {
        "global": {"imageRegistry": "mirror.example.com:5000/k2", "imagePullSecrets": ["first"]},
        "imagePullSecrets": [{"name": "second"}],
        "tolerations": [TOLERATION],
        "nodeSelector": {"pool": "k2"},
        "priorityClassName": "high",
        "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"}],
        "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
        "extraEnv": [{"name": "TZ", "value": "UTC"}],
        "extraVolumes": [{"name": "extra", "emptyDir": {}}],
        "extraVolumeMounts": [{"name": "extra", "mountPath": "/extra"}],
    }
    return all_pods(values, ELSEWHERE)


def test_what_is_set_once_is_in_every_pod(everything: dict[str, Manifest]):
    kinds = {path.partition("/")[0] for path in everything}
    assert kinds >= {"StatefulSet", "Deployment", "Job", "CronJob", "Pod", "SparkApplication", "Kafka", "KafkaNodePool"}
    assert len(everything) == 17
    for path, pod in everything.items():
        assert pod["tolerations"] == [TOLERATION], path
        assert pod["priorityClassName"] == "high", path
        assert [each["topologyKey"] for each in pod["topologySpreadConstraints"]] == ["zone"], path
        assert "podAntiAffinity" in pod["affinity"], path
        if path.startswith("Kafka"):  # whose template has no node selector
            terms = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
                "nodeSelectorTerms"
            ]
            assert terms == [{"matchExpressions": [{"key": "pool", "operator": "In", "values": ["k2"]}]}]
        else:
            assert pod["nodeSelector"] == {"pool": "k2"}, path
        if not path.startswith("SparkApplication"):
            assert [each["name"] for each in pod["imagePullSecrets"]] == ["second", "first"], path
        for container in [*pod.get("initContainers", ()), *pod.get("containers", ())]:
            names = [variable["name"] for variable in container["env"]]
            assert "TZ" in names, path
            assert len(names) == len(set(names)), path
            assert "/extra" in [mount["mountPath"] for mount in container["volumeMounts"]], path
            if "image" in container:
                assert container["image"].startswith("mirror.example.com:5000/k2/"), path
                assert not {"quay.io", "ghcr.io"} & set(container["image"].split("/")), path


def test_without_fixed_user_ids_no_pod_has_any():
    fixed = {path for path, pod in all_pods({}).items() if IDS & set(pod["securityContext"])}
    assert len(fixed) == 15  # all but the entity operator's, whose image sets the user
    for path, pod in all_pods({"fixedUserIds": False}, ELSEWHERE).items():
        assert not IDS & set(pod["securityContext"]), path
        assert pod["securityContext"]["runAsNonRoot"] is True, path
        for container in [*pod.get("initContainers", ()), *pod.get("containers", ())]:
            assert not IDS & set(container["securityContext"]), path
    values = {"fixedUserIds": False}
    assert not any(
        name in str(render(chart, values=values)) for chart in ("k2-platform", "k2-operator") for name in IDS
    )


def test_security_contexts_are_removed_by_null():
    values = {"podSecurityContext": {"seccompProfile": None, "fsGroup": 7}, "containerSecurityContext": None}
    for path, pod in all_pods(values, ELSEWHERE).items():
        assert "seccompProfile" not in pod["securityContext"], path
        assert pod["securityContext"]["fsGroup"] == 7, path
        assert not any(container.get("securityContext") for container in pod.get("containers", ())), path


def test_a_components_own_placement_replaces_the_charts_and_an_own_variable_the_common_one():
    own = {"key": "registry", "operator": "Exists"}
    common = {"tolerations": [TOLERATION], "extraEnv": [{"name": "K2_LOG", "value": "a"}]}
    platform = {"registry": {"tolerations": [own]}, "query": {"extraEnv": [{"name": "K2_LOG", "value": "b"}]}}
    specs = all_pods(common, platform)
    assert specs["Deployment/k2-registry.spec.template.spec"]["tolerations"] == [own]
    assert specs["StatefulSet/k2-minio.spec.template.spec"]["tolerations"] == [TOLERATION]
    variables = specs["Deployment/k2-query.spec.template.spec"]["containers"][0]["env"]
    assert [each["value"] for each in variables if each["name"] == "K2_LOG"] == ["b"]


@pytest.mark.parametrize("chart", ["k2-platform", "k2-operator"])
def test_both_charts_refuse_the_same_invalid_values(chart: str):
    for name, value in (
        ("imagePullSecrets", ["name"]),
        ("tolerations", {}),
        ("topologySpreadConstraints", [{"topologyKey": "zone"}]),
    ):
        assert name in render_error(chart, {name: value})
    selected_by = "app.kubernetes.io/instance"
    assert selected_by in render_error(chart, {"podLabels": {selected_by: "other"}})
