import json

import yaml

from tests.charts.rendering import needs_helm, of_kind, one, render
from tests.monitoring.conftest import CHART

pytestmark = needs_helm

CHART_NAME = "k2-operator"


def test_alerts_and_dashboards_are_disabled_by_default():
    manifests = render(CHART_NAME)
    assert of_kind(manifests, "PrometheusRule") == []
    assert [
        config_map for config_map in of_kind(manifests, "ConfigMap") if "dashboard" in config_map["metadata"]["name"]
    ] == []


def test_the_rules_are_included_verbatim_with_the_configured_labels():
    rule = one(
        render(CHART_NAME, values={"prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}}}),
        "PrometheusRule",
    )
    assert rule["spec"] == yaml.safe_load((CHART / "rules/k2.yaml").read_text("utf-8"))
    assert rule["metadata"]["namespace"] == "k2"
    assert rule["metadata"]["labels"]["release"] == "prometheus"


def test_each_dashboard_is_included_verbatim_in_the_configured_namespace():
    values = {"dashboards": {"enabled": True, "namespace": "grafana", "labels": {"team": "data"}}}
    config_maps = of_kind(render(CHART_NAME, values=values), "ConfigMap")
    dashboards = [config_map for config_map in config_maps if config_map["metadata"]["namespace"] == "grafana"]
    boards = {}
    for config_map in dashboards:
        assert config_map["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert config_map["metadata"]["labels"]["team"] == "data"
        boards |= {name: json.loads(text) for name, text in config_map["data"].items()}
    files = (CHART / "dashboards").glob("*.json")
    assert boards == {f"k2-{file.name}": json.loads(file.read_text("utf-8")) for file in files}
    assert len(dashboards) == len(boards) == 4


def test_a_configured_dashboard_label_takes_precedence():
    values = {"dashboards": {"enabled": True, "labels": {"grafana_dashboard": "k2"}}}
    config_maps = of_kind(render(CHART_NAME, values=values), "ConfigMap")
    labels = [config_map["metadata"]["labels"].get("grafana_dashboard") for config_map in config_maps]
    assert sorted(filter(None, labels)) == ["k2"] * 4
