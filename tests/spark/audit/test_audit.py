"""The audit: a consistent lake has no findings, and each corruption gives exactly its own finding."""

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import timedelta

import pytest

from k2.common.schema_registry import RegistryUnavailable
from k2.jobs.audit import runner
from k2.jobs.spark.local_frames import local_frame
from k2.schemas import tables
from k2.schemas.channels import TRADES
from tests.spark.builders import HOUR, Lake, Record, consecutive, trade
from tests.spark.saved_lakes import prepared

pytestmark = pytest.mark.spark

BRONZE, SILVER, GOLD = TRADES.bronze("binance"), TRADES.silver("binance"), tables.GOLD_TABLE
LATER = HOUR + timedelta(hours=2)
WITHIN = HOUR + timedelta(minutes=30)


def _filled(lake: Lake):
    return prepared(lake, fill)


def fill(lake: Lake):
    """Write two Bronze batches, with a dead letter and a duplicate trade, and run all layers."""
    feed = lake.feed()
    lake.arrive(feed, consecutive(1, 6))
    lake.arrive(feed, [*consecutive(6, 10), Record(b"bad")])
    lake.run(feed, "silver", "gold")
    return feed


def _audit(lake: Lake, now=LATER, **options):
    return runner.audit(lake.spark, lake.platform, now=now, **options)


def _checks(report) -> list[str]:
    return [finding.check for finding in report.findings]


def _hours(lake: Lake) -> dict:
    rows = lake.table(tables.COMPLETENESS_TABLE).selectExpr("*", "unix_seconds(hour) AS at").collect()
    return {(row["symbol"], row["at"] - int(HOUR.timestamp())): row for row in rows}


def _list_gap(lake: Lake, first: int, last: int, state: str) -> None:
    row = {
        "gap_id": "g", "exchange": "BINANCE", "channel": "trades", "feed": "binance", "symbol": "BTCUSDT",
        "first_id": str(first), "last_id": str(last), "detected_at": HOUR, "resolution": "rest", "state": state,
    }  # fmt: skip
    columns = ", ".join(f"{column.name} {column.type}" for column in tables.GAPS_TABLE.columns)
    local_frame(lake.spark, [row], columns).writeTo(tables.GAPS_TABLE.identifier).append()


def test_a_consistent_lake_has_no_findings_and_equals_its_rebuild(lake: Lake):
    _filled(lake)
    report = _audit(lake, rebuild=True)
    assert report.findings == []
    exchange = report.document()["exchanges"]["BINANCE"]["trades"]
    assert exchange["rows"] == {"bronze": 12, "silver": 11, "dead_letters": 1, "gold": 10}
    assert exchange["dead_letters"] == {"MALFORMED_HEADER": 1}
    assert exchange["duplicates"] == 1
    assert exchange["lag"] == {"silver": 0, "gold": 0}
    assert exchange["completeness"]["hours"] == {"complete": 1}
    assert (exchange["completeness"]["expected"], exchange["completeness"]["actual"]) == (10, 10)
    assert exchange["rebuilt"] == {"silver": 11, "dead_letters": 1, "gold": 10}
    assert "balanced" in report.text()
    row = _hours(lake)["BTCUSDT", 0]
    assert (row["first_id"], row["last_id"], row["state"], row["missing"]) == ("1", "10", "complete", [])
    assert row["by_source"] == {"live": 10}
    assert row["gold_snapshot_id"] == lake.snapshots(GOLD)[0].id


def test_rows_that_are_not_due_yet_are_lag(lake: Lake):
    feed = _filled(lake)
    lake.arrive(feed, consecutive(11, 13))
    lake.run(feed, "silver")
    lake.arrive(feed, consecutive(14, 17))
    report = _audit(lake, rebuild=True)
    assert report.findings == []
    assert report.exchanges["BINANCE"]["trades"].lag == {"silver": 4, "gold": 3}


