"""Collect events, descriptions and logs of a cluster in a folder, to find the cause of a failure."""

from collections.abc import Mapping
from pathlib import Path

from cluster.shell import StepFailed, run

_OBJECTS = "feeds,sparkapplications,kafkatopics,kafkas,deployments,statefulsets,jobs,pods,networkpolicies,pvc"


def collect(env: Mapping[str, str], folder: Path) -> Path:
    """Write one file per kind of information; a failed command leaves its error in its file. Return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "objects.txt", env, "get", _OBJECTS, "-A", "-o", "wide")
    _write(folder / "feeds.yaml", env, "get", "feeds,sparkapplications", "-A", "-o", "yaml")
    _write(folder / "events.txt", env, "get", "events", "-A", "--sort-by=.lastTimestamp")
    _write(folder / "pods.txt", env, "describe", "pods", "-A")
    _write(folder / "nodes.txt", env, "describe", "nodes")
    for pod in _pods(env):
        namespace, _, name = pod.partition("/")
        for suffix, words in (("log", []), ("previous.log", ["--previous"])):
            _write(
                folder / "logs" / f"{namespace}.{name}.{suffix}", env, "logs", name, "-n", namespace,
                "--all-containers", "--tail=3000", *words,
            )  # fmt: skip
    return folder


def summary(env: Mapping[str, str]) -> str:
    """Return the pods that have restarted or do not run, and the newest warnings."""
    pods = run("kubectl", "get", "pods", "-A", "--no-headers", env=env).splitlines()
    unusual = [line for line in pods if line.split()[3:5] not in (["Running", "0"], ["Completed", "0"])]
    words = ["-A", "--sort-by=.lastTimestamp", "--field-selector=type=Warning", "--no-headers"]
    warnings = run("kubectl", "get", "events", *words, env=env).splitlines()[-30:]
    return "\n".join(["Pods that have restarted or do not run:", *unusual, "Warnings:", *warnings])


def _pods(env: Mapping[str, str]) -> list[str]:
    names = '{range .items[*]}{.metadata.namespace}/{.metadata.name}{"\\n"}{end}'
    try:
        return run("kubectl", "get", "pods", "-A", "-o", f"jsonpath={names}", env=env).split()
    except StepFailed:
        return []


def _write(path: Path, env: Mapping[str, str], *words: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.write_text(run("kubectl", *words, env=env, timeout=60))
    except StepFailed as error:
        if "--previous" not in words:  # most containers have no previous run
            path.write_text(f"{error}\n")
