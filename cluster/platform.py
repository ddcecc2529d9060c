"""Install K2 on a cluster: images, the two charts, simulated exchanges and the feeds that read them."""

import os
import re
import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cluster.providers import Provider
from cluster.shell import ROOT, run

NAMESPACE: Final = "k2"
KAFKA_NAMESPACE: Final = "kafka"
IMAGES: Final = ("operator", "ingest", "jobs", "query")
THIRD_PARTY: Final = ("postgres", "minio", "mc", "registry")
_CHART_IMAGES: Final = {"k2-operator": ("operator", "ingest", "jobs"), "k2-platform": ("ingest", "jobs", "query")}
_VALUES: Final = ROOT / "manifests" / "kind"
_SINCE: Final = re.compile(r'"--since","(\d+)"')
_PREFIX: Final = "ghcr.io/k2-market-data"


def images() -> list[str]:
    """Return the full names of this version's images."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    prefix = os.environ.get("K2_IMAGE_PREFIX", _PREFIX)
    return [f"{prefix}/{name}:{project['version']}" for name in IMAGES]


def build(provider: Provider) -> None:
    """Build the images on this machine."""
    run("make", "images", env=provider.env)


def namespaces(env: Mapping[str, str]) -> None:
    """Create the namespaces. The feeds' namespace enforces the restricted Pod Security Standard."""
    run("kubectl", "apply", "--server-side", "-f", str(_VALUES / "namespaces.yaml"), env=env)


def install(provider: Provider) -> None:
    """Install the platform chart, wait for Kafka, and install the operator chart."""
    _chart(provider.env, "k2-platform")
    run(
        "kubectl", "wait", "kafka/k2-kafka", "-n", KAFKA_NAMESPACE, "--for=condition=Ready", "--timeout=300s",
        env=provider.env,
    )  # fmt: skip
    _chart(provider.env, "k2-operator")


def feeds(env: Mapping[str, str]) -> None:
    """Deploy the simulated exchanges, and one feed for each."""
    simulators = (_VALUES / "simulators.yaml").read_text("utf-8")
    simulators = simulators.replace(f"{_PREFIX}/", f"{os.environ.get('K2_IMAGE_PREFIX', _PREFIX)}/")
    simulators = simulators.replace('--since, "0"', f'--since, "{_opening(env)}"')
    run("kubectl", "apply", "--server-side", "-n", NAMESPACE, "-f", "-", env=env, stdin=simulators)
    for name in ("binance", "kraken"):
        run("kubectl", "rollout", "status", f"deployment/simulated-{name}", "-n", NAMESPACE, "--timeout=120s", env=env)
    run("kubectl", "apply", "--server-side", "-n", NAMESPACE, "-f", str(_VALUES / "feeds.yaml"), env=env)


def _opening(env: Mapping[str, str]) -> int:
    """Return since when the deployed simulated exchanges trade, or now (seconds since 1970)."""
    path = "jsonpath={.items[*].spec.template.spec.containers[0].args}"
    args = run(
        "kubectl", "get", "deployments", "-l", "app.kubernetes.io/name=simulator", "-n", NAMESPACE, "-o", path, env=env
    )  # fmt: skip
    # Any other second would be another market, with other trades of the same ids.
    return int(min(_SINCE.findall(args), default=datetime.now(UTC).timestamp()))


def wait_ready(env: Mapping[str, str]) -> None:
    """Wait until every feed is Ready."""
    run(
        "kubectl", "wait", "feeds", "--all", "-n", NAMESPACE, "--for=condition=Ready", "--timeout=600s", env=env
    )  # fmt: skip


def uninstall(env: Mapping[str, str]) -> None:
    """Uninstall K2. Feeds go first, because their finalizer needs the operator."""
    run("kubectl", "delete", "feeds", "--all", "-n", NAMESPACE, "--ignore-not-found", "--timeout=300s", env=env)
    for chart in ("k2-operator", "k2-platform"):
        run("helm", "uninstall", chart, "--namespace", NAMESPACE, "--ignore-not-found", "--wait", env=env)
    run("kubectl", "delete", "namespace", NAMESPACE, KAFKA_NAMESPACE, "--ignore-not-found", env=env)


def _chart(env: Mapping[str, str], name: str) -> None:
    chart, values = ROOT / "charts" / name, _VALUES / f"{name}.yaml"
    where = ["--namespace", NAMESPACE, "--wait", "--wait-for-jobs", "--timeout", "8m"]
    run("helm", "upgrade", "--install", name, str(chart), "--values", str(values), *_images(name), *where, env=env)


def _images(chart: str) -> list[str]:
    """Return Helm arguments for images outside of the public registry."""
    prefix = os.environ.get("K2_IMAGE_PREFIX")
    if not prefix:
        return []
    return [word for name in _CHART_IMAGES[chart] for word in ("--set", f"images.{name}.repository={prefix}/{name}")]


def folder() -> Path:
    """Return the folder with the values and manifests of a local cluster."""
    return _VALUES