def test_a_silver_batch_between_its_trades_and_its_dead_letters_is_lag(lake: Lake):
    feed, dead_letters = _filled(lake), tables.DEAD_LETTERS_TABLE
    with closing(sqlite3.connect(lake.platform.catalog_uri.removeprefix("sqlite:///"))) as catalog, catalog:
        (before,) = catalog.execute(
            "SELECT metadata_location FROM iceberg_tables WHERE table_name = ?", (dead_letters.name,)
        ).fetchone()
    lake.arrive(feed, [trade(11), Record(b"bad")])
    lake.run(feed, "silver")
    with closing(sqlite3.connect(lake.platform.catalog_uri.removeprefix("sqlite:///"))) as catalog, catalog:
        catalog.execute(
            "UPDATE iceberg_tables SET metadata_location = ? WHERE table_name = ?", (before, dead_letters.name)
        )
    report = _audit(lake)
    assert report.findings == []
    assert report.exchanges["BINANCE"]["trades"].lag["silver"] == 2


# Corruptions that do not touch each other, so that one audit judges several: each gives its own finding, and no other.
@pytest.mark.parametrize(
    "corruptions",
    [
        [
            (SILVER, "DELETE FROM {} WHERE offset = 3", "silver_missing", "offset 3"),
            (SILVER, "INSERT INTO {0} SELECT * FROM {0} WHERE offset = 4", "silver_duplicate", "offset 4"),
            (tables.DEAD_LETTERS_TABLE, "DELETE FROM {}", "dead_letters_changed", "offset 11"),
            (BRONZE, "DELETE FROM {} WHERE offset IN (7, 8)", "bronze_gap", "offset 7 to 8"),
            (GOLD, "INSERT INTO {0} SELECT * FROM {0} WHERE trade_id = '9'", "gold_duplicate", "record 9 "),
        ],
        [
            (SILVER, "DELETE FROM {} WHERE offset = 10", "silver_missing", "offset 10"),
            (BRONZE, "DELETE FROM {} WHERE offset = 7", "bronze_gap", "offset 7"),
            (BRONZE, "INSERT INTO {0} SELECT * FROM {0} WHERE offset = 2", "bronze_duplicate", "offset 2"),
        ],
        [(BRONZE, "DELETE FROM {} WHERE offset = 11", "bronze_gap", "offset 11")],
    ],
    ids=["of every layer", "beside another", "at the end"],
)
def test_a_corruption_gives_exactly_its_finding(lake: Lake, corruptions):
    _filled(lake)
    for table, statement, _, _ in corruptions:
        lake.sql(statement, table)
    report = _audit(lake)
    assert sorted(_checks(report)) == sorted(check for _, _, check, _ in corruptions)
    texts = {finding.check: finding.text for finding in report.findings}
    for _, _, check, text in corruptions:
        assert text in texts[check]
        assert f"{check}: " in report.text()


def test_a_trade_missing_in_gold_is_found_by_message_id_and_by_trade_id(lake: Lake):
    _filled(lake)
    lake.sql("DELETE FROM {} WHERE trade_id = '7'", GOLD)
    report = _audit(lake)
    assert _checks(report) == ["gold_missing", "missing_ids"]
    assert str(trade(7).message_id) in report.findings[0].text


def test_a_trade_that_is_only_in_gold_is_an_orphan(lake: Lake):
    _filled(lake)
    lake.sql("INSERT INTO {0} SELECT * REPLACE ('forged' AS message_id) FROM {0} WHERE trade_id = '3'".replace(
        "SELECT * REPLACE ('forged' AS message_id)",
        "SELECT 'forged', " + ", ".join(column.name for column in tables.GOLD_TABLE.columns[1:]),
    ), GOLD)  # fmt: skip
    assert _checks(_audit(lake)) == ["gold_orphan"]


