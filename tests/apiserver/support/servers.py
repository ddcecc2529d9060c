"""A real kube-apiserver on a real etcd, and the operator as a process, for tests and benchmarks."""

import json
import os
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import yaml

from k2.schemas.feed import crd

TOKEN = "administrator"
OPERATOR = "the-operator"  # the token of the user k2-operator, which has only the permissions that a test grants
BINARIES = os.environ.get("KUBEBUILDER_ASSETS", "")


def free_port() -> int:
    """Return a free port."""
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port: int = taken.getsockname()[1]
        return port


class Api:
    """A client of the API server with administrator rights."""

    def __init__(self, url: str, certificate: Path) -> None:
        self.url = url
        self.certificate = certificate  # of the server, with its self-signed authority
        self._trust: ssl.SSLContext | None = None

    def request(self, method: str, path: str, body: Any = None, content: str = "application/json") -> Any:
        """Send a request and return the answer; for an error that is a `Status`."""
        request = urllib.request.Request(
            self.url + path,
            json.dumps(body).encode() if body is not None else None,
            {"Authorization": f"Bearer {TOKEN}", "Content-Type": content},
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=30, context=self.trust()) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raw = error.read()
            return json.loads(raw) if raw.startswith(b"{") else {"kind": "Status", "message": raw.decode()}

    def trust(self) -> ssl.SSLContext:
        """Return a TLS context that trusts the server, which writes its certificate when it starts."""
        if self._trust is None:
            self._trust = ssl.create_default_context(cafile=str(self.certificate))
        return self._trust

    def feed(self, namespace: str, name: str) -> str:
        """Return the path of a feed."""
        return f"/apis/k2.marketdata.io/v1alpha1/namespaces/{namespace}/exchangefeeds/{name}"


@contextmanager
def server(folder: Path, definitions: Iterable[dict[str, Any]] = (), arguments: Iterable[str] = ()) -> Iterator[Api]:
    """Run an API server with K2's CRD, other CRDs and additional options."""
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    with _etcd(folder) as etcd, _apiserver(folder, etcd, arguments) as api:
        for definition in (crd.definition(), *definitions):
            created = api.request("POST", path, definition)
            assert created["kind"] == "CustomResourceDefinition", created
            name = created["metadata"]["name"]
            eventually(lambda name=name: _established(api.request("GET", f"{path}/{name}")))
        eventually(lambda: api.request("GET", "/apis/k2.marketdata.io/v1alpha1/exchangefeeds").get("items") is not None)
        yield api


def _established(definition: dict[str, Any]) -> bool:
    conditions = definition.get("status", {}).get("conditions") or ()
    return any(about["type"] == "Established" and about["status"] == "True" for about in conditions)


@contextmanager
def _etcd(folder: Path) -> Iterator[str]:
    client, peer = f"http://127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}"
    arguments = [
        f"--data-dir={folder}/etcd", f"--listen-client-urls={client}", f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=default={peer}",
        "--unsafe-no-fsync",
    ]  # fmt: skip
    with running(folder / "etcd.log", [f"{BINARIES}/etcd", *arguments]):
        yield client


@contextmanager
def _apiserver(folder: Path, etcd: str, more: Iterable[str]) -> Iterator[Api]:
    port = free_port()
    key = folder / "sa.key"
    subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
    tokens = folder / "tokens.csv"
    tokens.write_text(f'{TOKEN},admin,1,"system:masters"\n{OPERATOR},k2-operator,2\n')
    arguments = [
        f"--etcd-servers={etcd}", f"--secure-port={port}", "--bind-address=127.0.0.1", f"--cert-dir={folder}/certs",
        f"--service-account-key-file={key}", f"--service-account-signing-key-file={key}",
        "--service-account-issuer=https://k2.test", f"--token-auth-file={tokens}", "--authorization-mode=RBAC",
        "--service-cluster-ip-range=10.96.0.0/16", "--disable-admission-plugins=ServiceAccount",
        "--allow-privileged=true", *more,
    ]  # fmt: skip
    api = Api(f"https://127.0.0.1:{port}", folder / "certs" / "apiserver.crt")
    with running(folder / "apiserver.log", [f"{BINARIES}/kube-apiserver", *arguments]):
        eventually(lambda: _ready(api), within=60)
        yield api


def _ready(api: Api) -> bool:
    try:
        return api.request("GET", "/api/v1/namespaces/default").get("kind") == "Namespace"
    except OSError:
        return False


@contextmanager
def running(log: Path, command: list[str], **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program with its output in a file, and terminate it at the end."""
    with log.open("ab") as file, subprocess.Popen(command, stdout=file, stderr=file, **options) as process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def eventually(check: Callable[[], Any], within: float = 120.0) -> Any:
    """Poll, first soon, then four times a second, until a check returns a true value, and return that value."""
    deadline, pause = time.monotonic() + within, 0.05
    while time.monotonic() < deadline:
        if result := check():
            return result
        time.sleep(pause)
        pause = min(pause * 1.2, 0.25)
    raise AssertionError(f"not within {within:.0f} s")


SETTINGS = {
    "ingestImage": "k2/ingest:test",
    "jobsImage": "k2/jobs:test",
    "kafkaBootstrap": "kafka:9092",
    "kafkaCluster": "k2",
    "registryUrl": "http://registry:8081",
    "catalogUri": "postgresql://postgres:5432/iceberg",
    "warehouse": "s3://warehouse",
    "checkpoints": "s3a://checkpoints",
}


class Operator:
    """The operator process of one test."""

    def __init__(self, folder: Path, api: Api, namespace: str, url: str = "", token: str = TOKEN) -> None:
        folder.mkdir(exist_ok=True)
        self.log = folder / "operator.log"
        self._namespace = namespace
        kubeconfig, settings = folder / "kubeconfig", folder / "settings.yaml"
        kubeconfig.write_text(yaml.safe_dump(kubeconfig_of(url or api.url, api.certificate, token)))
        settings.write_text(yaml.safe_dump(SETTINGS))
        more = {"KUBECONFIG": str(kubeconfig), "K2_OPERATOR_SETTINGS": str(settings), "K2_LOG_LEVEL": "debug"}
        self._environment = {**os.environ, "MALLOC_ARENA_MAX": "2", **more}  # as in its image

    @contextmanager
    def run(self, *arguments: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run it with a new log and additional arguments."""
        self.log.unlink(missing_ok=True)
        command = [sys.executable, "-m", "k2.operator", "--namespace", self._namespace, *arguments]
        with running(self.log, command, env=self._environment | environment) as process:
            yield process

    def rounds(self, name: str) -> int:
        """Return how often this process has reconciled a feed."""
        return sum(line.get("event") == "reconciled" and line.get("feed") == name for line in self._log_records())

    def writes(self) -> list[str]:
        """Return the write requests of this process, whether or not they changed anything."""
        requests = [
            line for line in self._log_records() if line.get("event") == "API request" and line["verb"] != "get"
        ]
        return [f"{line['verb']} {line['path']}" for line in requests]

    def is_standing_by(self) -> bool:
        """Return whether this process waits for a lease."""
        return bool(self.lines("standing by")) and not self.lines("lease acquired")

    def lines(self, event: str) -> list[dict[str, Any]]:
        """Return what this process logged of an event."""
        return [line for line in self._log_records() if line.get("event") == event]

    def _log_records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]


def kubeconfig_of(url: str, certificate: Path, token: str) -> dict[str, Any]:
    """Return a kubeconfig for a server and a token."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": url, "certificate-authority": str(certificate)}}],
        "users": [{"name": "test", "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
    }
