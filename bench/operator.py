"""Many feeds on one operator: a real API server and etcd, the other operators' real CRDs, the operator as a process.

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

TITLE: Final = "Many feeds on one operator"
_NAMESPACE: Final = "bench"
_RIVAL: Final = "bench-rival"
_FEEDS: Final = f"/apis/k2.marketdata.io/v1alpha1/namespaces/{_NAMESPACE}/exchangefeeds"
_DEPLOYMENTS: Final = f"/apis/apps/v1/namespaces/{_NAMESPACE}/deployments"
_WITHIN: Final = 60.0  # seconds for all feeds
_CHANGE: Final = 1.0  # seconds for one, p99
_MEMORY: Final = 200e6
_QUIET: Final = 10  # seconds without a request, after which all is done
_ROUND: Final = 70  # seconds in which every feed is looked at once
_HASH: Final = "k2.marketdata.io/config-hash"


@dataclass(slots=True)
class Found:
    """What was measured."""

    feeds: int
    all_ready: float = 0.0  # seconds
    used: float = 0.0  # CPU-seconds until all was done
    calls: int = 0  # until then
    changes: list[float] = field(default_factory=list)
    change_calls: int = 0
    idle: float = 60.0  # seconds
    idle_calls: int = 0
    idle_writes: int = 0
    idle_cores: float = 0.0
    restart_writes: int = 0
    memory: float = 0.0  # bytes, the highest moment
    restart_memory: float = 0.0
    kubectl: float = 0.0
    children: int = 0


def run(folder: Path, *, quick: bool, rounds: int) -> Section:
    """One run, then the rival's."""
    if not BINARIES:
        raise BenchFailed("KUBEBUILDER_ASSETS is not set: it names the folder of etcd, kube-apiserver and kubectl")
    if why := crds.missing():
        raise BenchFailed(why)
    folder.mkdir(parents=True)
    found = Found(50, idle=15.0) if quick else Found(500)
    policy, log = folder / "policy.yaml", folder / "audit.log"
    policy.write_text(yaml.safe_dump(POLICY))
    words = [f"--audit-policy-file={policy}", f"--audit-log-path={log}", "--audit-log-mode=batch"]
    with server(folder, crds.published(folder), words) as api:
        connection = Connection(api)
        _prepare(connection)
        operator, audit = Operator(folder / "k2", api, _NAMESPACE, token=OPERATOR), Audit(log, "k2-operator")
        with _started(operator) as process:
            _create_all(api, connection, found)
            found.calls, found.used = _settle(audit), cpu_seconds([process])
            print(
                f"  {found.feeds} feeds in {number(found.all_ready)} s, {found.calls} calls, "
                f"{number(found.used)} CPU-s, {number(_highest(process) / 1e6)} MB",
                flush=True,
            )
            _change_some(api, connection, found, audit, 10 if quick else 50)
            _rest(found, audit, process)
            found.memory = _highest(process)
        with _started(operator) as process:
            began = datetime.now(UTC)
            time.sleep(10 if quick else 40)
            found.restart_writes = writes(audit.asked(began, datetime.now(UTC)))
            found.restart_memory = _highest(process)
        _apply_with_kubectl(folder, found)
    return _section(found)


