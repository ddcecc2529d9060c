"""Security in the cluster: network access, permissions of accounts, and restricted pods."""

import json

import pytest
import yaml

from cluster.platform import KAFKA_NAMESPACE
from cluster.shell import run
from tests.e2e.harness import StepFailed, eventually

pytestmark = pytest.mark.e2e

_REACH = """
import socket, sys
for target in sys.argv[1:]:
    host, port = target.rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), timeout=4).close()
        print(target, "open")
    except OSError as error:
        print(target, "closed")
"""


def targets(cluster) -> tuple[str, str, str]:
    """Return the addresses of Kafka's listener, the catalog's database and the store."""
    (listener,) = cluster.get("kafka", "k2-kafka", KAFKA_NAMESPACE)["spec"]["kafka"]["listeners"]
    kafka = f"k2-kafka-kafka-bootstrap.{KAFKA_NAMESPACE}:{listener['port']}"
    return kafka, "k2-postgres:5432", "k2-minio:9000"


def probe(cluster, name: str, labels: dict[str, str]) -> dict[str, str]:
    """Return for each service whether a pod with these labels can connect to it."""
    image = cluster.objects("pods", "app.kubernetes.io/component=ingest")[0]["spec"]["containers"][0]["image"]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "securityContext": {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": "probe",
                    "image": image,
                    "command": ["python", "-c", f"import time; time.sleep(5)\n{_REACH}", *targets(cluster)],
                    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                }
            ],
        },
    }
    cluster.kubectl("delete", "pod", name, "--ignore-not-found")
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps(pod))
    try:
        eventually(
            f"{name} has ended",
            lambda: cluster.get("pod", name).get("status", {}).get("phase") in {"Succeeded", "Failed"},
            timeout=90,
        )
        return dict(line.split() for line in cluster.kubectl("logs", name).splitlines())
    finally:
        cluster.kubectl("delete", "pod", name, "--wait=false")


def test_an_unrelated_pod_reaches_neither_kafka_nor_the_catalog_nor_the_bucket(cluster):
    assert probe(cluster, "unrelated", {"app": "unrelated"}) == dict.fromkeys(targets(cluster), "closed")


def test_ingest_reaches_kafka_only(cluster):
    labels = cluster.objects("pods", "app.kubernetes.io/component=ingest,k2.marketdata.io/feed=binance")[0]["metadata"][
        "labels"
    ]
    reachable = probe(
        cluster,
        "like-ingest",
        {key: labels[key] for key in labels if key != "pod-template-hash"} | {"k2.marketdata.io/shard": "99"},
    )
    assert list(reachable.values()) == ["open", "closed", "closed"]


def test_an_unrestricted_pod_is_rejected(cluster):
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "privileged"},
        "spec": {"containers": [{"name": "it", "image": "x:1", "securityContext": {"privileged": True}}]},
    }
    with pytest.raises(StepFailed, match="violates PodSecurity"):
        cluster.kubectl("apply", "-f", "-", stdin=json.dumps(pod))


def test_every_pod_is_restricted_and_only_drivers_and_the_operator_have_a_token(cluster):
    with_token = set()
    for pod in cluster.objects("pods"):
        spec = pod["spec"]
        for container in spec["containers"]:
            security = container["securityContext"]
            assert security["allowPrivilegeEscalation"] is False, pod["metadata"]["name"]
            assert security["readOnlyRootFilesystem"] is True, pod["metadata"]["name"]
            assert security["capabilities"]["drop"] == ["ALL"], pod["metadata"]["name"]
            if any("serviceaccount" in mount["mountPath"] for mount in container.get("volumeMounts", ())):
                with_token.add(spec["serviceAccountName"])
    assert with_token <= {"k2-operator", "k2-spark", "k2-kafka-credentials"}, with_token


@pytest.mark.parametrize(
    ("account", "verb", "resource", "allowed"),
    [
        ("k2-operator", "patch", "sparkapplications.sparkoperator.k8s.io", True),
        ("k2-operator", "list", "secrets", False),
        ("k2-operator", "get", "secrets", False),
        ("k2-operator", "create", "pods/exec", False),
        ("k2-operator", "create", "rolebindings.rbac.authorization.k8s.io", False),
        ("k2-spark", "create", "pods", True),
        ("k2-spark", "get", "secrets", False),
        ("k2-spark", "patch", "exchangefeeds.k2.marketdata.io", False),
        ("default", "get", "pods", False),
    ],
)
def test_accounts_have_only_the_permissions_they_need(cluster, account, verb, resource, allowed):
    words = ["auth", "can-i", verb, resource, "--as", f"system:serviceaccount:k2:{account}"]
    try:
        answer = cluster.kubectl(*words).strip()
    except StepFailed as error:  # kubectl exits with 1 for `no`
        answer = "no" if "exited with 1" in str(error) else str(error)
    assert answer == ("yes" if allowed else "no")


def test_no_credential_is_in_any_other_object(cluster):
    kinds = "sparkapplications,configmaps,deployments,feeds,pods,events"
    objects = run("kubectl", "get", kinds, "-A", "-o", "yaml", env=cluster.env)
    assert yaml.safe_load(objects)["items"]
    store = [cluster.secret(name)["secret-key"] for name in ("k2-s3", "k2-s3-jobs", "k2-s3-audit", "k2-s3-query")]
    catalog = [cluster.secret(name)["password"] for name in ("k2-catalog", "k2-catalog-query")]
    for value in (*catalog, *store):
        assert len(value) >= 12
        assert value not in objects
