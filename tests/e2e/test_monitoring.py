"""What Prometheus sees: every target, and the alert of a feed that is down."""

import pytest

from tests.e2e.harness import BINANCE, balanced, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


def test_every_target_is_scraped(cluster):
    def jobs() -> dict[str, float]:
        return {row["metric"]["pod"]: float(row["value"][1]) for row in cluster.prometheus('up{namespace="k2"}')}

    wanted = cluster.uids("k2.marketdata.io/feed,app.kubernetes.io/component=ingest")
    wanted |= cluster.uids("k2.marketdata.io/feed,spark-role=driver")
    wanted |= cluster.uids("app.kubernetes.io/name=k2-operator")
    eventually(f"{sorted(wanted)} are up", lambda: all(jobs().get(name) == 1.0 for name in wanted), within=120, every=3)


def test_metrics_of_every_kind_of_process_arrive(cluster):
    for query in (
        'k2_ingest_connected{feed="binance"} == 1',
        'k2_layer_rows_total{layer="gold", feed="binance"} > 0',
        'k2_layer_rows_total{layer="gold", feed="kraken"} > 0',
        'k2_feed_phase{feed="kraken", phase="Running"} == 1',
    ):
        eventually(query, lambda query=query: cluster.prometheus(query), within=60, every=3)


@pytest.mark.slow
def test_the_alert_of_a_feed_that_is_down_fires_and_resolves(cluster):
    def firing() -> list[object]:
        return cluster.prometheus('ALERTS{alertname="K2FeedDown", alertstate="firing", feed="binance"}')

    assert not firing()
    cluster.misbehave("binance", "refuse=5")
    cluster.misbehave("binance", "close")
    eventually("K2FeedDown fires", firing, within=300, every=3)
    eventually("K2FeedDown resolves", lambda: not firing(), within=420, every=3)
    balanced(cluster, "binance", BINANCE)
