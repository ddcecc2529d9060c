"""Kafka's users in the cluster: who has another component's password may do what that component may, and no more.

Without users, in a cluster whose values choose plaintext, there is nothing to test here.
"""

import json
from pathlib import Path

import pytest

from cluster.platform import KAFKA_NAMESPACE
from cluster.shell import run
from tests.e2e.harness import StepFailed, eventually

pytestmark = pytest.mark.e2e

READ, WRITE = "market.crypto.trades.binance", "market.crypto.deadletter.binance"
GROUPS = ("k2-resume-e2e", "spark-kafka-source-e2e", "k2-query-e2e")
USERS = ("k2-ingest", "k2-jobs", "k2-query", "k2-audit")
AUTHORITY = "k2-kafka-cluster-ca-cert"
# What each user may do: describe the topic, read it as a member of the group of each component, write to it.
MAY = {
    "k2-ingest": {"describe", "read k2-resume-e2e", "write"},
    "k2-jobs": {"describe", "read spark-kafka-source-e2e"},
    "k2-query": {"describe", "read k2-query-e2e"},
    "k2-audit": {"describe"},
    "nobody": set(),
}
SMOKE = {"k2-ingest", "k2-audit"}  # who may most, and who may least
_TRY = Path(__file__).with_name("kafka_attempts.py").read_text()


@pytest.fixture
def bootstrap(cluster) -> str:
    """The address of the listener with users."""
    (listener,) = cluster.get("kafka", "k2-kafka", KAFKA_NAMESPACE)["spec"]["kafka"]["listeners"]
    if listener.get("authentication", {}).get("type") != "scram-sha-512":
        pytest.skip("this cluster's Kafka has no users")
    return f"k2-kafka-kafka-bootstrap.{KAFKA_NAMESPACE}:{listener['port']}"


def possible(cluster, user: str, bootstrap: str) -> set[str]:
    """Return what a pod with a user's password can do."""
    ingest = cluster.objects("pods", "app.kubernetes.io/component=ingest,k2.marketdata.io/feed=binance")[0]
    own_labels = {key: value for key, value in ingest["metadata"]["labels"].items() if key != "pod-template-hash"}
    name = f"as-{user}"
    secret = {"secretName": user, "optional": True}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": own_labels | {"k2.marketdata.io/shard": "99"}},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "securityContext": {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": "try",
                    "image": ingest["spec"]["containers"][0]["image"],
                    "command": ["python", "-c", f"import time; time.sleep(5)\n{_TRY}", user],
                    "args": ["/etc/user/password", "/etc/ca/ca.crt", bootstrap, READ, WRITE, *GROUPS],
                    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                    "volumeMounts": [
                        {"name": "ca", "mountPath": "/etc/ca"},
                        {"name": "user", "mountPath": "/etc/user"},
                    ],
                }
            ],
            "volumes": [{"name": "ca", "secret": {"secretName": AUTHORITY}}, {"name": "user", "secret": secret}],
        },
    }
    cluster.kubectl("delete", "pod", name, "--ignore-not-found")
    cluster.kubectl("apply", "-f", "-", stdin=json.dumps(pod))
    try:
        eventually(
            f"{name} has ended",
            lambda: cluster.get("pod", name).get("status", {}).get("phase") in {"Succeeded", "Failed"},
            timeout=180,
        )
        *lines, last = cluster.kubectl("logs", name).splitlines()
        assert last == "done", lines
        return {line for line in lines if ": " not in line}  # the others say why an attempt failed
    finally:
        cluster.kubectl("delete", "pod", name, "--wait=false")


@pytest.mark.parametrize("user", [pytest.param(user, marks=pytest.mark.smoke if user in SMOKE else ()) for user in MAY])
def test_a_pod_with_a_password_can_do_what_its_component_may_and_no_more(cluster, bootstrap, user):
    assert possible(cluster, user, bootstrap) == MAY[user]


def test_no_password_is_in_any_object_event_or_log(cluster, bootstrap):
    secrets = [cluster.secret(user)["password"] for user in USERS]
    secrets += [cluster.secret(f"k2-s3-{user}")["secret-key"] for user in ("jobs", "audit", "query")]
    assert min(map(len, secrets)) >= 12
    kinds = "sparkapplications,configmaps,deployments,statefulsets,jobs,cronjobs,feeds,pods,events,kafkausers,kafkas"
    texts = {kinds: run("kubectl", "get", kinds, "-A", "-o", "yaml", env=cluster.env)}
    for pod in cluster.objects("pods"):
        name = pod["metadata"]["name"]
        try:
            texts[name] = cluster.kubectl("logs", name, "--all-containers", "--prefix")
        except StepFailed:  # a pod that has not started, or has ended since
            continue
    assert len(texts) > 5
    for where, text in texts.items():
        assert not any(secret in text for secret in secrets), where


@pytest.mark.slow
def test_a_missing_secret_is_named_and_a_rotated_password_reaches_running_pods(cluster, bootstrap):
    before = cluster.pod_uids("app.kubernetes.io/component=ingest")
    old = cluster.secret("k2-ingest")["password"]
    cluster.kubectl("delete", "secret", "k2-ingest", namespace=KAFKA_NAMESPACE)  # Strimzi makes another
    eventually("a new password", lambda: cluster.secret("k2-ingest").get("password", old) != old, timeout=120)
    cluster.kubectl(
        "delete", "pod", "-l", "strimzi.io/cluster=k2-kafka,strimzi.io/kind=Kafka", namespace=KAFKA_NAMESPACE
    )
    cluster.wait_ready("binance", timeout=420)
    assert cluster.pod_uids("app.kubernetes.io/component=ingest") == before
