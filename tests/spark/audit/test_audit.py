"""The audit: a balanced lake passes, and each corruption gives its own finding and no other."""

import json
import os
import subprocess
import sys
from datetime import timedelta

import pytest

from k2.common.schema_registry import RegistryUnavailable
from k2.jobs.audit import runner
from k2.jobs.spark.local_frames import local_frame
from k2.schemas import tables
from tests.spark.builders import HOUR, Lake, Record, consecutive, trade

pytestmark = pytest.mark.spark

BRONZE, SILVER = tables.bronze("binance"), tables.silver("binance")
LATER = HOUR + timedelta(hours=2)
WITHIN = HOUR + timedelta(minutes=30)


def _filled(lake: Lake):
    """Two Bronze batches taken through all layers, with a dead letter and a repeated trade."""
    feed = lake.feed()
    lake.arrive(feed, consecutive(1, 6))
    lake.arrive(feed, [*consecutive(6, 10), Record(b"bad")])
    lake.run(feed, "silver", "gold")
    return feed


def _audit(lake: Lake, now=LATER, **options):
    return runner.audit(lake.spark, lake.platform, now=now, **options)


def _checks(report) -> list[str]:
    return [finding.check for finding in report.findings]


def _verdicts(lake: Lake) -> dict:
    rows = lake.table(tables.COMPLETENESS_TABLE).selectExpr("*", "unix_seconds(hour) AS at").collect()
    return {(row["symbol"], row["at"] - int(HOUR.timestamp())): row for row in rows}


def _list_gap(lake: Lake, first: int, last: int, state: str) -> None:
    row = {
        "gap_id": "g", "exchange": "BINANCE", "feed": "binance", "symbol": "BTCUSDT", "first_id": str(first),
        "last_id": str(last), "detected_at": HOUR, "method": "rest", "state": state,
    }  # fmt: skip
    columns = ", ".join(f"{column.name} {column.type}" for column in tables.GAPS_TABLE.columns)
    local_frame(lake.spark, [row], columns).writeTo(tables.GAPS_TABLE.identifier).append()


def test_a_balanced_lake_passes_and_is_the_same_when_rebuilt(lake: Lake):
    _filled(lake)
    report = _audit(lake, rebuild=True)
    assert report.findings == []
    found = report.document()["exchanges"]["BINANCE"]
    assert found["rows"] == {"bronze": 12, "silver": 11, "dead_letters": 1, "gold": 10}
    assert found["dead_letters"] == {"MALFORMED_HEADER": 1}
    assert found["duplicates"] == 1
    assert found["lag"] == {"silver": 0, "gold": 0}
    assert found["completeness"]["hours"] == {"complete": 1}
    assert (found["completeness"]["expected"], found["completeness"]["present"]) == (10, 10)
    assert found["rebuilt"] == {"silver": 11, "dead_letters": 1, "gold": 10}
    assert "balanced" in report.text()
    row = _verdicts(lake)["BTCUSDT", 0]
    assert (row["first_id"], row["last_id"], row["state"], row["missing"]) == ("1", "10", "complete", [])
    assert row["by_source"] == {"live": 10}
    assert row["gold_snapshot_id"] == lake.snapshots(tables.GOLD_TABLE)[0].id


def test_rows_that_are_not_due_yet_are_lag_and_no_finding(lake: Lake):
    feed = _filled(lake)
    lake.arrive(feed, consecutive(11, 13))
    lake.run(feed, "silver")
    lake.arrive(feed, consecutive(14, 17))
    report = _audit(lake, rebuild=True)
    assert report.findings == []
    assert report.exchanges["BINANCE"].lag == {"silver": 4, "gold": 3}


def test_a_silver_batch_between_its_trades_and_its_dead_letters_is_lag(lake: Lake):
    feed = _filled(lake)
    letters = lake.snapshots(tables.DEAD_LETTERS_TABLE)[0]
    lake.arrive(feed, [trade(11), Record(b"bad")])
    lake.run(feed, "silver")
    lake.sql(
        f"CALL lake.system.rollback_to_snapshot('market_data.silver_dlq_trades', {letters.id}) -- {{}}",
        tables.GOLD_TABLE,
    )
    report = _audit(lake)
    assert report.findings == []
    assert report.exchanges["BINANCE"].lag["silver"] == 2


