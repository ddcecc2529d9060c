"""Virtual environments for the baselines, in the cache, because their dependencies conflict with those of K2."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from bench.harness.processes import CACHE, BenchFailed, python


def environment(name: str, packages: Sequence[str]) -> Path:
    """Create an environment with these packages if needed, and return its interpreter. Raises `BenchFailed`."""
    folder = CACHE / "bench" / name
    interpreter = folder / "bin" / "python"
    if (folder / "complete").exists():
        return interpreter
    shutil.rmtree(folder, ignore_errors=True)
    uv = python("-m", "uv")
    for command in (
        [*uv, "venv", "--quiet", "--python", python()[0], str(folder)],
        [*uv, "pip", "install", "--quiet", "--python", str(interpreter), *packages],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchFailed(f"{name} installation failed: {done.stderr.strip()[-500:]}")
    (folder / "complete").touch()
    return interpreter
