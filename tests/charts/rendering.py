"""Render charts with helm, and return its errors for invalid values."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

Manifest = dict[str, Any]

CHARTS = Path(__file__).parents[2] / "charts"
HELM = shutil.which("helm", path=f"{os.environ['PATH']}:{os.environ.get('KUBEBUILDER_ASSETS', '')}") or ""
SCENARIOS = sorted(CHARTS.glob("*/ci/*.yaml"))

needs_helm = pytest.mark.skipif(not HELM, reason="helm is neither in PATH nor in KUBEBUILDER_ASSETS")


def name(scenario: Path) -> str:
    """Return the chart and the name of a scenario, as the id of a test."""
    return f"{scenario.parents[1].name}-{scenario.stem.removesuffix('-values')}"


def template(
    chart: str, *, namespace: str = "k2", values: Any = None, file: Path | None = None, charts: Path = CHARTS
) -> str:
    """Render a chart, with its own name as the release, to YAML. Raises CalledProcessError for invalid values."""
    words = [HELM, "template", chart, str(charts / chart), f"--namespace={namespace}", "--kube-version=1.34.0"]
    words += [f"--values={file}"] if file else []
    document = yaml.safe_dump(values or {})
    done = subprocess.run([*words, "--values=-"], check=True, capture_output=True, text=True, input=document)
    return done.stdout


def render(
    chart: str, *, namespace: str = "k2", values: Any = None, file: Path | None = None, charts: Path = CHARTS
) -> list[Manifest]:
    """Render a chart, of those in the folder `charts`, and return its objects."""
    text = template(chart, namespace=namespace, values=values, file=file, charts=charts)
    return [manifest for manifest in yaml.safe_load_all(text) if manifest]


def render_error(chart: str, values: Any) -> str:
    """Return helm's error for invalid values."""
    with pytest.raises(subprocess.CalledProcessError) as raised:
        template(chart, values=values)
    return str(raised.value.stderr)


def of_kind(manifests: list[Manifest], kind: str) -> list[Manifest]:
    """Return the objects of a kind."""
    return [manifest for manifest in manifests if manifest["kind"] == kind]


def one(manifests: list[Manifest], kind: str) -> Manifest:
    """Return the only object of a kind."""
    (manifest,) = of_kind(manifests, kind)
    return manifest