@pytest.mark.parametrize(
    ("table", "statement", "check", "told"),
    [
        (SILVER, "DELETE FROM {} WHERE offset = 3", "silver_missing", "offset 3"),
        (SILVER, "DELETE FROM {} WHERE offset = 10", "silver_missing", "offset 10"),
        (tables.DEAD_LETTERS_TABLE, "DELETE FROM {}", "silver_missing", "offset 11"),
        (SILVER, "INSERT INTO {0} SELECT * FROM {0} WHERE offset = 4", "silver_duplicate", "offset 4"),
        (BRONZE, "DELETE FROM {} WHERE offset IN (7, 8)", "bronze_gap", "7 to 8"),
        (BRONZE, "INSERT INTO {0} SELECT * FROM {0} WHERE offset = 2", "bronze_duplicate", "offset 2"),
        (BRONZE, "DELETE FROM {} WHERE offset = 11", "silver_orphan", "offset 11"),
        (tables.GOLD_TABLE, "INSERT INTO {0} SELECT * FROM {0} WHERE trade_id = '5'", "gold_duplicate", "trade 5 "),
    ],
)  # fmt: skip
def test_a_corruption_gives_exactly_its_finding(lake: Lake, table, statement: str, check: str, told: str):
    _filled(lake)
    lake.sql(statement, table)
    report = _audit(lake)
    assert _checks(report) == [check]
    assert told in report.findings[0].text
    assert f"{check}: " in report.text()


def test_a_trade_that_gold_lost_is_found_by_message_id_and_by_trade_id(lake: Lake):
    _filled(lake)
    lake.sql("DELETE FROM {} WHERE trade_id = '7'", tables.GOLD_TABLE)
    report = _audit(lake)
    assert _checks(report) == ["gold_missing", "missing_ids"]
    assert str(trade(7).message_id) in report.findings[0].text


def test_a_trade_that_only_gold_holds_is_found(lake: Lake):
    _filled(lake)
    lake.sql("INSERT INTO {0} SELECT * REPLACE ('forged' AS message_id) FROM {0} WHERE trade_id = '3'".replace(
        "SELECT * REPLACE ('forged' AS message_id)",
        "SELECT 'forged', " + ", ".join(column.name for column in tables.GOLD_TABLE.columns[1:]),
    ), tables.GOLD_TABLE)  # fmt: skip
    assert _checks(_audit(lake)) == ["gold_orphan"]


def test_a_changed_value_is_found_by_the_rebuild(lake: Lake):
    _filled(lake)
    lake.sql("UPDATE {} SET price = price + 1 WHERE trade_id = '4'", tables.GOLD_TABLE)
    assert _checks(_audit(lake)) == []
    report = _audit(lake, rebuild=True)
    assert _checks(report) == ["rebuild_gold"]
    assert "other rows" in report.findings[0].text


def test_ids_missing_in_a_closed_hour_are_a_finding_of_the_hour_after(lake: Lake):
    feed = lake.feed()
    next_hour = HOUR + timedelta(hours=1)
    lake.arrive(feed, [*consecutive(1, 4), trade(8, next_hour), trade(9, next_hour)])
    lake.run(feed, "silver", "gold")
    report = _audit(lake, now=next_hour + timedelta(hours=1, minutes=6))
    assert _checks(report) == ["missing_ids"]
    assert "T11:00Z: ids 5 to 7 (3) are missing; audit_gaps does not list them" in report.findings[0].text
    verdicts = _verdicts(lake)
    assert verdicts["BTCUSDT", 0]["state"] == "complete"
    late = verdicts["BTCUSDT", 3600]
    assert (late["state"], late["expected"], late["present"]) == ("incomplete", 5, 2)
    assert [tuple(ids) for ids in late["missing"]] == [("5", "7")]


@pytest.mark.parametrize(
    ("state", "now", "findings", "in_repair"),
    [
        ("open", WITHIN, 0, 1),
        ("open", HOUR + timedelta(hours=1, minutes=6), 1, 0),
        ("unrecoverable", WITHIN, 1, 0),
    ],
)
def test_missing_ids_are_in_repair_only_while_their_hour_and_gap_are_open(lake, state, now, findings, in_repair):
    feed = lake.feed()
    lake.arrive(feed, [trade(1), trade(4)])
    lake.run(feed, "silver", "gold")
    _list_gap(lake, 2, 3, state)
    report = _audit(lake, now=now)
    found = report.exchanges["BINANCE"]
    assert (len(report.findings), len(found.in_repair)) == (findings, in_repair)
    assert found.gaps == {state: 1}
    assert all(f"lists them as {state}" in finding.text for finding in report.findings)


def test_a_later_audit_replaces_the_verdict_of_an_hour(lake: Lake):
    feed = lake.feed()
    lake.arrive(feed, [trade(1), trade(3)])
    lake.run(feed, "silver", "gold")
    _audit(lake)
    assert _verdicts(lake)["BTCUSDT", 0]["state"] == "incomplete"
    lake.arrive(feed, [trade(2)])
    lake.run(feed, "silver", "gold")
    assert _audit(lake).findings == []
    rows = lake.table(tables.COMPLETENESS_TABLE).collect()
    assert [row["state"] for row in rows] == ["complete"]


