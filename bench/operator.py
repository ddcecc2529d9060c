"""Many feeds on one operator process, with a real API server, etcd, and the CRDs of the other operators.

No kubelet and no other operator runs, so children stay as they were applied.
"""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import psutil
import yaml

from bench.harness.figures import Figure, Goal, Section, number, quantile
from bench.harness.kubernetes import MERGE, POLICY, Audit, Connection, watching, writes
from bench.harness.processes import BenchFailed, cpu_seconds
from k2.operator.desired import children
from k2.operator.settings import load
from k2.schemas.feed.model import ExchangeFeed
from tests.apiserver.support import crds
from tests.apiserver.support.servers import BINARIES, OPERATOR, SETTINGS, Api, Operator, server

_NAMESPACE: Final = "bench"
_KUBECTL_NAMESPACE: Final = "bench-kubectl"
_FEEDS: Final = f"/apis/k2.marketdata.io/v1alpha1/namespaces/{_NAMESPACE}/exchangefeeds"
_DEPLOYMENTS: Final = f"/apis/apps/v1/namespaces/{_NAMESPACE}/deployments"
_WITHIN: Final = 60.0  # seconds for all feeds
_CHANGE: Final = 1.0  # seconds for one, p99
_MEMORY: Final = 200e6
_QUIET: Final = 10  # seconds without a request, after which the operator is idle
_RESYNC: Final = 70  # seconds in which every feed is reconciled once
_HASH: Final = "k2.marketdata.io/config-hash"


@dataclass(slots=True)
class Results:
    """The measured values."""

    feeds: int
    all_ready: float = 0.0  # seconds
    cpu: float = 0.0  # CPU-seconds until the operator was idle
    calls: int = 0  # requests until then
    changes: list[float] = field(default_factory=list)
    change_calls: int = 0
    idle: float = 60.0  # seconds
    idle_calls: int = 0
    idle_writes: int = 0
    idle_cores: float = 0.0
    restart_writes: int = 0
    memory: float = 0.0  # bytes, the peak
    restart_memory: float = 0.0
    kubectl: float = 0.0
    children: int = 0


def run(folder: Path, *, quick: bool, rounds: int) -> Section:
    """Run the operator, then `kubectl apply` of the same objects."""
    if not BINARIES:
        raise BenchFailed("KUBEBUILDER_ASSETS is not set; set it to the folder with etcd, kube-apiserver and kubectl")
    if reason := crds.missing():
        raise BenchFailed(reason)
    folder.mkdir(parents=True)
    results = Results(50, idle=15.0) if quick else Results(500)
    policy, log = folder / "policy.yaml", folder / "audit.log"
    policy.write_text(yaml.safe_dump(POLICY))
    words = [f"--audit-policy-file={policy}", f"--audit-log-path={log}", "--audit-log-mode=batch"]
    with server(folder, crds.published(folder), words) as api:
        connection = Connection(api)
        _prepare(connection)
        operator, audit = Operator(folder / "k2", api, _NAMESPACE, token=OPERATOR), Audit(log, "k2-operator")
        with _running(operator) as process:
            _create_all(api, connection, results)
            results.calls, results.cpu = _settle(audit), cpu_seconds([process])
            print(
                f"  {results.feeds} feeds in {number(results.all_ready)} s, {results.calls} calls, "
                f"{number(results.cpu)} CPU-s, {number(_peak_memory(process) / 1e6)} MB",
                flush=True,
            )
            _change_some(api, connection, results, audit, 10 if quick else 50)
            _measure_idle(results, audit, process)
            results.memory = _peak_memory(process)
        with _running(operator) as process:
            started_at = datetime.now(UTC)
            time.sleep(10 if quick else 40)
            results.restart_writes = writes(audit.requests(started_at, datetime.now(UTC)))
            results.restart_memory = _peak_memory(process)
        _apply_with_kubectl(folder, results)
    return _section(results)


