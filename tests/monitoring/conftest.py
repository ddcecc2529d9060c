"""Fixtures: the metrics that K2 declares, and promtool."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.monitoring import promql

CHART = Path(__file__).parents[2] / "charts/k2-operator"


@pytest.fixture(scope="session")
def exported() -> dict[str, frozenset[str]]:
    """Return the labels of every metric that a process of K2 exports."""
    return promql.declared()


@pytest.fixture(scope="session")
def promtool() -> Callable[..., None]:
    """Return a function that runs promtool and fails with its output on an error."""
    path = os.pathsep.join((os.environ.get("PATH", ""), os.environ.get("KUBEBUILDER_ASSETS", "")))
    program = shutil.which("promtool", path=path)
    if program is None:
        pytest.skip("promtool is neither in PATH nor in KUBEBUILDER_ASSETS")

    def run(*words: str | Path) -> None:
        done = subprocess.run([program, *map(str, words)], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr

    return run
