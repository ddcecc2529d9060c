"""Install the operators that K2 depends on, each from its own Helm chart.

`K2_CHARTS` names a folder with charts, for machines without access to the repositories; the kit brings its own.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from cluster.providers import Kit, Provider
from cluster.shell import StepFailed, run

SPARK_VERSION: Final = "2.5.0"
_CHARTS: Final = {
    "strimzi-kafka-operator": ("https://strimzi.io/charts", "1.2.0"),
    "spark-operator": ("https://kubeflow.github.io/spark-operator", SPARK_VERSION),
    "kube-prometheus-stack": ("https://prometheus-community.github.io/helm-charts", "77.5.0"),
}
_SPARK_MODULE: Final = f"github.com/kubeflow/spark-operator/v2@v{SPARK_VERSION}"


def strimzi(provider: Provider) -> None:
    """Install Strimzi for all namespaces. The kit has its CRDs, Kafka, and a substitute for its operator."""
    if isinstance(provider, Kit):
        provider.script("strimzi")
        return
    _install(provider.env, "strimzi-kafka-operator", "strimzi", {"watchAnyNamespace": "true"})


def spark_operator(provider: Provider, namespace: str) -> None:
    """Install the Spark operator for one namespace, without its webhook, which K2 does not need."""
    provider.load_third_party(["spark-operator"])
    settings = {
        "spark.jobNamespaces": f"{{{namespace}}}",
        "spark.serviceAccount.create": "false",
        "spark.rbac.create": "false",
        "webhook.enable": "false",
        "controller.workers": "2",  # each submission is a JVM
        # One replica needs none, and a renewal that is late on a busy machine would end it.
        "controller.leaderElection.enable": "false",
        "controller.resources.requests.cpu": "50m",
        "controller.resources.requests.memory": "256Mi",
    }
    _install(provider.env, "spark-operator", "spark-operator", settings)


def prometheus(provider: Provider) -> None:
    """Install a Prometheus that selects the monitors and rules of all namespaces."""
    if isinstance(provider, Kit):
        provider.script("prometheus")
        return
    settings = {
        f"prometheus.prometheusSpec.{what}SelectorNilUsesHelmValues": "false"
        for what in ("rule", "serviceMonitor", "podMonitor")
    }
    _install(provider.env, "kube-prometheus-stack", "monitoring", settings)


def network_policies(provider: Provider) -> None:
    """Install a NetworkPolicy controller on the kit's cluster; other clusters have one in their network plugin."""
    if isinstance(provider, Kit):
        provider.script("netpol")


def _install(env: Mapping[str, str], chart: str, namespace: str, settings: Mapping[str, str]) -> None:
    values = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    where = ["--namespace", namespace, "--create-namespace", "--wait", "--timeout", "5m"]
    run("helm", "upgrade", "--install", chart, *_source(env, chart), *where, *values, env=env)


def _source(env: Mapping[str, str], chart: str) -> list[str]:
    """Return the chart's source: a folder of `K2_CHARTS`, a Go module where K2_KIT is set, or its repository."""
    if charts := os.environ.get("K2_CHARTS"):
        folder = next(
            (path for path in sorted(Path(charts).glob(f"{chart}*")) if (path / "Chart.yaml").is_file()), None
        )
        if folder is None:
            raise StepFailed(f"no chart {chart} in {charts} (K2_CHARTS); add its folder, or unset K2_CHARTS")
        return [str(folder)]
    if os.environ.get("K2_KIT") and chart == "spark-operator":
        module = json.loads(run("go", "mod", "download", "-json", _SPARK_MODULE, env=env))
        return [str(Path(module["Dir"]) / "charts" / "spark-operator-chart")]
    repository, version = _CHARTS[chart]
    return [chart, "--repo", repository, "--version", version]
