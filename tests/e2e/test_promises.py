"""Pods, nodes and brokers that are replaced: how long trades stop, and what is not restarted."""

import re
import shutil
from datetime import UTC, datetime, timedelta

import pytest

from cluster.platform import KAFKA_NAMESPACE, NAMESPACE
from cluster.shell import ROOT, run
from tests.e2e.harness import BINANCE, KRAKEN, assert_gold_complete, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

_FEED = "k2.marketdata.io/feed"
_INGEST = "app.kubernetes.io/component=ingest"
_RECOVERY = 10.0  # seconds until trades arrive again after the loss of an ingest pod
_NODE = "k2-control-plane"


def longest_silence(cluster, exchange: str, since: datetime) -> float:
    """Return the longest time between two live trades that arrived after `since`, in seconds."""
    statement = f"""
        SELECT max(epoch_ms(arrived) - epoch_ms(previous)) / 1000 AS seconds FROM (
            SELECT ingestion_timestamp AS arrived,
                   lag(ingestion_timestamp) OVER (ORDER BY ingestion_timestamp) AS previous
            FROM gold_crypto_trades
            WHERE exchange = '{exchange.upper()}' AND ingestion_timestamp >= TIMESTAMPTZ '{since.isoformat()}'
              AND json_extract_string(vendor_data, '$.source') = 'live'
        )"""
    return float(cluster.sql(statement)[0]["seconds"])


def restarts(cluster, selector: str) -> dict[str, int]:
    """Return how often the containers of each pod were restarted."""
    return {
        pod["metadata"]["uid"]: sum(status["restartCount"] for status in pod["status"].get("containerStatuses", []))
        for pod in cluster.objects("pods", selector)
        if pod["status"]["phase"] == "Running"
    }


def test_trades_arrive_again_within_seconds_of_a_killed_ingest_pod(cluster):
    assert_gold_complete(cluster, "binance", BINANCE)
    since = datetime.now(UTC) - timedelta(seconds=5)
    (killed,) = cluster.pod_uids(f"{_FEED}=binance,{_INGEST}")
    cluster.kubectl("delete", "pod", killed, "--grace-period=0", "--force")
    cluster.wait_ready("binance")
    assert_gold_complete(cluster, "binance", BINANCE)
    assert longest_silence(cluster, "binance", since) < _RECOVERY


def test_an_upgrade_of_the_operator_restarts_no_pod_of_any_feed(cluster, tmp_path):
    before = restarts(cluster, _FEED)
    old = cluster.pod_uids("app.kubernetes.io/name=k2-operator")
    chart = tmp_path / "k2-operator"
    shutil.copytree(ROOT / "charts" / "k2-operator", chart)
    described = chart / "Chart.yaml"
    text, count = re.subn(r"^version: .*$", "version: 99.0.0", described.read_text("utf-8"), flags=re.MULTILINE)
    assert count == 1
    described.write_text(text, "utf-8")
    upgrade = ["helm", "upgrade", "k2-operator", str(chart), "--namespace", NAMESPACE, "--reuse-values", "--wait"]
    try:
        run(*upgrade, "--set", "resync=59", env=cluster.env)
        eventually(
            "other pods of the operator alone",
            lambda: not set(cluster.pod_uids("app.kubernetes.io/name=k2-operator").values()) & set(old.values()),
        )
        for feed in ("binance", "kraken"):
            cluster.wait_ready(feed)
        assert restarts(cluster, _FEED) == before
    finally:
        run("helm", "rollback", "k2-operator", "--namespace", NAMESPACE, "--wait", env=cluster.env)


def test_a_drained_node_loses_nothing(cluster):
    before = cluster.pod_uids(_FEED)
    words = ["--pod-selector", _FEED, "--delete-emptydir-data", "--ignore-daemonsets", "--force", "--timeout=180s"]
    try:
        cluster.kubectl("drain", _NODE, *words)
        assert not set(cluster.pod_uids(_FEED).values()) & set(before.values())
    finally:
        cluster.kubectl("uncordon", _NODE)
    for feed, symbols in (("binance", BINANCE), ("kraken", KRAKEN)):
        cluster.wait_ready(feed, timeout=420)
        assert_gold_complete(cluster, feed, symbols)


def test_a_rolled_broker_restarts_no_ingest_and_loses_nothing(cluster):
    before = restarts(cluster, _INGEST)
    selector = "strimzi.io/cluster=k2-kafka,strimzi.io/kind=Kafka"
    old = cluster.pod_uids(selector, KAFKA_NAMESPACE)
    cluster.kubectl("delete", "pod", *old, "--wait=false", namespace=KAFKA_NAMESPACE)
    eventually(
        "another broker", lambda: set(cluster.pod_uids(selector, KAFKA_NAMESPACE).values()) - set(old.values()), 240
    )
    for feed, symbols in (("binance", BINANCE), ("kraken", KRAKEN)):
        cluster.wait_ready(feed, timeout=300)
        assert_gold_complete(cluster, feed, symbols)
    assert restarts(cluster, _INGEST) == before
