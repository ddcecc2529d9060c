"""Prometheus in the cluster: targets, metrics, and the alert of a feed that is down."""

import pytest

from tests.e2e.harness import BINANCE, assert_gold_complete, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


def test_every_target_is_scraped(cluster):
    def jobs() -> dict[str, float]:
        return {row["metric"]["pod"]: float(row["value"][1]) for row in cluster.prometheus('up{namespace="k2"}')}

    pods = cluster.pod_uids("k2.marketdata.io/feed,app.kubernetes.io/component=ingest")
    pods |= cluster.pod_uids("k2.marketdata.io/feed,spark-role=driver")
    pods |= cluster.pod_uids("app.kubernetes.io/name=k2-operator")
    eventually(f"{sorted(pods)} are up", lambda: all(jobs().get(name) == 1.0 for name in pods), timeout=120, interval=3)


def test_every_kind_of_process_exports_metrics(cluster):
    for query in (
        'k2_ingest_connected{feed="binance"} == 1',
        'k2_layer_rows_total{layer="gold", feed="binance"} > 0',
        'k2_layer_rows_total{layer="gold", feed="kraken"} > 0',
        'k2_feed_phase{feed="kraken", phase="Running"} == 1',
    ):
        eventually(query, lambda query=query: cluster.prometheus(query), timeout=60, interval=3)


@pytest.mark.slow
def test_the_alert_of_a_feed_that_is_down_fires_and_resolves(cluster):
    def firing() -> list[object]:
        return cluster.prometheus('ALERTS{alertname="K2FeedDown", alertstate="firing", feed="binance"}')

    assert not firing()
    cluster.inject_fault("binance", "refuse=5")
    cluster.inject_fault("binance", "close")
    eventually("K2FeedDown fires", firing, timeout=300, interval=3)
    eventually("K2FeedDown resolves", lambda: not firing(), timeout=420, interval=3)
    assert_gold_complete(cluster, "binance", BINANCE)
