"""Programs that a cluster is made with: run with their output in a file, timed, and told about when they fail."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
LOGS: Final = ROOT / ".cluster"
_LINES: Final = 25


class Failed(RuntimeError):
    """A step that cannot be done, and what to do about it."""


def run(*words: str, env: Mapping[str, str], given: str = "", within: float = 1800.0) -> str:
    """The standard output of a program. Raises `Failed` with the end of what it said, if it ends with an error."""
    try:
        done = subprocess.run(
            words, env=dict(env), input=given, capture_output=True, text=True, timeout=within, check=False, cwd=ROOT
        )
    except FileNotFoundError:
        raise Failed(f"{words[0]} is not installed; {_HINTS.get(words[0], 'install it')}") from None
    except subprocess.TimeoutExpired:
        raise Failed(f"{_shown(words)} was not done within {within:.0f} s") from None
    _keep(words, done)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-_LINES:]
        raise Failed(f"{_shown(words)} ended with {done.returncode}:\n  " + "\n  ".join(said))
    return done.stdout


def missing(*programs: str, env: Mapping[str, str]) -> list[str]:
    """Which of these programs are not to be found."""
    return [name for name in programs if shutil.which(name, path=env.get("PATH")) is None]


@contextmanager
def step(name: str, times: dict[str, float] | None = None) -> Iterator[None]:
    """Says what is done now, and how long it took."""
    print(f"{'':>7}  {name} ...", file=sys.stderr, flush=True)
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    if times is not None:
        times[name] = took
    print(f"{took:5.0f} s  {name}", file=sys.stderr, flush=True)


def environment() -> dict[str, str]:
    """The environment of this process, with what is under `KUBEBUILDER_ASSETS` on the path."""
    env = dict(os.environ)
    if assets := env.get("KUBEBUILDER_ASSETS"):
        env["PATH"] = f"{assets}{os.pathsep}{env.get('PATH', '')}"
    return env


def _keep(words: Sequence[str], done: subprocess.CompletedProcess[str]) -> None:
    LOGS.mkdir(exist_ok=True)
    with (LOGS / "commands.log").open("a") as log:
        log.write(f"$ {_shown(words)}\n{done.stdout[-20000:]}{done.stderr[-20000:]}\n")


def _shown(words: Sequence[str]) -> str:
    return " ".join(words)[:300]


_HINTS: Final = {
    "kind": "see https://kind.sigs.k8s.io, or name a running cluster by KUBECONFIG",
    "kubectl": "see https://kubernetes.io/docs/tasks/tools",
    "helm": "see https://helm.sh/docs/intro/install",
    "docker": "kind runs its node in it, and images are built with it",
}