def _prepare(connection: Connection) -> None:
    for name in (_NAMESPACE, _RIVAL):
        connection.ask("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
    user = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "k2-operator"}
    binding = {"metadata": {"name": "k2-operator"}, "roleRef": role, "subjects": [user]}
    connection.ask("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding)


@contextmanager
def _started(operator: Operator) -> Iterator[psutil.Process]:
    with operator.run(K2_LOG_LEVEL="info") as process:
        time.sleep(5)
        if process.poll() is not None:
            raise BenchFailed(f"the operator ended: {operator.log.read_text()[-500:]}")
        yield psutil.Process(process.pid)


def _feed(number_: int) -> dict[str, Any]:
    """A feed that claims nothing that another one claims."""
    base = "".join(chr(ord("A") + digit) for digit in (number_ // 100, number_ // 10 % 10, number_ % 10))
    spec = {"exchange": "binance", "symbols": [f"{base}XUSDT", f"{base}YUSDT"]}
    name = f"feed-{number_:03}"
    return {
        "apiVersion": "k2.marketdata.io/v1alpha1",
        "kind": "ExchangeFeed",
        "metadata": {"name": name, "namespace": _NAMESPACE},
        "spec": {**spec, "kafka": {"topic": f"bench.trades.{number_:03}"}},
    }


def _create_all(api: Api, connection: Connection, found: Found) -> None:
    with watching(api, _FEEDS, _observed) as watched:
        began = time.monotonic()
        for index in range(found.feeds):
            connection.ask("POST", _FEEDS, _feed(index))
        found.all_ready = watched.wait(found.feeds, 10 * _WITHIN) - began


def _observed(body: Any) -> str:
    generation = body["metadata"].get("generation")
    name: str = body["metadata"]["name"]
    return name if body.get("status", {}).get("observedGeneration") == generation else ""


def _settle(audit: Audit, quiet: float = _QUIET) -> int:
    """Waits until the operator asks for nothing; returns what it has asked so far."""
    for _ in range(60):
        now = datetime.now(UTC)
        if not writes(audit.asked(now - timedelta(seconds=quiet), now)):
            return audit.asked(datetime.min.replace(tzinfo=UTC), now).total()
        time.sleep(_QUIET / 2)
    raise BenchFailed("the operator never comes to rest")


def _change_some(api: Api, connection: Connection, found: Found, audit: Audit, count: int) -> None:
    names = [f"feed-{index:03}" for index in range(count)]
    before = {_hashed(connection.ask("GET", f"{_DEPLOYMENTS}/{name}-ingest-0-0")) for name in names}

    def changed(body: Any) -> str:
        name: str = body["metadata"]["name"]
        return name if _hashed(body) not in before else ""

    began = datetime.now(UTC)
    with watching(api, _DEPLOYMENTS, changed) as watched:
        for index, name in enumerate(names):
            symbols = _feed(index)["spec"]["symbols"]
            edit = {"spec": {"symbols": [*symbols, f"Z{symbols[0]}"]}}
            asked = time.monotonic()
            connection.ask("PATCH", f"{_FEEDS}/{name}", edit, MERGE)
            found.changes.append(watched.wait_for(f"{name}-ingest-0-0", 60) - asked)
            time.sleep(0.2)
    time.sleep(3)
    found.change_calls = audit.asked(began, datetime.now(UTC)).total()
    print(
        f"  one change: p50 {quantile(found.changes, 0.5):.3f} s, p99 {quantile(found.changes, 0.99):.3f} s", flush=True
    )


def _hashed(body: Any) -> tuple[str, str]:
    """A Deployment, and which configuration its pods have."""
    return body["metadata"]["name"], body["spec"]["template"]["metadata"].get("annotations", {}).get(_HASH, "")


def _rest(found: Found, audit: Audit, process: psutil.Process) -> None:
    _settle(audit, _ROUND)  # what nobody picks up is told after two minutes
    began, used = datetime.now(UTC), cpu_seconds([process])
    time.sleep(found.idle)
    found.idle_cores = (cpu_seconds([process]) - used) / found.idle
    ended = datetime.now(UTC)
    time.sleep(2)  # the log is written in batches
    asked = audit.asked(began, ended)
    found.idle_calls, found.idle_writes = asked.total(), writes(asked)
    print(f"  at rest: {dict(asked)}, {found.idle_cores:.3f} cores", flush=True)


def _highest(process: psutil.Process) -> float:
    for line in Path(f"/proc/{process.pid}/status").read_text("ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024.0
    raise BenchFailed("the system does not tell how much memory the operator used")


def _apply_with_kubectl(folder: Path, found: Found) -> None:
    """The same children, rendered before, in another namespace: what anybody could do who need not think."""
    settings = load(yaml.safe_dump(SETTINGS), {})
    file = folder / "children.json"
    rendered = []
    for index in range(found.feeds):
        body = _feed(index)
        body["metadata"]["namespace"] = _RIVAL
        rendered += children(ExchangeFeed.from_body(body), settings)
    found.children = len(rendered)
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": rendered}))
    command = [f"{BINARIES}/kubectl", "apply", "--server-side", "-f", str(file)]
    began = time.monotonic()
    done = subprocess.run(
        command, env={**os.environ, "KUBECONFIG": str(folder / "k2" / "kubeconfig")}, capture_output=True, check=False
    )
    found.kubectl = time.monotonic() - began
    if done.returncode:
        raise BenchFailed(f"kubectl: {done.stderr[-300:].decode()}")
    print(f"  kubectl: {found.children} objects in {found.kubectl:.1f} s", flush=True)


def _section(found: Found) -> Section:
    section = Section("f", TITLE)
    p50, p99 = quantile(found.changes, 0.5), quantile(found.changes, 0.99)
    section.method = (
        f"etcd and kube-apiserver (`make test-apiserver` uses the same) with the CRDs of K2, Strimzi, Spark's and "
        f"Prometheus' operator, and the operator as a process, on the cores of this machine together; etcd does not "
        f"wait for its disk. {found.feeds} feeds of two symbols each, every one with its own topic, are created one "
        f"after the other in one namespace. No kubelet runs and no other operator, so children stay as they were "
        f"applied. Requests are counted in the API server's audit log.",
        f"One change: a symbol is added to a feed; the clock runs from before the request until a watch has told of "
        f"the feed's changed Deployment. {len(found.changes)} feeds are changed, one after the other.",
        "The rival is `kubectl apply --server-side` of the same children, rendered before, in one file: it need not "
        "look, compare, watch, or tell a status.",
    )
    section.figures = [
        Figure("K2", f"{found.feeds} feeds, until each has its status", "s", [found.all_ready]),
        Figure("K2", "CPU of the operator, start-up included, until all was quiet", "CPU-s", [found.used]),
        Figure("K2", "requests a feed, until all was quiet", "requests", [found.calls / found.feeds]),
        Figure("K2", "one change, p50", "s", [p50]),
        Figure("K2", "one change, p99", "s", [p99]),
        Figure("K2", "requests a change", "requests", [found.change_calls / len(found.changes)]),
        Figure("K2", "requests a minute at rest", "requests", [found.idle_calls * 60 / found.idle]),
        Figure("K2", "requests that write, a minute at rest", "requests", [found.idle_writes * 60 / found.idle]),
        Figure("K2", "requests that write, after a restart", "requests", [found.restart_writes]),
        Figure("K2", "CPU at rest", "cores", [found.idle_cores]),
        Figure("K2", "highest memory (RSS)", "MB", [found.memory / 1e6]),
        Figure("K2", "highest memory (RSS), after a restart", "MB", [found.restart_memory / 1e6]),
        Figure("kubectl", f"{found.children:,} children", "s", [found.kubectl]),
    ]
    section.ratios = [("time, K2 over kubectl", found.all_ready / found.kubectl)]
    section.goals = [
        Goal(
            f"{found.feeds} feeds within {_WITHIN:.0f} s",
            f"{number(found.all_ready)} s",
            found.all_ready <= _WITHIN,
            f"{found.calls:,} requests on {os.cpu_count()} cores, which the API server and etcd share",
        ),
        Goal(
            f"p99 of one change below {_CHANGE:.0f} s",
            f"{number(p99)} s",
            p99 < _CHANGE,
            f"half of the changes took {number(p50)} s or less",
        ),
        Goal(
            "no request that writes while nothing changes",
            number(found.idle_writes + found.restart_writes),
            not found.idle_writes + found.restart_writes,
            f"{found.idle_writes} at rest, {found.restart_writes} after a restart",
        ),
        Goal(
            f"below {_MEMORY / 1e6:.0f} MB",
            f"{number(max(found.memory, found.restart_memory) / 1e6)} MB",
            max(found.memory, found.restart_memory) < _MEMORY,
            f"{number(found.memory / 1e6)} MB while feeds were created, {number(found.restart_memory / 1e6)} MB after "
            "a restart",
        ),
    ]
    return section
