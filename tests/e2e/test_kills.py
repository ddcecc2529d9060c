"""Pods killed while trades arrive: they restart, and no trade is lost or duplicated."""

import pytest

from cluster.platform import KAFKA_NAMESPACE
from tests.e2e.harness import BINANCE, KRAKEN, assert_gold_complete, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

_FEED = "k2.marketdata.io/feed"


def kill(cluster, selector: str, namespace: str = "k2") -> None:
    """Delete pods without a grace period, as a lost node does, and wait for their replacements."""
    before = cluster.pod_uids(selector, namespace)
    assert before, f"no running pod matches {selector}"
    cluster.kubectl("delete", "pod", *before, "--grace-period=0", "--force", namespace=namespace)
    eventually(
        f"replacements of {', '.join(before)}",
        lambda: len(set(cluster.pod_uids(selector, namespace).values()) - set(before.values())) >= len(before),
        timeout=240,
    )


@pytest.mark.parametrize(
    ("selector", "namespace"),
    [
        pytest.param("app.kubernetes.io/component=ingest", "k2", id="ingest"),
        pytest.param(
            f"{_FEED}=binance,spark-role=driver,app.kubernetes.io/component=silver",
            "k2",
            id="driver",
            marks=pytest.mark.smoke,
        ),
        pytest.param("spark-role=executor", "k2", id="executor"),
        pytest.param("strimzi.io/cluster=k2-kafka,strimzi.io/kind=Kafka", KAFKA_NAMESPACE, id="broker"),
    ],
)
def test_a_killed_pod_restarts_and_gold_is_complete(cluster, selector, namespace):
    kill(cluster, selector, namespace)
    for feed in ("binance", "kraken"):
        cluster.wait_ready(feed, timeout=300)
    assert_gold_complete(cluster, "binance", BINANCE)
    assert_gold_complete(cluster, "kraken", KRAKEN)


def test_a_killed_operator_restarts_no_pod_of_any_feed(cluster):
    before = cluster.pod_uids(_FEED)
    kill(cluster, "app.kubernetes.io/name=k2-operator")
    cluster.kubectl("rollout", "status", "deployment/k2-operator", "--timeout=120s")
    generations = {feed: cluster.get("feed", feed)["status"]["observedGeneration"] for feed in ("binance", "kraken")}
    assert generations == {feed: cluster.get("feed", feed)["metadata"]["generation"] for feed in generations}
    assert cluster.pod_uids(_FEED) == before
