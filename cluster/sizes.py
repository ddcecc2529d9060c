"""Tables of the pods' resource requests and usage, and of the start-up times of Spark applications.

Requests come from the pod specs, usage from the kubelet, and the start of queries from the driver's log.
"""

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from cluster.shell import run

_MEBI: Final = 1024 * 1024
_UNITS: Final = {"Ki": 1 / 1024, "Mi": 1.0, "Gi": 1024.0}
_OTHER_NAMESPACES: Final = ("kube-system", "local-path-storage", "monitoring", "spark-operator", "strimzi")


def resource_table(env: Mapping[str, str]) -> str:
    """Return a Markdown table with a row for each pod of K2, and a row for each other namespace."""
    pods = json.loads(run("kubectl", "get", "pods", "-A", "-o", "json", env=env))["items"]
    usage = dict(_usage(env))
    lines = ["| pod | requests | uses |", "|---|---|---|"]
    others: dict[str, list[float]] = {}
    for pod in sorted(pods, key=lambda pod: (pod["metadata"]["namespace"], pod["metadata"]["name"])):
        key = pod["metadata"]["namespace"], pod["metadata"]["name"]
        if pod["status"]["phase"] != "Running" or key not in usage:
            continue
        cores, memory = usage[key]
        if key[0] in _OTHER_NAMESPACES:
            total = others.setdefault(key[0], [0.0, 0.0])
            total[0], total[1] = total[0] + cores, total[1] + memory
            continue
        lines.append(f"| {key[1]} | {_requests(pod)} | {cores:.2f} cores, {memory:.0f} MiB |")
    for namespace, (cores, memory) in sorted(others.items()):
        lines.append(f"| everything in {namespace} | | {cores:.2f} cores, {memory:.0f} MiB |")
    return "\n".join(lines)


def startup_table(env: Mapping[str, str]) -> str:
    """Return a Markdown table of the seconds from each application's submission to its driver and its queries."""
    applications = json.loads(run("kubectl", "get", "sparkapplications", "-A", "-o", "json", env=env))["items"]
    lines = ["| application | driver runs after | queries run after |", "|---|---|---|"]
    for application in applications:
        metadata, status = application["metadata"], application.get("status", {})
        submitted, driver = status.get("lastSubmissionAttemptTime"), status.get("driverInfo", {}).get("podName")
        if not submitted or not driver:
            continue
        pod = json.loads(run("kubectl", "get", "pod", driver, "-n", metadata["namespace"], "-o", "json", env=env))
        log = run("kubectl", "logs", driver, "-n", metadata["namespace"], env=env)
        running = pod["status"]["containerStatuses"][0]["state"].get("running", {}).get("startedAt", "")
        times = [running, next((line["timestamp"] for line in _events(log) if line["event"] == "started"), "")]
        cells = [f"{_seconds(submitted, moment):.0f} s" if moment else "not yet" for moment in times]
        lines.append(f"| {metadata['name']} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines)


def _events(log: str) -> Iterator[dict[str, Any]]:
    """Yield the log lines that are JSON objects."""
    return (json.loads(line) for line in log.splitlines() if line.startswith("{"))


def _seconds(begin: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds()


def _usage(env: Mapping[str, str]) -> Iterator[tuple[tuple[str, str], tuple[float, float]]]:
    """Yield (namespace, name) of each pod, with its cores and its working set in MiB."""
    nodes = json.loads(run("kubectl", "get", "nodes", "-o", "json", env=env))["items"]
    for node in nodes:
        path = f"/api/v1/nodes/{node['metadata']['name']}/proxy/stats/summary"
        for pod in json.loads(run("kubectl", "get", "--raw", path, env=env))["pods"]:
            cores = pod.get("cpu", {}).get("usageNanoCores", 0) / 1e9
            memory = pod.get("memory", {}).get("workingSetBytes", 0) / _MEBI
            yield (pod["podRef"]["namespace"], pod["podRef"]["name"]), (cores, memory)


def _requests(pod: Mapping[str, Any]) -> str:
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