def test_a_changed_value_is_found_without_an_earlier_verdict_and_by_a_rebuild(lake: Lake):
    _filled(lake)
    lake.sql("UPDATE {} SET price = price + 1 WHERE trade_id = '4'", GOLD)
    report = _audit(lake, rebuild=True)
    assert _checks(report) == ["gold_mismatch", "rebuild_gold"]
    assert report.findings[0].text == (
        f"gold_crypto_trades: BINANCE BTCUSDT 2026-03-02T10:00Z: BTCUSDT record 4 (message_id {trade(4).message_id}) "
        "has price 61838.63 in Gold, and price 61837.63 in market.crypto.trades.binance/0 offset 3"
    )
    assert "other rows" in report.findings[1].text
    assert _hours(lake) == {}  # an hour whose layers differ gets no verdict
    assert _checks(_audit(lake)) == ["gold_mismatch"]


def test_missing_ids_are_a_finding_of_the_hour_of_the_next_trade(lake: Lake):
    feed = lake.feed()
    next_hour = HOUR + timedelta(hours=1)
    lake.arrive(feed, [*consecutive(1, 4), trade(8, next_hour), trade(9, next_hour)])
    lake.run(feed, "silver", "gold")
    report = _audit(lake, now=next_hour + timedelta(hours=1, minutes=6))
    assert _checks(report) == ["missing_ids"]
    assert "T11:00Z: ids 5 to 7 (3) are missing; audit_gaps does not list them" in report.findings[0].text
    hours = _hours(lake)
    assert hours["BTCUSDT", 0]["state"] == "complete"
    incomplete = hours["BTCUSDT", 3600]
    assert (incomplete["state"], incomplete["expected"], incomplete["actual"]) == ("incomplete", 5, 2)
    assert [tuple(ids) for ids in incomplete["missing"]] == [("5", "7")]


def _fill_with_a_gap(lake: Lake):
    """Write the first and the fourth trade, and run all layers."""
    feed = lake.feed()
    lake.arrive(feed, [trade(1), trade(4)])
    lake.run(feed, "silver", "gold")
    return feed


@pytest.mark.parametrize(
    ("state", "now", "findings", "in_repair"),
    [
        ("open", WITHIN, 0, 1),
        ("open", HOUR + timedelta(hours=1, minutes=6), 1, 0),
        ("unrecoverable", WITHIN, 1, 0),
    ],
)
def test_missing_ids_are_in_repair_only_while_their_hour_and_gap_are_open(lake, state, now, findings, in_repair):
    prepared(lake, _fill_with_a_gap)
    _list_gap(lake, 2, 3, state)
    report = _audit(lake, now=now)
    exchange = report.exchanges["BINANCE"]["trades"]
    assert (len(report.findings), len(exchange.in_repair)) == (findings, in_repair)
    assert exchange.gaps == {state: 1}
    assert all(f"lists them as {state}" in finding.text for finding in report.findings)


def test_a_later_audit_appends_a_revision_that_names_its_cause(lake: Lake):
    feed = lake.feed()
    lake.arrive(feed, [trade(1), trade(3)])
    lake.run(feed, "silver", "gold")
    _audit(lake)
    assert _hours(lake)["BTCUSDT", 0]["state"] == "incomplete"
    lake.arrive(feed, [trade(2)])
    lake.run(feed, "silver", "gold")
    assert _audit(lake).findings == []
    assert _audit(lake, now=LATER + timedelta(hours=1)).findings == []  # nothing new, so no verdict
    rows = lake.table(tables.COMPLETENESS_TABLE).orderBy("revision").collect()
    assert [(row["revision"], row["cause"], row["state"]) for row in rows] == [
        (1, "first", "incomplete"),
        (2, "late", "complete"),
    ]
    (again,) = (
        lake.table(tables.COMPLETENESS_TABLE).where("revision = 2").select("digest_gold", "digest_silver").collect()
    )
    assert [digest.partition(":")[0] for digest in again] == ["3", "3"]


