"""Changes of running feeds."""

from datetime import UTC, datetime

import pytest

from cluster import platform
from cluster.platform import NAMESPACE
from cluster.providers import provider
from cluster.shell import ROOT, run
from tests.e2e.harness import BINANCE, KRAKEN, assert_gold_complete, assert_gold_quotes_complete, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

_FEED = "k2.marketdata.io/feed"
_USER = 1000730000  # in no image's /etc/passwd


def drivers(cluster, feed: str) -> dict[str, str]:
    return cluster.pod_uids(f"{_FEED}={feed},spark-role=driver")


def test_an_added_symbol_restarts_nothing(cluster):
    before, ingest = (
        drivers(cluster, "binance"),
        cluster.pod_uids(f"{_FEED}=binance,app.kubernetes.io/component=ingest"),
    )
    others = cluster.pod_uids(f"{_FEED}=kraken")
    cluster.patch("binance", {"symbols": ["BTCUSDT", "ETHUSDT", "SOLUSDT"]})
    eventually(
        "SOLUSDT in Gold",
        lambda: cluster.sql("SELECT count(*) AS n FROM gold_crypto_trades WHERE symbol = 'SOLUSDT'")[0]["n"] > 0,
        timeout=180,
        interval=5,
    )
    assert drivers(cluster, "binance") == before
    assert cluster.pod_uids(f"{_FEED}=binance,app.kubernetes.io/component=ingest") == ingest
    assert cluster.pod_uids(f"{_FEED}=kraken") == others
    assert_gold_complete(cluster, "binance", BINANCE)


def test_a_changed_trigger_restarts_only_its_layer_and_duplicates_nothing(cluster):
    before = drivers(cluster, "binance")
    silver = {name for name in before if "silver" in name}
    cluster.patch("binance", {"layers": {"silver": {"trigger": "7s"}}})
    eventually(
        "another driver of Silver",
        lambda: (
            {uid for name, uid in drivers(cluster, "binance").items() if "silver" in name}
            and not {uid for name, uid in drivers(cluster, "binance").items() if name in silver} & set(before.values())
        ),
        timeout=240,
    )
    cluster.wait_ready("binance")
    after = drivers(cluster, "binance")
    assert {uid for name, uid in after.items() if name not in silver} == {
        uid for name, uid in before.items() if name not in silver
    }
    assert_gold_complete(cluster, "binance", BINANCE)


def test_a_channel_that_is_added_loses_nothing_of_its_own_or_of_the_trades(cluster):
    ingest = f"{_FEED}=binance,app.kubernetes.io/component=ingest"
    quotes = f"{ingest},k2.marketdata.io/channel=quotes"
    trades_pods = cluster.pod_uids(ingest)
    since = datetime.now(UTC)
    cluster.patch("binance", {"channels": ["trades", "quotes"]})
    cluster.wait_ready("binance", timeout=480)
    eventually("some quotes", lambda: assert_gold_quotes_complete(cluster, "binance", BINANCE, since) > 100)
    assert cluster.pod_uids(ingest).items() - cluster.pod_uids(quotes).items() == trades_pods.items()
    assert_gold_complete(cluster, "binance", BINANCE)
    figures = cluster.get("feed", "binance")["status"]["channels"]
    assert {name: figures[name]["connected"] for name in figures} == {"trades": 1, "quotes": 1}

    cluster.patch("binance", {"channels": ["trades"]})
    eventually("no pod of the quotes", lambda: not cluster.pod_uids(quotes), timeout=180)
    cluster.wait_ready("binance", timeout=480)
    assert cluster.pod_uids(ingest) == trades_pods
    assert cluster.sql("SELECT count(*) AS n FROM gold_crypto_quotes WHERE exchange = 'BINANCE'")[0]["n"] > 100
    assert cluster.get("kafkatopic", "market.crypto.quotes.binance", namespace=platform.KAFKA_NAMESPACE)
    assert_gold_complete(cluster, "binance", BINANCE)


def test_another_number_of_shards_opens_no_gap(cluster):
    def gaps() -> int:
        return int(cluster.sql("SELECT count(*) AS n FROM audit_gaps WHERE exchange = 'BINANCE'")[0]["n"])

    def shards() -> int:
        return int(cluster.get("feed", "binance")["status"]["ingest"].get("shards", 0))

    assert_gold_complete(cluster, "binance", BINANCE)
    before = gaps()
    for number in (2, 1):  # the symbols move to the second process, and back
        cluster.patch("binance", {"ingest": {"shards": number}})
        eventually(f"{number} shards", lambda number=number: shards() == number, timeout=300, interval=5)
        cluster.wait_ready("binance")
    assert_gold_complete(cluster, "binance", BINANCE)
    assert gaps() == before


def test_a_suspended_feed_runs_no_pod_and_resumes_without_a_gap(cluster):
    cluster.patch("kraken", {"suspend": True})
    eventually("no pod of kraken", lambda: not cluster.pod_uids(f"{_FEED}=kraken"), timeout=180)
    eventually("Suspended", lambda: cluster.get("feed", "kraken")["status"]["phase"] == "Suspended", timeout=60)
    cluster.patch("kraken", {"suspend": False})
    cluster.wait_ready("kraken")
    assert_gold_complete(cluster, "kraken", KRAKEN)


def test_feeds_run_as_a_user_without_an_account(cluster):
    """As OpenShift assigns one. Of the ingest, drivers and executors none may need an entry in /etc/passwd."""
    feeds = {"binance": BINANCE, "kraken": KRAKEN}
    ids = ",".join(f"podSecurityContext.{name}" for name in (f"runAsUser={_USER}", "runAsGroup=0", f"fsGroup={_USER}"))
    chart = str(ROOT / "charts" / "k2-operator")
    values = ["--reuse-values", "--values", f"{chart}/values-openshift.yaml", "--set", ids]

    def users() -> dict[str, int | None]:
        pods = cluster.objects("pods", _FEED)
        return {pod["metadata"]["name"]: pod["spec"]["securityContext"].get("runAsUser") for pod in pods}

    def all_changed() -> bool:
        return len(users()) >= len(before) and set(users().values()) == {_USER}

    before = cluster.pod_uids(_FEED)
    try:
        run("helm", "upgrade", "k2-operator", chart, "--namespace", NAMESPACE, *values, "--wait", env=cluster.env)
        eventually(f"every pod of the feeds runs as {_USER}", all_changed, timeout=300, interval=3)
        for feed, symbols in feeds.items():
            cluster.wait_ready(feed, timeout=420)
            assert_gold_complete(cluster, feed, symbols)
        for pod in cluster.pod_uids(_FEED):
            assert cluster.kubectl("exec", pod, "--", "id", "-u").strip() == str(_USER)
    finally:
        run("helm", "rollback", "k2-operator", "--namespace", NAMESPACE, "--wait", env=cluster.env)
    eventually("every pod of the feeds has its own user again", lambda: _USER not in users().values(), timeout=300)
    for feed, symbols in feeds.items():
        cluster.wait_ready(feed, timeout=420)
        assert_gold_complete(cluster, feed, symbols)


def test_a_helm_upgrade_restarts_nothing(cluster, monkeypatch):
    chosen = provider({"KUBECONFIG": cluster.env["KUBECONFIG"]})
    chosen.env = cluster.env
    before = cluster.pod_uids()
    for chart in ("k2-platform", "k2-operator"):
        platform._chart(cluster.env, chart)
    after = cluster.pod_uids()
    long_running = {name: uid for name, uid in before.items() if "audit" not in name}
    assert {name: after.get(name) for name in long_running} == long_running
