"""A chart of another version changes no custom resource of other operators, which would restart what they run."""

import shutil
from pathlib import Path

import pytest
import yaml

from tests.charts.rendering import SCENARIOS, Manifest, name, needs_helm, render

pytestmark = needs_helm

_KUBERNETES = ("k8s.io", "k2.marketdata.io")
_NEWER = "99.0.0"


def _of_others(manifests: list[Manifest]) -> list[Manifest]:
    """Return the objects of kinds that are neither Kubernetes' own nor K2's."""
    groups = [str(manifest["apiVersion"]).rpartition("/")[0] for manifest in manifests]
    return [
        manifest
        for manifest, group in zip(manifests, groups, strict=True)
        if group.startswith("sparkoperator") or ("." in group and not group.endswith(_KUBERNETES))
    ]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=name)
def test_a_new_version_changes_no_custom_resource_of_others(scenario: Path, tmp_path: Path):
    chart = scenario.parents[1]
    newer = tmp_path / chart.name
    shutil.copytree(chart, newer)
    about = yaml.safe_load((newer / "Chart.yaml").read_text())
    (newer / "Chart.yaml").write_text(yaml.safe_dump(about | {"version": _NEWER, "appVersion": _NEWER}))

    upgraded = render(chart.name, file=scenario, charts=tmp_path)
    assert _NEWER in str(upgraded)
    assert _of_others(upgraded) == _of_others(render(chart.name, file=scenario))


def test_scenarios_have_custom_resources_of_others():
    kinds = {each["kind"] for path in SCENARIOS for each in _of_others(render(path.parents[1].name, file=path))}
    assert {"Kafka", "KafkaNodePool", "KafkaUser", "ServiceMonitor", "PrometheusRule"} <= kinds
