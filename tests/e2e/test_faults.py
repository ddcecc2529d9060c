"""Services that refuse or are away: a condition names the service, nothing is lost, and all heals by itself."""

import base64
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from cluster.platform import KAFKA_NAMESPACE
from cluster.providers import Existing, provider
from tests.e2e.harness import BINANCE, KRAKEN, assert_gold_complete, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]

_FEED = "k2.marketdata.io/feed"
_TOPIC = "market.crypto.trades.kraken"
NODE = "k2-control-plane"
DISK = "256m"  # what the bucket gets for a while: a multiple of what it holds then


@contextmanager
def wrong(cluster, secret: str, key: str) -> Iterator[None]:
    """Credentials that nobody knows. Pods that run keep theirs."""

    def put(value: str) -> None:
        encoded = base64.b64encode(value.encode()).decode()
        cluster.kubectl("patch", "secret", secret, "--type=merge", "-p", f'{{"data": {{"{key}": "{encoded}"}}}}')

    right = cluster.secret(secret)[key]
    put("nobody-knows-this")
    try:
        yield
    finally:
        put(right)


@contextmanager
def refusing(cluster, topic: str) -> Iterator[None]:
    """A topic that takes no record older than a millisecond, so that Kafka refuses each with an error of its own."""

    def ask(oldest: str) -> None:
        patch = f'{{"spec": {{"config": {{"message.timestamp.before.max.ms": {oldest}}}}}}}'
        cluster.kubectl("patch", "kafkatopic", topic, "--type=merge", "-p", patch, namespace=KAFKA_NAMESPACE)

    ask("1")
    try:
        yield
    finally:
        ask(f'"{2**63 - 1}"')  # Kafka's default: not every topic operator takes back what is merely left out


@contextmanager
def gone(cluster, statefulset: str) -> Iterator[None]:
    """A service without a pod."""
    cluster.kubectl("scale", f"statefulset/{statefulset}", "--replicas=0")
    cluster.kubectl("wait", f"pod/{statefulset}-0", "--for=delete", "--timeout=120s")
    try:
        yield
    finally:
        cluster.kubectl("scale", f"statefulset/{statefulset}", "--replicas=1")
        cluster.kubectl("rollout", "status", f"statefulset/{statefulset}", "--timeout=180s")


@contextmanager
def small_disk(cluster) -> Iterator[None]:
    """MinIO on a disk of `DISK`, with what it held; afterwards on its own again, with what came."""
    claim = cluster.get("pvc", "data-k2-minio-0")["spec"]["volumeName"]
    volume = cluster.get("pv", claim)["spec"]
    path = (volume.get("local") or volume.get("hostPath"))["path"]

    def node(script: str) -> None:
        docker = os.environ.get("DOCKER", "docker")
        subprocess.run([docker, "exec", NODE, "sh", "-ec", script], env=cluster.env, check=True, timeout=120)

    with gone(cluster, "k2-minio"):
        node(f"mv {path} {path}.own; mkdir -m 777 {path}; mount -t tmpfs -o size={DISK} tmpfs {path}; chmod 777 {path}")
        node(f"cp -a {path}.own/. {path}/")
    try:
        yield
    finally:
        with gone(cluster, "k2-minio"):
            node(f"rm -f {path}/filler; find {path}.own -mindepth 1 -delete; cp -a {path}/. {path}.own/")
            node(f"umount {path}; rmdir {path}; mv {path}.own {path}")


def named(cluster, feed: str, condition: str, service: str, timeout: float = 300.0) -> None:
    """Waits until a condition names a service."""

    def told() -> bool:
        found = cluster.condition(feed, condition)
        return found["status"] != "True" and service in found["message"]

    try:
        eventually(f"{condition} of {feed} names {service}", told, timeout, interval=1)
    except AssertionError as error:
        raise AssertionError(f"{error}: {cluster.get('feed', feed)['status']['conditions']}") from None


def restarted(cluster, layer: str) -> None:
    """Kills the driver of a layer of binance and waits for the next one, which takes the Secrets as they are now."""
    selector = f"{_FEED}=binance,spark-role=driver,app.kubernetes.io/component={layer}"
    before = cluster.pod_uids(selector)
    cluster.kubectl("delete", "pod", *before, "--grace-period=0", "--force")
    eventually(f"another driver of {layer}", lambda: set(cluster.pod_uids(selector).values()) - set(before.values()))


def healed(cluster) -> None:
    """Waits until both feeds are as they should be, without a hand."""
    for feed in ("binance", "kraken"):
        cluster.wait_ready(feed, timeout=420)
    assert_gold_complete(cluster, "binance", BINANCE)
    assert_gold_complete(cluster, "kraken", KRAKEN)


@pytest.mark.slow
def test_wrong_credentials_and_a_kafka_that_refuses_are_named_and_heal(cluster):
    with ExitStack() as broken:
        broken.enter_context(refusing(cluster, _TOPIC))
        with wrong(cluster, "k2-s3", "secret-key"):
            restarted(cluster, "silver")
        with wrong(cluster, "k2-catalog", "password"):
            restarted(cluster, "gold")
        named(cluster, "kraken", "IngestReady", "Kafka")
        named(cluster, "binance", "SilverReady", "the bucket")
        named(cluster, "binance", "GoldReady", "the catalog")
    healed(cluster)


@pytest.mark.slow
def test_a_catalog_that_is_away_is_named_and_comes_back(cluster):
    with gone(cluster, "k2-postgres"):
        named(cluster, "binance", "GoldReady", "the catalog")
    healed(cluster)


@pytest.mark.slow
def test_a_full_disk_under_the_bucket_is_named_and_loses_nothing(cluster):
    if isinstance(provider(os.environ), Existing):
        pytest.skip("the disk of somebody else's cluster is not filled")
    with small_disk(cluster):
        fill = "cat /dev/zero > /data/filler; true"  # ends when the disk is full
        cluster.kubectl("exec", "k2-minio-0", "--", "sh", "-c", fill)
        named(cluster, "kraken", "GoldReady", "the bucket")
    healed(cluster)


def test_the_audit_finds_nothing_after_kills_and_faults(cluster):
    code, said = cluster.run_audit()
    assert code == 0, said
