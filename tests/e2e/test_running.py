"""Two running feeds: status, tables, Gold, repair and audit."""

import re
from itertools import pairwise

import pytest

from tests.e2e.harness import BINANCE, KRAKEN, assert_gold_complete, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
COLUMNS = ("NAME", "EXCHANGE", "SYMBOLS", "PHASE", "RATE", "FRESHNESS", "GAPS", "AGE")


def _cut(line: str, starts: list[int]) -> list[str]:
    return [line[start:end].strip() for start, end in pairwise([*starts, None])]


@pytest.mark.smoke
def test_feeds_become_ready(cluster):
    for name in ("binance", "kraken"):
        cluster.wait_ready(name, timeout=600)
        conditions = cluster.get("feed", name)["status"]["conditions"]
        good = dict.fromkeys(["Ready", "TopicReady", "IngestReady", "BronzeReady", "SilverReady", "GoldReady"], "True")
        assert {entry["type"]: entry["status"] for entry in conditions} == good | {"SymbolsRefused": "False"}


def test_get_feeds_shows_rate_freshness_and_gaps(cluster):
    def rows() -> dict[str, dict[str, str]]:
        header, *lines = cluster.kubectl("get", "feeds").splitlines()
        starts = {
            name: header.index(name) for name in COLUMNS
        }  # a cell may be empty, so columns are cut at the positions of their headers
        cells = [dict(zip(COLUMNS, _cut(line, list(starts.values())), strict=True)) for line in lines]
        running = all(
            row["PHASE"] == "Running" and float(row["RATE"]) > 0 and re.fullmatch(r"[0-9ms]+", row["FRESHNESS"])
            for row in cells
        )
        return {row["NAME"]: row for row in cells} if running else {}

    feeds = eventually("rates and freshness of all feeds", rows, timeout=180)
    assert set(feeds) == {"binance", "kraken"}
    assert {row["GAPS"] for row in feeds.values()} == {"0"}


def test_every_layer_has_rows(cluster):
    tables = ["gold_crypto_trades"] + [
        f"{layer}_{exchange}_trades" for layer in ("bronze", "silver") for exchange in ("binance", "kraken")
    ]
    for table in tables:
        assert cluster.sql(f"SELECT count(*) AS rows FROM {table}")[0]["rows"] > 0, table

    def has_rows() -> bool:
        layers = cluster.get("feed", "binance")["status"]["layers"]
        return all(
            layers[name]["state"] == "RUNNING" and layers[name]["rows"] > 0 for name in ("bronze", "silver", "gold")
        )

    eventually("rows of every layer in the status", has_rows, timeout=60)


@pytest.mark.smoke
def test_gold_equals_the_emitted_trades(cluster):
    assert assert_gold_complete(cluster, "binance", BINANCE) > 100
    assert assert_gold_complete(cluster, "kraken", KRAKEN) > 100


def test_a_gap_is_repaired_over_rest(cluster):
    before = cluster.get("feed", "kraken")["status"]["ingest"]["repairedGaps"]
    cluster.inject_fault("kraken", "drop=25")
    eventually(
        "a repaired gap",
        lambda: cluster.get("feed", "kraken")["status"]["ingest"]["repairedGaps"] > before,
        timeout=120,
    )
    assert_gold_complete(cluster, "kraken", KRAKEN)
    backfilled = cluster.sql(
        "SELECT count(*) AS trades FROM gold_crypto_trades WHERE exchange = 'KRAKEN' "
        "AND json_extract_string(vendor_data, '$.source') = 'backfill'"
    )
    assert backfilled[0]["trades"] >= 25


@pytest.mark.smoke
def test_the_audit_finds_nothing(cluster):
    code, log = cluster.run_audit()
    assert code == 0, log