def _prepare(connection: Connection) -> None:
    for name in (_NAMESPACE, _KUBECTL_NAMESPACE):
        connection.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
    user = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "k2-operator"}
    binding = {"metadata": {"name": "k2-operator"}, "roleRef": role, "subjects": [user]}
    connection.request("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding)


@contextmanager
def _running(operator: Operator) -> Iterator[psutil.Process]:
    with operator.run(K2_LOG_LEVEL="info") as process:
        time.sleep(5)
        if process.poll() is not None:
            raise BenchFailed(f"the operator exited: {operator.log.read_text()[-500:]}")
        yield psutil.Process(process.pid)


def _feed(index: int) -> dict[str, Any]:
    """Return a feed with its own name, topic and symbols."""
    base = "".join(chr(ord("A") + digit) for digit in (index // 100, index // 10 % 10, index % 10))
    spec = {"exchange": "binance", "symbols": [f"{base}XUSDT", f"{base}YUSDT"]}
    name = f"feed-{index:03}"
    return {
        "apiVersion": "k2.marketdata.io/v1alpha1",
        "kind": "ExchangeFeed",
        "metadata": {"name": name, "namespace": _NAMESPACE},
        "spec": {**spec, "kafka": {"topic": f"bench.trades.{index:03}"}},
    }


def _create_all(api: Api, connection: Connection, results: Results) -> None:
    with watching(api, _FEEDS, _reconciled) as observed:
        started_at = time.monotonic()
        for index in range(results.feeds):
            connection.request("POST", _FEEDS, _feed(index))
        results.all_ready = observed.wait(results.feeds, 10 * _WITHIN) - started_at


def _reconciled(body: Any) -> str:
    """Return the name of a feed whose status is of its current generation, else an empty string."""
    generation = body["metadata"].get("generation")
    name: str = body["metadata"]["name"]
    return name if body.get("status", {}).get("observedGeneration") == generation else ""


def _settle(audit: Audit, quiet: float = _QUIET) -> int:
    """Wait until the operator writes nothing; return the number of its requests so far."""
    for _ in range(60):
        now = datetime.now(UTC)
        if not writes(audit.requests(now - timedelta(seconds=quiet), now)):
            return audit.requests(datetime.min.replace(tzinfo=UTC), now).total()
        time.sleep(_QUIET / 2)
    raise BenchFailed("the operator did not become idle")


def _change_some(api: Api, connection: Connection, results: Results, audit: Audit, count: int) -> None:
    names = [f"feed-{index:03}" for index in range(count)]
    before = {_config_hash(connection.request("GET", f"{_DEPLOYMENTS}/{name}-shard-0-0")) for name in names}

    def changed(body: Any) -> str:
        name: str = body["metadata"]["name"]
        return name if _config_hash(body) not in before else ""

    started_at = datetime.now(UTC)
    with watching(api, _DEPLOYMENTS, changed) as observed:
        for index, name in enumerate(names):
            symbols = _feed(index)["spec"]["symbols"]
            change = {"spec": {"symbols": [*symbols, f"Z{symbols[0]}"]}}
            requested_at = time.monotonic()
            connection.request("PATCH", f"{_FEEDS}/{name}", change, MERGE)
            results.changes.append(observed.wait_for(f"{name}-shard-0-0", 60) - requested_at)
            time.sleep(0.2)
    time.sleep(3)
    results.change_calls = audit.requests(started_at, datetime.now(UTC)).total()
    print(
        f"  one change: p50 {quantile(results.changes, 0.5):.3f} s, p99 {quantile(results.changes, 0.99):.3f} s",
        flush=True,
    )


def _config_hash(body: Any) -> tuple[str, str]:
    """Return the name of a Deployment and the configuration hash of its pods."""
    return body["metadata"]["name"], body["spec"]["template"]["metadata"].get("annotations", {}).get(_HASH, "")


def _measure_idle(results: Results, audit: Audit, process: psutil.Process) -> None:
    _settle(audit, _RESYNC)  # objects without a controller are reported after two minutes
    started_at, cpu = datetime.now(UTC), cpu_seconds([process])
    time.sleep(results.idle)
    results.idle_cores = (cpu_seconds([process]) - cpu) / results.idle
    ended = datetime.now(UTC)
    time.sleep(2)  # the log is written in batches
    requests = audit.requests(started_at, ended)
    results.idle_calls, results.idle_writes = requests.total(), writes(requests)
    print(f"  idle: {dict(requests)}, {results.idle_cores:.3f} cores", flush=True)


def _peak_memory(process: psutil.Process) -> float:
    for line in Path(f"/proc/{process.pid}/status").read_text("ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024.0
    raise BenchFailed("/proc has no VmHWM of the operator")


def _apply_with_kubectl(folder: Path, results: Results) -> None:
    """Apply the same children, rendered before, with kubectl in another namespace: the lower bound."""
    settings = load(yaml.safe_dump(SETTINGS), {})
    file = folder / "children.json"
    rendered = []
    for index in range(results.feeds):
        body = _feed(index)
        body["metadata"]["namespace"] = _KUBECTL_NAMESPACE
        rendered += children(ExchangeFeed.from_body(body), settings)
    results.children = len(rendered)
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": rendered}))
    command = [f"{BINARIES}/kubectl", "apply", "--server-side", "-f", str(file)]
    started_at = time.monotonic()
    done = subprocess.run(
        command, env={**os.environ, "KUBECONFIG": str(folder / "k2" / "kubeconfig")}, capture_output=True, check=False
    )
    results.kubectl = time.monotonic() - started_at
    if done.returncode:
        raise BenchFailed(f"kubectl: {done.stderr[-300:].decode()}")
    print(f"  kubectl: {results.children} objects in {results.kubectl:.1f} s", flush=True)


def _section(results: Results) -> Section:
    section = Section("operator", "Many feeds on one operator")
    p50, p99 = quantile(results.changes, 0.5), quantile(results.changes, 0.99)
    section.method = (
        "etcd and kube-apiserver (as in `make test-apiserver`) with the CRDs of K2, Strimzi and the operators of "
        "Spark and Prometheus, and the operator as a process, all on the cores of this machine; etcd does not wait "
        f"for its disk. {results.feeds} feeds of two symbols each, each with its own topic, are created one after the "
        "other in one namespace. No kubelet and no other operator runs, so children stay as they were applied. "
        "Requests are counted in the API server's audit log.",
        f"One change: a symbol is added to a feed; the time is measured from before the request until a watch "
        f"delivers the feed's changed Deployment. {len(results.changes)} feeds are changed, one after the other.",
        "The baseline is `kubectl apply --server-side` of the same children, rendered before, in one file: it does not "
        "read, compare, watch, or write a status.",
    )
    section.figures = [
        Figure("K2", f"{results.feeds} feeds, until each has a status", "s", [results.all_ready]),
        Figure("K2", "CPU of the operator, start-up included, until idle", "CPU-s", [results.cpu]),
        Figure("K2", "requests per feed, until idle", "requests", [results.calls / results.feeds]),
        Figure("K2", "one change, p50", "s", [p50]),
        Figure("K2", "one change, p99", "s", [p99]),
        Figure("K2", "requests per change", "requests", [results.change_calls / len(results.changes)]),
        Figure("K2", "requests per minute, idle", "requests", [results.idle_calls * 60 / results.idle]),
        Figure("K2", "writing requests per minute, idle", "requests", [results.idle_writes * 60 / results.idle]),
        Figure("K2", "writing requests after a restart", "requests", [results.restart_writes]),
        Figure("K2", "CPU, idle", "cores", [results.idle_cores]),
        Figure("K2", "peak memory (RSS)", "MB", [results.memory / 1e6]),
        Figure("K2", "peak memory (RSS), after a restart", "MB", [results.restart_memory / 1e6]),
        Figure("kubectl", f"{results.children:,} children", "s", [results.kubectl]),
    ]
    section.ratios = [("time, K2 over kubectl", results.all_ready / results.kubectl)]
    section.goals = [
        Goal(
            f"{results.feeds} feeds within {_WITHIN:.0f} s",
            f"{number(results.all_ready)} s",
            results.all_ready <= _WITHIN,
            f"{results.calls:,} requests on {os.cpu_count()} cores, shared with the API server and etcd",
        ),
        Goal(
            f"p99 of one change below {_CHANGE:.0f} s",
            f"{number(p99)} s",
            p99 < _CHANGE,
            f"half of the changes took {number(p50)} s or less",
        ),
        Goal(
            "no writing request while nothing changes",
            number(results.idle_writes + results.restart_writes),
            not results.idle_writes + results.restart_writes,
            f"{results.idle_writes} idle, {results.restart_writes} after a restart",
        ),
        Goal(
            f"below {_MEMORY / 1e6:.0f} MB",
            f"{number(max(results.memory, results.restart_memory) / 1e6)} MB",
            max(results.memory, results.restart_memory) < _MEMORY,
            f"{number(results.memory / 1e6)} MB while feeds were created, {number(results.restart_memory / 1e6)} MB "
            "after a restart",
        ),
    ]
    return section
