"""What a cluster's pods ask for and what they use, as a table: requests from their specs, the rest from the kubelet."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from cluster.programs import run

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
