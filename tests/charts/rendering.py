"""Charts as helm renders them, and what it says of values that it refuses."""

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
    """A scenario's chart and name, as the id of a test."""
    return f"{scenario.parents[1].name}-{scenario.stem.removesuffix('-values')}"


def template(chart: str, *, namespace: str = "k2", values: Any = None, file: Path | None = None) -> str:
    """The YAML of a chart, released under its own name. Raises CalledProcessError where helm refuses the values."""
    words = [HELM, "template", chart, str(CHARTS / chart), f"--namespace={namespace}", "--kube-version=1.34.0"]
    words += [f"--values={file}"] if file else []
    given = yaml.safe_dump(values or {})
    done = subprocess.run([*words, "--values=-"], check=True, capture_output=True, text=True, input=given)
    return done.stdout


def render(chart: str, *, namespace: str = "k2", values: Any = None, file: Path | None = None) -> list[Manifest]:
    """The objects of a chart."""
    return [
        found for found in yaml.safe_load_all(template(chart, namespace=namespace, values=values, file=file)) if found
    ]


def refusal(chart: str, values: Any) -> str:
    """What helm says of values that it does not take."""
    with pytest.raises(subprocess.CalledProcessError) as refused:
        template(chart, values=values)
    return str(refused.value.stderr)


def of_kind(manifests: list[Manifest], kind: str) -> list[Manifest]:
    """The objects of a kind."""
    return [found for found in manifests if found["kind"] == kind]


def one(manifests: list[Manifest], kind: str) -> Manifest:
    """The only object of a kind."""
    (found,) = of_kind(manifests, kind)
    return found
