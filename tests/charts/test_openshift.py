"""With the values files for OpenShift no pod of any kind has a fixed id, so that restricted-v2 admits it."""

from typing import Any

import pytest
import yaml

from tests.charts.rendering import CHARTS, needs_helm, render
from tests.charts.test_pods import ELSEWHERE, IDS, all_pods

pytestmark = needs_helm


def values_of(chart: str) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load((CHARTS / chart / "values-openshift.yaml").read_text())
    return values


@pytest.mark.parametrize("elsewhere", [{}, ELSEWHERE], ids=["default", "clients elsewhere"])
def test_no_pod_has_a_fixed_id(elsewhere: dict[str, Any]):
    pods = all_pods(values_of("k2-operator"), values_of("k2-platform") | elsewhere)
    assert {path.partition("/")[0] for path in pods} >= {"StatefulSet", "Deployment", "Job", "CronJob", "Pod"}
    assert {"SparkApplication", "Kafka", "KafkaNodePool"} <= {path.partition("/")[0] for path in pods}
    for path, pod in pods.items():
        containers = [*pod.get("initContainers", ()), *pod.get("containers", ())]
        contexts = [context for part in (pod, *containers) if (context := part.get("securityContext"))]
        assert contexts or path.startswith("Kafka"), path
        for context in contexts:
            assert not IDS & set(context), path
            assert context.get("runAsNonRoot") is True, path


@pytest.mark.parametrize("chart", ["k2-platform", "k2-operator"])
def test_nothing_that_a_chart_renders_has_one(chart: str):
    assert any(name in str(render(chart)) for name in IDS)
    assert not [name for name in IDS if name in str(render(chart, values=values_of(chart)))]


def test_the_two_files_are_the_same_values():
    assert values_of("k2-platform") == values_of("k2-operator")
