"""Deletion of feeds: data is kept by default, and deleted with deletionPolicy Delete."""

import pytest

from cluster.platform import KAFKA_NAMESPACE
from tests.e2e.harness import BINANCE, assert_gold_complete, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

_FEED = "k2.marketdata.io/feed"


def rows(cluster, table: str, where: str = "true") -> int:
    return int(cluster.sql(f"SELECT count(*) AS n FROM {table} WHERE {where}")[0]["n"])


def test_a_deleted_feed_keeps_its_data(cluster):
    before = rows(cluster, "bronze_binance_trades")
    cluster.kubectl("delete", "feed", "binance", "--timeout=180s")
    eventually("no pod of binance", lambda: not cluster.pod_uids(f"{_FEED}=binance"), timeout=180)
    assert rows(cluster, "bronze_binance_trades") >= before
    assert cluster.get("kafkatopic", "market.crypto.trades.binance", KAFKA_NAMESPACE)


def test_a_recreated_feed_resumes_where_it_stopped(cluster):
    from cluster import platform

    platform.feeds(cluster.env)
    cluster.wait_ready("binance")
    assert_gold_complete(cluster, "binance", BINANCE)


@pytest.mark.smoke
def test_deletion_policy_delete_removes_all_data(cluster):
    cluster.patch("kraken", {"deletionPolicy": "Delete"})
    cluster.wait_ready("kraken")
    cluster.kubectl("delete", "feed", "kraken", "--timeout=600s")
    eventually("no pod of kraken", lambda: not cluster.pod_uids(f"{_FEED}=kraken"), timeout=60)
    assert not cluster.get("kafkatopic", "market.crypto.trades.kraken", KAFKA_NAMESPACE)
    assert not cluster.tables() & {"bronze_kraken_trades", "silver_kraken_trades"}
    assert rows(cluster, "gold_crypto_trades", "exchange = 'KRAKEN'") == 0
    assert rows(cluster, "gold_crypto_trades", "exchange = 'BINANCE'") > 0
    listed = cluster.kubectl(
        "exec", "statefulset/k2-minio", "--", "sh", "-c", "ls /data/k2-lake/checkpoints 2>/dev/null || true"
    )
    assert "kraken" not in listed
