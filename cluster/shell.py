"""Run external programs for the cluster: log their output, time them, and report their failure."""

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


class StepFailed(RuntimeError):
    """A step failed; the message says what to do about it."""


def run(*words: str, env: Mapping[str, str], stdin: str = "", timeout: float = 1800.0) -> str:
    """Run a program in the repository's root and return its standard output.

    Args:
        words: The program and its arguments.
        env: The whole environment of the program.
        stdin: Text for its standard input.
        timeout: Seconds, after which it is killed.

    Raises:
        StepFailed: It is not installed, exits with an error, or exceeds the timeout.
    """
    try:
        done = subprocess.run(
            words, env=dict(env), input=stdin, capture_output=True, text=True, timeout=timeout, check=False, cwd=ROOT
        )
    except FileNotFoundError:
        raise StepFailed(f"{words[0]} is not installed; {_HINTS.get(words[0], 'install it')}") from None
    except subprocess.TimeoutExpired:
        raise StepFailed(f"{_command_line(words)} timed out after {timeout:.0f} s") from None
    _log(words, done)
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines()[-_LINES:]
        raise StepFailed(f"{_command_line(words)} exited with {done.returncode}:\n  " + "\n  ".join(lines))
    return done.stdout


def missing(*programs: str, env: Mapping[str, str]) -> list[str]:
    """Return those of the programs that are not in PATH."""
    return [name for name in programs if shutil.which(name, path=env.get("PATH")) is None]


@contextmanager
def step(name: str, times: dict[str, float] | None = None) -> Iterator[None]:
    """Print the name of a step when it begins, and its duration when it ends."""
    print(f"{'':>7}  {name} ...", file=sys.stderr, flush=True)
    started_at = time.monotonic()
    yield
    seconds = time.monotonic() - started_at
    if times is not None:
        times[name] = seconds
    print(f"{seconds:5.0f} s  {name}", file=sys.stderr, flush=True)


def environment() -> dict[str, str]:
    """Return the environment of this process, with `KUBEBUILDER_ASSETS` first in PATH."""
    env = dict(os.environ)
    if assets := env.get("KUBEBUILDER_ASSETS"):
        env["PATH"] = f"{assets}{os.pathsep}{env.get('PATH', '')}"
    return env


def _log(words: Sequence[str], done: subprocess.CompletedProcess[str]) -> None:
    LOGS.mkdir(exist_ok=True)
    with (LOGS / "commands.log").open("a") as log:
        log.write(f"$ {_command_line(words)}\n{done.stdout[-20000:]}{done.stderr[-20000:]}\n")


def _command_line(words: Sequence[str]) -> str:
    return " ".join(words)[:300]


_HINTS: Final = {
    "kind": "see https://kind.sigs.k8s.io, or set KUBECONFIG to use an existing cluster",
    "kubectl": "see https://kubernetes.io/docs/tasks/tools",
    "helm": "see https://helm.sh/docs/intro/install",
    "docker": "kind and the image builds need it",
}
