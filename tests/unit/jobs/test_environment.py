"""Invalid environment variables are reported in one line, before a JVM is started."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SAMPLE = Path(__file__).parents[3] / "manifests" / "samples" / "binance.yaml"


@pytest.mark.parametrize(
    "module", ["k2.jobs", "k2.jobs.audit", "k2.jobs.initialise", "k2.jobs.maintenance", "k2.jobs.purge"]
)
def test_an_invalid_variable_is_named_in_one_line(module: str):
    words = [] if module in {"k2.jobs.audit", "k2.jobs.initialise"} else ["--feed", str(SAMPLE)]
    environment = {**os.environ, "K2_LOG_LEVEL": "loud"}
    command = [sys.executable, "-m", module, *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("K2_LOG_LEVEL")