def test_an_exchange_without_consecutive_ids_is_unverifiable(lake: Lake):
    feed = lake.feed("bybit")
    lake.arrive(feed, [trade(5, exchange="bybit"), trade(90, exchange="bybit")])
    kraken = lake.feed("kraken")
    derived = [trade(f"KRAKEN-17-{name}", HOUR, exchange="kraken") for name in ("aa", "bb")]
    lake.arrive(kraken, derived)
    for each in (feed, kraken):
        lake.run(each, "silver", "gold")
    report = _audit(lake)
    assert report.findings == []
    assert {name: report["trades"].completeness["hours"] for name, report in report.exchanges.items()} == {
        "BYBIT": {"unverifiable": 1},
        "KRAKEN": {"unverifiable": 1},
    }


def test_restarted_numbering_is_no_gap(lake: Lake):
    feed = lake.feed()
    old = [trade(number, HOUR + timedelta(seconds=number - 9_000)) for number in (9_000, 9_001)]
    new = [trade(number, HOUR + timedelta(minutes=5, seconds=number)) for number in (1, 2, 3)]
    lake.arrive(feed, [*old, *new])
    lake.run(feed, "silver", "gold")
    assert _audit(lake).findings == []


def test_since_leaves_out_older_rows(lake: Lake):
    feed = lake.feed()
    early = HOUR - timedelta(hours=5)
    lake.arrive(feed, [trade(1, early), trade(3, early), Record(b"bad", at=early)])
    lake.arrive(feed, consecutive(4, 8))
    lake.run(feed, "silver", "gold")
    lake.sql("DELETE FROM {} WHERE offset = 1", TRADES.silver("binance"))
    assert sorted(_checks(_audit(lake))) == ["missing_ids", "silver_missing"]
    assert _audit(lake, since=HOUR).findings == []
    lake.sql("DELETE FROM {} WHERE offset = 5", TRADES.silver("binance"))
    assert sorted(_checks(_audit(lake, since=HOUR))) == ["silver_changed", "silver_missing"]


def test_a_rebuild_without_a_registry_raises(lake: Lake):
    _filled(lake)
    lake.platform = lake.platform.model_copy(update={"registry_url": "http://127.0.0.1:9"})
    with pytest.raises(RegistryUnavailable, match=r"127\.0\.0\.1:9"):
        _audit(lake, rebuild=True)
    assert _audit(lake).findings == []


def _command(lake: Lake, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    platform = lake.platform
    platform_variables = {
        "K2_CATALOG_URI": platform.catalog_uri,
        "K2_WAREHOUSE": platform.warehouse,
        "K2_REGISTRY_URL": "http://127.0.0.1:9",
    }
    variables = (
        {key: value for key, value in os.environ.items() if not key.startswith("PYSPARK_")}
        | platform_variables
        | environment
    )
    command = [sys.executable, "-m", "k2.jobs.audit", "--memory", "512m", *words]
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120)


def test_the_command_exits_with_1_on_findings_and_prints_json(lake: Lake):
    _filled(lake)
    lake.sql("DELETE FROM {} WHERE offset = 10", TRADES.silver("binance"))
    done = _command(lake, "--json")
    assert done.returncode == 1, done.stderr
    document = json.loads(done.stdout)
    assert (document["verdict"], [finding["check"] for finding in document["findings"]]) == (
        "findings",
        ["silver_missing"],
    )
    assert document["exchanges"]["BINANCE"]["trades"]["rows"]["bronze"] == 12


def test_the_command_rejects_an_invalid_time_and_a_missing_catalog(lake: Lake):
    wrong = _command(lake, "--since", "yesterday")
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
    assert "2026-03-01T10:00:00Z" in wrong.stderr
    absent = _command(lake, K2_CATALOG_URI="sqlite:////nowhere/catalog.db")
    assert (absent.returncode, absent.stdout) == (3, "")
    assert "there is no catalog at /nowhere/catalog.db" in absent.stderr
    for done, code in (
        (_command(lake, "--json", K2_CATALOG_URI="sqlite:////nowhere/catalog.db"), 3),
        (_command(lake, "--json", "--memory", "none"), 1),
    ):
        document = json.loads(done.stdout)
        assert (done.returncode, document["error"]["exit_code"]) == (code, code)
        assert document["error"]["text"] in done.stderr
        assert "Traceback" not in done.stderr
