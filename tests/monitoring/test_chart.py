import json

import yaml

from tests.charts.rendering import needs_helm, of_kind, one, render
from tests.monitoring.conftest import CHART

pytestmark = needs_helm

CHART_NAME = "k2-operator"


def test_neither_alerts_nor_dashboards_come_unasked():
    found = render(CHART_NAME)
    assert of_kind(found, "PrometheusRule") == []
    assert [each for each in of_kind(found, "ConfigMap") if "dashboard" in each["metadata"]["name"]] == []


def test_the_rules_come_as_they_are_written_with_the_labels_that_prometheus_looks_for():
    found = one(
        render(CHART_NAME, values={"prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}}}),
        "PrometheusRule",
    )
    assert found["spec"] == yaml.safe_load((CHART / "rules/k2.yaml").read_text("utf-8"))
    assert found["metadata"]["namespace"] == "k2"
    assert found["metadata"]["labels"]["release"] == "prometheus"


def test_each_dashboard_comes_as_it_is_written_where_grafana_looks_for_it():
    values = {"dashboards": {"enabled": True, "namespace": "grafana", "labels": {"team": "data"}}}
    every = of_kind(render(CHART_NAME, values=values), "ConfigMap")
    found = [each for each in every if each["metadata"]["namespace"] == "grafana"]
    held = {}
    for each in found:
        assert each["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert each["metadata"]["labels"]["team"] == "data"
        held |= {name: json.loads(text) for name, text in each["data"].items()}
    files = (CHART / "dashboards").glob("*.json")
    assert held == {f"k2-{file.name}": json.loads(file.read_text("utf-8")) for file in files}
    assert len(found) == len(held) == 4


def test_another_label_for_dashboards_wins():
    values = {"dashboards": {"enabled": True, "labels": {"grafana_dashboard": "k2"}}}
    found = of_kind(render(CHART_NAME, values=values), "ConfigMap")
    labels = [each["metadata"]["labels"].get("grafana_dashboard") for each in found]
    assert sorted(filter(None, labels)) == ["k2"] * 4
