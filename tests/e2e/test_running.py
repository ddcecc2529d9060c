"""What a user sees of a cluster on which two feeds run."""

import re

import pytest

from tests.e2e.harness import BINANCE, KRAKEN, balanced, eventually

pytestmark = pytest.mark.e2e


def test_feeds_become_ready(cluster):
    for name in ("binance", "kraken"):
        cluster.ready(name, within=600)
        conditions = cluster.get("feed", name)["status"]["conditions"]
        assert {entry["type"]: entry["status"] for entry in conditions} == dict.fromkeys(
            ["Ready", "TopicReady", "IngestReady", "BronzeReady", "SilverReady", "GoldReady"], "True"
        )


def test_get_feeds_shows_rate_freshness_and_gaps(cluster):
    def rows() -> dict[str, list[str]]:
        lines = cluster.kubectl("get", "feeds").splitlines()
        assert lines[0].split() == ["NAME", "EXCHANGE", "SYMBOLS", "PHASE", "RATE", "FRESHNESS", "GAPS", "AGE"]
        found = {line.split()[0]: line.split() for line in lines[1:]}
        alive = all(row[3] == "Running" and float(row[4]) > 0 and re.match(r"\d", row[5]) for row in found.values())
        return found if alive else {}

    found = eventually("rates of all feeds", rows, within=60)
    assert set(found) == {"binance", "kraken"}
    assert {row[6] for row in found.values()} == {"0"}


def test_every_layer_holds_rows(cluster):
    tables = ["gold_crypto_trades"] + [
        f"{layer}_{exchange}_trades" for layer in ("bronze", "silver") for exchange in ("binance", "kraken")
    ]
    for table in tables:
        assert cluster.sql(f"SELECT count(*) AS rows FROM {table}")[0]["rows"] > 0, table
    layers = cluster.get("feed", "binance")["status"]["layers"]
    for layer in ("bronze", "silver", "gold"):
        assert layers[layer]["state"] == "RUNNING"
        assert layers[layer]["rows"] > 0


def test_what_the_exchanges_emitted_equals_gold(cluster):
    assert balanced(cluster, "binance", BINANCE) > 100
    assert balanced(cluster, "kraken", KRAKEN) > 100


def test_a_gap_is_repaired_over_rest(cluster):
    before = cluster.get("feed", "kraken")["status"]["ingest"]["repairedGaps"]
    cluster.misbehave("kraken", "drop=25")
    eventually(
        "a repaired gap",
        lambda: cluster.get("feed", "kraken")["status"]["ingest"]["repairedGaps"] > before,
        within=120,
    )
    balanced(cluster, "kraken", KRAKEN)
    backfilled = cluster.sql(
        "SELECT count(*) AS trades FROM gold_crypto_trades WHERE exchange = 'KRAKEN' "
        "AND json_extract_string(vendor_data, '$.source') = 'backfill'"
    )
    assert backfilled[0]["trades"] >= 25


def test_the_audit_finds_nothing(cluster):
    code, said = cluster.audit()
    assert code == 0, said
