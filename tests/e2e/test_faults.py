"""Services that fail: a condition names the service, no trade is lost, and feeds recover automatically."""

import base64
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cluster.platform import KAFKA_NAMESPACE
from cluster.providers import Existing, provider
from tests.e2e.harness import BINANCE, KRAKEN, assert_gold_complete, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]

_TOPIC = "market.crypto.trades.kraken"
NODE = "k2-control-plane"
DISK = "256m"  # of the bucket during the test; several times its data


@contextmanager
def wrong_credentials(cluster, secret: str, key: str) -> Iterator[None]:
    """Replace a credential by an invalid one. Running pods keep theirs."""

    def set_value(value: str) -> None:
        encoded = base64.b64encode(value.encode()).decode()
        cluster.kubectl("patch", "secret", secret, "--type=merge", "-p", f'{{"data": {{"{key}": "{encoded}"}}}}')

    right = cluster.secret(secret)[key]
    set_value("invalid-credential")
    try:
        yield
    finally:
        set_value(right)


@contextmanager
def rejecting_topic(cluster, topic: str) -> Iterator[None]:
    """Configure a topic to reject records older than a millisecond, so that Kafka rejects every record."""

    def set_limit(oldest: str) -> None:
        patch = f'{{"spec": {{"config": {{"message.timestamp.before.max.ms": {oldest}}}}}}}'
        cluster.kubectl("patch", "kafkatopic", topic, "--type=merge", "-p", patch, namespace=KAFKA_NAMESPACE)

    set_limit("1")
    try:
        yield
    finally:
        set_limit(f'"{2**63 - 1}"')  # Kafka's default; not every topic operator resets a removed setting


@contextmanager
def stopped(cluster, statefulset: str) -> Iterator[None]:
    """Scale a service to zero."""
    cluster.kubectl("scale", f"statefulset/{statefulset}", "--replicas=0")
    cluster.kubectl("wait", f"pod/{statefulset}-0", "--for=delete", "--timeout=120s")
    try:
        yield
    finally:
        cluster.kubectl("scale", f"statefulset/{statefulset}", "--replicas=1")
        cluster.kubectl("rollout", "status", f"statefulset/{statefulset}", "--timeout=180s")


@contextmanager
def small_disk(cluster) -> Iterator[None]:
    """Move MinIO's data to a disk of size `DISK`, and back afterwards."""
    claim = cluster.get("pvc", "data-k2-minio-0")["spec"]["volumeName"]
    volume = cluster.get("pv", claim)["spec"]
    path = (volume.get("local") or volume.get("hostPath"))["path"]

    def node(script: str) -> None:
        docker = os.environ.get("DOCKER", "docker")
        subprocess.run([docker, "exec", NODE, "sh", "-ec", script], env=cluster.env, check=True, timeout=120)

    with stopped(cluster, "k2-minio"):
        node(f"mv {path} {path}.own; mkdir -m 777 {path}; mount -t tmpfs -o size={DISK} tmpfs {path}; chmod 777 {path}")
        node(f"cp -a {path}.own/. {path}/")
    try:
        yield
    finally:
        with stopped(cluster, "k2-minio"):
            node(f"rm -f {path}/filler; find {path}.own -mindepth 1 -delete; cp -a {path}/. {path}.own/")
            node(f"umount {path}; rmdir {path}; mv {path}.own {path}")


def wait_for_condition(cluster, feed: str, condition: str, service: str, timeout: float = 300.0) -> None:
    """Wait until a condition names a service."""

    def named_service() -> bool:
        state = cluster.condition(feed, condition)
        return state["status"] != "True" and service in state["message"]

    try:
        eventually(f"{condition} of {feed} names {service}", named_service, timeout, interval=1)
    except AssertionError as error:
        raise AssertionError(f"{error}: {cluster.get('feed', feed)['status']['conditions']}") from None


def assert_recovered(cluster) -> None:
    """Wait until both feeds have recovered without intervention."""
    for feed in ("binance", "kraken"):
        cluster.wait_ready(feed, timeout=420)
    assert_gold_complete(cluster, "binance", BINANCE)
    assert_gold_complete(cluster, "kraken", KRAKEN)


@pytest.mark.slow
def test_wrong_credentials_and_a_rejecting_kafka_are_reported_and_feeds_recover(cluster):
    with rejecting_topic(cluster, _TOPIC):
        wait_for_condition(cluster, "kraken", "IngestReady", "Kafka")
        with wrong_credentials(cluster, "k2-s3-jobs", "secret-key"):  # the operator restarts what uses them
            wait_for_condition(cluster, "binance", "SilverReady", "the bucket")
        with wrong_credentials(cluster, "k2-catalog", "password"):
            wait_for_condition(cluster, "binance", "GoldReady", "the catalog")
    assert_recovered(cluster)


@pytest.mark.slow
def test_an_unavailable_catalog_is_reported_and_feeds_recover(cluster):
    with stopped(cluster, "k2-postgres"):
        wait_for_condition(cluster, "binance", "GoldReady", "the catalog")
    assert_recovered(cluster)


@pytest.mark.slow
def test_a_full_disk_of_the_bucket_is_reported_and_loses_nothing(cluster):
    if isinstance(provider(os.environ), Existing):
        pytest.skip("the disk of an existing cluster is not filled")
    with small_disk(cluster):
        fill = "cat /dev/zero > /data/filler; true"  # ends when the disk is full
        cluster.kubectl("exec", "k2-minio-0", "--", "sh", "-c", fill)
        wait_for_condition(cluster, "kraken", "GoldReady", "the bucket")
    assert_recovered(cluster)


def test_the_audit_finds_nothing_after_kills_and_faults(cluster):
    code, said = cluster.run_audit()
    assert code == 0, said
