"""What copies Kafka's Secrets into the namespaces of clients, on a real API server with exactly its own rights."""

import base64
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.apiserver.support.servers import Api, eventually, running
from tests.charts.rendering import CHARTS, needs_helm, of_kind, render

pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(120), needs_helm]

SCRIPT = CHARTS / "k2-platform/files/credentials.py"
APPLY = "application/apply-patch+yaml"
PATHS = {
    "Secret": "/api/v1/namespaces/{}/secrets/",
    "ServiceAccount": "/api/v1/namespaces/{}/serviceaccounts/",
    "Role": "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/roles/",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/rolebindings/",
}


class Copies:
    """The chart's objects in two namespaces, and its container run here as a process."""

    def __init__(self, api: Api, kafka: str, clients: str, folder: Path) -> None:
        self.api, self.kafka, self.clients, self.folder = api, kafka, clients, folder
        self.manifests = render("k2-platform", namespace=clients, values={"kafka": {"namespace": kafka}})
        for kind in PATHS:
            for manifest in of_kind(self.manifests, kind):
                if manifest["metadata"]["labels"]["app.kubernetes.io/component"] == "kafka-credentials":
                    self.apply(manifest)
        (deployment,) = [
            each for each in of_kind(self.manifests, "Deployment") if each["metadata"]["name"] == "k2-kafka-credentials"
        ]
        (self.container,) = deployment["spec"]["template"]["spec"]["containers"]
        path = f"/api/v1/namespaces/{clients}/serviceaccounts/k2-kafka-credentials/token"
        self.token = api.request("POST", path, {"spec": {"expirationSeconds": 3600}})["status"]["token"]
        self.log, self.complete = folder / "log", folder / "complete"

    def apply(self, manifest: dict[str, Any]) -> None:
        """Apply an object of the chart."""
        metadata = manifest["metadata"]
        path = PATHS[manifest["kind"]].format(metadata.get("namespace", self.clients))
        answer = self.api.request("PATCH", f"{path}{metadata['name']}?fieldManager=helm&force=true", manifest, APPLY)
        assert answer["kind"] == manifest["kind"], answer

    def strimzi(self, name: str, **data: str) -> None:
        """Write a Secret in Kafka's namespace as Strimzi does."""
        encoded = {key.replace("_", "."): base64.b64encode(value.encode()).decode() for key, value in data.items()}
        path = f"{PATHS['Secret'].format(self.kafka)}{name}?fieldManager=strimzi&force=true"
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": encoded}
        assert self.api.request("PATCH", path, body, APPLY)["kind"] == "Secret"

    def copied(self, name: str) -> dict[str, str]:
        """Return the data of a Secret in the clients' namespace."""
        data = self.api.request("GET", f"{PATHS['Secret'].format(self.clients)}{name}").get("data") or {}
        return {key: base64.b64decode(value).decode() for key, value in data.items()}

    @contextmanager
    def run(self) -> Iterator[None]:
        """Run the container's command with the token of its ServiceAccount."""
        (self.folder / "token").write_text(self.token)
        (self.folder / "ca.crt").write_bytes(self.api.certificate.read_bytes())
        host, _, port = self.api.url.removeprefix("https://").rpartition(":")
        variables = {entry["name"]: entry["value"] for entry in self.container["env"]}
        variables |= {
            "KUBERNETES_SERVICE_HOST": host,
            "KUBERNETES_SERVICE_PORT": port,
            "ACCOUNT": str(self.folder),
            "COMPLETE": str(self.complete),
            "PAUSE": "0.2",
        }
        assert self.container["args"] == [SCRIPT.read_text()]
        command = [sys.executable, *self.container["command"][1:], *self.container["args"]]
        with running(self.log, command, env=os.environ | variables):
            yield


@pytest.fixture
def copies(api: Api, namespace: str, tmp_path: Path) -> Copies:
    kafka = f"{namespace}-kafka"
    api.request("POST", "/api/v1/namespaces", {"metadata": {"name": kafka}})
    return Copies(api, kafka, namespace, tmp_path)


def test_secrets_are_copied_when_they_appear_change_or_were_edited_and_only_the_keys_that_clients_read(copies: Copies):
    copies.strimzi("k2-kafka-cluster-ca-cert", ca_crt="authority", ca_password="of a keystore")
    with copies.run():
        eventually(lambda: copies.copied("k2-kafka-cluster-ca-cert") == {"ca.crt": "authority"})
        eventually(lambda: "k2-ingest has no password yet" in copies.log.read_text())
        assert not copies.complete.exists()
        for name in ("k2-ingest", "k2-jobs", "k2-query", "k2-audit"):
            copies.strimzi(name, password=f"password-of-{name}", sasl_jaas_config="with it too")
        eventually(copies.complete.exists)
        assert copies.copied("k2-query") == {"password": "password-of-k2-query"}
        copies.strimzi("k2-ingest", password="password-rotated")
        eventually(lambda: copies.copied("k2-ingest") == {"password": "password-rotated"})
        path = f"{PATHS['Secret'].format(copies.clients)}k2-jobs"
        copies.api.request("PATCH", path, {"data": {"password": "eA=="}}, "application/merge-patch+json")
        eventually(lambda: copies.copied("k2-jobs") == {"password": "password-of-k2-jobs"})
        (empty,) = [each for each in of_kind(copies.manifests, "Secret") if each["metadata"]["name"] == "k2-audit"]
        copies.apply(empty)  # as an upgrade of the chart does
        assert copies.copied("k2-audit") == {"password": "password-of-k2-audit"}
    log = copies.log.read_text()
    assert "password-" not in log
    assert base64.b64encode(b"password-of-k2-ingest").decode() not in log


def test_a_refused_request_is_reported_and_the_others_go_on(copies: Copies):
    for name in ("k2-ingest", "k2-jobs", "k2-query", "k2-audit"):
        copies.strimzi(name, password=name)
    copies.strimzi("k2-kafka-cluster-ca-cert", ca_crt="authority")
    role = f"{PATHS['Role'].format(copies.clients)}k2-kafka-credentials"
    names = ["k2-ingest", "k2-query", "k2-audit", "k2-kafka-cluster-ca-cert"]
    rule = {"apiGroups": [""], "resources": ["secrets"], "resourceNames": names, "verbs": ["get", "patch"]}
    copies.api.request("PATCH", role, {"rules": [rule]}, "application/merge-patch+json")
    with copies.run():
        eventually(lambda: f"{copies.clients}/k2-jobs: the API server answers 403" in copies.log.read_text())
        eventually(lambda: copies.copied("k2-query") == {"password": "k2-query"})
        assert not copies.complete.exists()


@pytest.mark.parametrize(
    ("verb", "name", "where", "allowed"),
    [
        ("get", "k2-ingest", "kafka", "yes"),
        ("patch", "k2-ingest", "kafka", "no"),
        ("get", "k2-kafka-cluster-ca", "kafka", "no"),  # the key of the authority
        ("patch", "k2-query", "clients", "yes"),
        ("get", "k2-s3", "clients", "no"),
        ("create", "", "clients", "no"),
        ("list", "", "clients", "no"),
    ],
)
def test_its_account_may_nothing_else(copies: Copies, verb: str, name: str, where: str, allowed: str):
    namespace = copies.kafka if where == "kafka" else copies.clients
    attributes = {"namespace": namespace, "verb": verb, "resource": "secrets", "name": name}
    user = f"system:serviceaccount:{copies.clients}:k2-kafka-credentials"
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": user, "resourceAttributes": attributes},
    }
    answer = copies.api.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
    assert answer["status"]["allowed"] is (allowed == "yes")
