"""Other projects' operators that K2 stands on, each installed by its own chart.

`K2_CHARTS` names a folder with charts, for machines that cannot fetch them; the kit brings what it has.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from cluster.providers import Kit, Provider
from cluster.shell import Failed, run

SPARK_VERSION: Final = "2.5.0"
_CHARTS: Final = {
    "strimzi-kafka-operator": ("https://strimzi.io/charts", "1.2.0"),
    "spark-operator": ("https://kubeflow.github.io/spark-operator", SPARK_VERSION),
    "kube-prometheus-stack": ("https://prometheus-community.github.io/helm-charts", "77.5.0"),
}
_SPARK_MODULE: Final = f"github.com/kubeflow/spark-operator/v2@v{SPARK_VERSION}"


def strimzi(provider: Provider) -> None:
    """Strimzi, watching every namespace. The kit has its CRDs and Kafka, and a stand-in for its operator."""
    if isinstance(provider, Kit):
        provider.script("strimzi")
        return
    _install(provider.env, "strimzi-kafka-operator", "strimzi", {"watchAnyNamespace": "true"})


def spark_operator(provider: Provider, namespace: str) -> None:
    """The Spark operator, watching one namespace. K2 needs no webhook of it."""
    provider.third_party(["spark-operator"])
    settings = {
        "spark.jobNamespaces": f"{{{namespace}}}",
        "spark.serviceAccount.create": "false",
        "spark.rbac.create": "false",
        "webhook.enable": "false",
        "controller.workers": "4",
        "controller.resources.requests.cpu": "50m",
        "controller.resources.requests.memory": "256Mi",
    }
    _install(provider.env, "spark-operator", "spark-operator", settings)


def prometheus(provider: Provider) -> None:
    """A Prometheus that takes the monitors and rules of every namespace."""
    if isinstance(provider, Kit):
        provider.script("prometheus")
        return
    chosen = {
        f"prometheus.prometheusSpec.{what}SelectorNilUsesHelmValues": "false"
        for what in ("rule", "serviceMonitor", "podMonitor")
    }
    _install(provider.env, "kube-prometheus-stack", "monitoring", chosen)


def network_policies(provider: Provider) -> None:
    """Somebody who enforces NetworkPolicies; of other clusters, their network does."""
    if isinstance(provider, Kit):
        provider.script("netpol")


def _install(env: Mapping[str, str], chart: str, namespace: str, settings: Mapping[str, str]) -> None:
    values = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    where = ["--namespace", namespace, "--create-namespace", "--wait", "--timeout", "5m"]
    run("helm", "upgrade", "--install", chart, *_source(env, chart), *where, *values, env=env)


def _source(env: Mapping[str, str], chart: str) -> list[str]:
    """A folder of `K2_CHARTS`, the chart's Go module where K2_KIT says that nothing else can be had, or its home."""
    if charts := os.environ.get("K2_CHARTS"):
        found = next((path for path in sorted(Path(charts).glob(f"{chart}*")) if (path / "Chart.yaml").is_file()), None)
        if found is None:
            raise Failed(
                f"K2_CHARTS names {charts}, which holds no chart {chart}; put its folder there, or unset K2_CHARTS"
            )
        return [str(found)]
    if os.environ.get("K2_KIT") and chart == "spark-operator":
        module = json.loads(run("go", "mod", "download", "-json", _SPARK_MODULE, env=env))
        return [str(Path(module["Dir"]) / "charts" / "spark-operator-chart")]
    repository, version = _CHARTS[chart]
    return [chart, "--repo", repository, "--version", version]
