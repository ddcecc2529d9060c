"""What a cluster's pods ask for and what they use, and how fast applications start, as tables.

Requests are the specs', what is used is the kubelet's word, and when queries ran is their driver's.
"""

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from cluster.shell import run

_MEBI: Final = 1024 * 1024
_UNITS: Final = {"Ki": 1 / 1024, "Mi": 1.0, "Gi": 1024.0}
_OTHERS: Final = ("kube-system", "local-path-storage", "monitoring", "spark-operator", "strimzi")


def table(env: Mapping[str, str]) -> str:
    """A Markdown table of K2's pods, and one line for each namespace that is others'."""
    pods = json.loads(run("kubectl", "get", "pods", "-A", "-o", "json", env=env))["items"]
    used = dict(_used(env))
    lines = ["| pod | asks for | uses |", "|---|---|---|"]
    others: dict[str, list[float]] = {}
    for pod in sorted(pods, key=lambda found: (found["metadata"]["namespace"], found["metadata"]["name"])):
        key = pod["metadata"]["namespace"], pod["metadata"]["name"]
        if pod["status"]["phase"] != "Running" or key not in used:
            continue
        cores, memory = used[key]
        if key[0] in _OTHERS:
            total = others.setdefault(key[0], [0.0, 0.0])
            total[0], total[1] = total[0] + cores, total[1] + memory
            continue
        lines.append(f"| {key[1]} | {_asked(pod)} | {cores:.2f} cores, {memory:.0f} MiB |")
    for namespace, (cores, memory) in sorted(others.items()):
        lines.append(f"| everything in {namespace} | | {cores:.2f} cores, {memory:.0f} MiB |")
    return "\n".join(lines)


def starts(env: Mapping[str, str]) -> str:
    """A Markdown table: seconds from an application's submission until its driver runs, and until its queries do."""
    applications = json.loads(run("kubectl", "get", "sparkapplications", "-A", "-o", "json", env=env))["items"]
    lines = ["| application | driver runs after | queries run after |", "|---|---|---|"]
    for application in applications:
        about, status = application["metadata"], application.get("status", {})
        submitted, driver = status.get("lastSubmissionAttemptTime"), status.get("driverInfo", {}).get("podName")
        if not submitted or not driver:
            continue
        pod = json.loads(run("kubectl", "get", "pod", driver, "-n", about["namespace"], "-o", "json", env=env))
        said = run("kubectl", "logs", driver, "-n", about["namespace"], env=env)
        running = pod["status"]["containerStatuses"][0]["state"].get("running", {}).get("startedAt", "")
        moments = [running, next((line["timestamp"] for line in _events(said) if line["event"] == "started"), "")]
        cells = [f"{_seconds(submitted, moment):.0f} s" if moment else "not yet" for moment in moments]
        lines.append(f"| {about['name']} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines)


def _events(said: str) -> Iterator[dict[str, Any]]:
    """The lines of a log that are JSON."""
    return (json.loads(line) for line in said.splitlines() if line.startswith("{"))


def _seconds(begin: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds()


def _used(env: Mapping[str, str]) -> Iterator[tuple[tuple[str, str], tuple[float, float]]]:
    """Cores and working sets in MiB, by namespace and name."""
    nodes = json.loads(run("kubectl", "get", "nodes", "-o", "json", env=env))["items"]
    for node in nodes:
        path = f"/api/v1/nodes/{node['metadata']['name']}/proxy/stats/summary"
        for pod in json.loads(run("kubectl", "get", "--raw", path, env=env))["pods"]:
            cores = pod.get("cpu", {}).get("usageNanoCores", 0) / 1e9
            memory = pod.get("memory", {}).get("workingSetBytes", 0) / _MEBI
            yield (pod["podRef"]["namespace"], pod["podRef"]["name"]), (cores, memory)


def _asked(pod: Mapping[str, Any]) -> str:
    requests = [container.get("resources", {}).get("requests", {}) for container in pod["spec"]["containers"]]
    cores = sum(_cores(request.get("cpu", "0")) for request in requests)
    memory = sum(_mebibytes(request.get("memory", "0")) for request in requests)
    return f"{cores:.2f} cores, {memory:.0f} MiB"


def _cores(amount: str) -> float:
    return float(amount[:-1]) / 1000 if amount.endswith("m") else float(amount)


def _mebibytes(amount: str) -> float:
    for unit, factor in _UNITS.items():
        if amount.endswith(unit):
            return float(amount.removesuffix(unit)) * factor
    return float(amount) / _MEBI