def test_an_exchange_without_consecutive_ids_is_unverifiable_and_no_finding(lake: Lake):
    feed = lake.feed("bybit")
    lake.arrive(feed, [trade(5, exchange="bybit"), trade(90, exchange="bybit")])
    kraken = lake.feed("kraken")
    derived = [trade(f"KRAKEN-17-{name}", HOUR, exchange="kraken") for name in ("aa", "bb")]
    lake.arrive(kraken, derived)
    for each in (feed, kraken):
        lake.run(each, "silver", "gold")
    report = _audit(lake)
    assert report.findings == []
    assert {name: found.completeness["hours"] for name, found in report.exchanges.items()} == {
        "BYBIT": {"unverifiable": 1},
        "KRAKEN": {"unverifiable": 1},
    }


def test_an_aggregated_trade_stands_for_all_ids_that_it_covers(lake: Lake):
    feed = lake.feed("okx")

    def okx(number: int, count: int = 1, source: str = "live"):
        return trade(number, exchange="okx", vendor_data=(("count", str(count)), ("source", source)))

    # 11 to 13 in one message; 12 and 13 again, one by one, from a repair; 15 is missing.
    lake.arrive(
        feed, [okx(10), okx(13, 3), okx(12, source="backfill"), okx(13, source="backfill"), okx(14), okx(17, 2)]
    )
    lake.run(feed, "silver", "gold")
    report = _audit(lake)
    assert [finding.text.partition(": ")[2] for finding in report.findings] == [
        "id 15 is missing; audit_gaps does not list them"
    ]
    hour = report.exchanges["OKX"].completeness["symbols"][0]
    assert (hour["first_id"], hour["last_id"], hour["expected"], hour["present"]) == ("10", "17", 8, 7)
    assert report.exchanges["OKX"].completeness["by_source"] == {"backfill": 1, "live": 4}


def test_a_numbering_that_began_anew_has_no_gap_between_old_and_new(lake: Lake):
    feed = lake.feed()
    old = [trade(number, HOUR + timedelta(seconds=number - 9_000)) for number in (9_000, 9_001)]
    new = [trade(number, HOUR + timedelta(minutes=5, seconds=number)) for number in (1, 2, 3)]
    lake.arrive(feed, [*old, *new])
    lake.run(feed, "silver", "gold")
    assert _audit(lake).findings == []


def test_since_leaves_out_what_is_older(lake: Lake):
    feed = lake.feed()
    early = HOUR - timedelta(hours=5)
    lake.arrive(feed, [trade(1, early), trade(3, early), Record(b"bad", at=early)])
    lake.arrive(feed, consecutive(4, 8))
    lake.run(feed, "silver", "gold")
    lake.sql("DELETE FROM {} WHERE offset = 1", tables.silver("binance"))
    assert sorted(_checks(_audit(lake))) == ["missing_ids", "silver_missing"]
    assert _audit(lake, since=HOUR).findings == []
    lake.sql("DELETE FROM {} WHERE offset = 5", tables.silver("binance"))
    assert sorted(_checks(_audit(lake, since=HOUR))) == ["silver_missing"]


def test_a_rebuild_without_a_registry_says_so(lake: Lake):
    _filled(lake)
    lake.platform = lake.platform.model_copy(update={"registry_url": "http://127.0.0.1:9"})
    with pytest.raises(RegistryUnavailable, match=r"127\.0\.0\.1:9"):
        _audit(lake, rebuild=True)
    assert _audit(lake).findings == []


def _command(lake: Lake, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    platform = lake.platform
    own = {
        "K2_CATALOG_URI": platform.catalog_uri,
        "K2_WAREHOUSE": platform.warehouse,
        "K2_REGISTRY_URL": "http://127.0.0.1:9",
    }
    variables = {key: value for key, value in os.environ.items() if not key.startswith("PYSPARK_")} | own | environment
    command = [sys.executable, "-m", "k2.jobs.audit", "--memory", "512m", *words]
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120)


def test_the_command_tells_by_its_exit_code_and_prints_json(lake: Lake):
    _filled(lake)
    lake.sql("DELETE FROM {} WHERE offset = 10", tables.silver("binance"))
    done = _command(lake, "--json")
    assert done.returncode == 1, done.stderr
    document = json.loads(done.stdout)
    assert (document["verdict"], [found["check"] for found in document["findings"]]) == ("findings", ["silver_missing"])
    assert document["exchanges"]["BINANCE"]["rows"]["bronze"] == 12


def test_the_command_refuses_a_wrong_time_and_a_catalog_that_is_not_there(lake: Lake):
    wrong = _command(lake, "--since", "yesterday")
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
    assert "2026-03-01T10:00:00Z" in wrong.stderr
    absent = _command(lake, K2_CATALOG_URI="sqlite:////nowhere/catalog.db")
    assert (absent.returncode, absent.stdout) == (3, "")
    assert "there is no catalog at /nowhere/catalog.db" in absent.stderr
