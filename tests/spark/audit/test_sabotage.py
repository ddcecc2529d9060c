"""Sabotage of a lake: whatever is changed, added or deleted is found, in the right table and hour.

One lake is built and audited once. Each sabotage ends with the catalog pointing to the tables as they were.
"""

import sqlite3
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from k2.common.platform import Platform
from k2.jobs.audit import runner
from k2.jobs.commit.commit_log import CommitLog
from k2.jobs.maintenance.bar_maintenance import BarMaintainer
from k2.schemas import tables
from k2.schemas.channels import TRADES
from tests.spark.builders import HOUR, Lake, Record, consecutive, drop_tables, trade

pytestmark = pytest.mark.spark

BRONZE, SILVER, GOLD = TRADES.bronze("binance"), TRADES.silver("binance"), tables.GOLD_TABLE
NOW = HOUR + timedelta(hours=4)
ETHER = {"symbol": "ETHUSDT", "base_asset": "ETH"}
FIRST_HOUR, SECOND_HOUR = "2026-03-02T10:00Z", "2026-03-02T11:00Z"


@pytest.fixture(scope="module")
def audited(spark: SparkSession, services: Platform, schema_id: int, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Return a lake of two symbols and hours, of which every hour has a verdict."""
    drop_tables(spark)
    checkpoints = str(tmp_path_factory.mktemp("sabotage"))
    lake = Lake(spark, services.model_copy(update={"checkpoints": checkpoints}), schema_id)
    feed = lake.feed()
    lake.arrive(feed, [*consecutive(1, 20), *consecutive(1, 10, **ETHER), Record(b"bad")])
    lake.run(feed, "silver", "gold")
    later = HOUR + timedelta(hours=1)
    lake.arrive(feed, [trade(number, later + timedelta(seconds=number)) for number in range(21, 31)])
    lake.run(feed, "silver", "gold")
    BarMaintainer(spark).run()
    CommitLog(spark, [feed]).record()
    assert runner.audit(spark, lake.platform, now=NOW).findings == []
    return lake


@pytest.fixture
def lake(audited: Lake) -> Iterator[Lake]:
    catalog = Path(audited.platform.catalog_uri.removeprefix("sqlite:///"))
    pointers = _catalog(catalog, "SELECT metadata_location, table_name FROM iceberg_tables")
    yield audited
    _catalog(catalog, "UPDATE iceberg_tables SET metadata_location = ? WHERE table_name = ?", pointers)


def _catalog(file: Path, statement: str, values: list[tuple[str, str]] | None = None) -> list[tuple[str, str]]:
    connection = sqlite3.connect(file, timeout=30)
    with connection:
        done = connection.executemany(statement, values) if values else connection.execute(statement)
        rows = done.fetchall()
    connection.close()
    return rows


def _findings(lake: Lake) -> set[tuple[str, str, str, str]]:
    """Return check, table, symbol and hour of each finding."""
    report = runner.audit(lake.spark, lake.platform, now=NOW + timedelta(minutes=1))
    return {(finding.check, finding.table, finding.symbol, finding.hour) for finding in report.findings}


def test_an_untouched_lake_stays_balanced_and_gets_no_other_verdict(lake: Lake):
    verdicts = lake.table(tables.COMPLETENESS_TABLE)
    before = verdicts.count()
    assert before == 3
    assert _findings(lake) == set()
    assert verdicts.count() == before


def _at(layer: str, *checks: str, symbol: str = "BTCUSDT", hour: str = FIRST_HOUR) -> set[tuple[str, str, str, str]]:
    table = {"bronze": BRONZE, "silver": SILVER, "gold": GOLD, "bars": tables.BARS_TABLE}[layer]
    return {(check, table.name, symbol, hour) for check in checks}


CHANGES = {
    "gold price": (
        GOLD, "UPDATE {} SET price = price * 10 WHERE trade_id = '4' AND symbol = 'BTCUSDT'",
        _at("gold", "gold_changed", "gold_mismatch"),
    ),
    "gold time": (
        GOLD, "UPDATE {} SET timestamp = timestamp + INTERVAL 30 SECOND WHERE trade_id = '4' AND symbol = 'ETHUSDT'",
        _at("gold", "gold_changed", "gold_mismatch", symbol="ETHUSDT"),
    ),
    "gold duplicate": (
        GOLD, "INSERT INTO {0} SELECT * FROM {0} WHERE trade_id = '21'",
        _at("gold", "gold_changed", "gold_duplicate", hour=SECOND_HOUR),
    ),
    "gold first row": (
        GOLD, "DELETE FROM {} WHERE trade_id = '1' AND symbol = 'BTCUSDT'", _at("gold", "gold_changed", "gold_missing"),
    ),
    "gold last row": (
        GOLD, "DELETE FROM {} WHERE trade_id = '30'", _at("gold", "gold_changed", "gold_missing", hour=SECOND_HOUR),
    ),
    "silver price": (
        SILVER, "UPDATE {} SET price = price * 10 WHERE trade_id = '4' AND symbol = 'BTCUSDT'",
        _at("silver", "silver_changed", "gold_mismatch"),
    ),
    "bronze byte": (
        BRONZE, "UPDATE {} SET value = concat(substring(value, 1, 20), X'00', substring(value, 22)) WHERE offset = 3",
        _at("bronze", "bronze_changed"),
    ),
    "bars": (
        tables.BARS_TABLE, "UPDATE {} SET close = close * 2 WHERE symbol = 'BTCUSDT' AND hour(open_time) = 11",
        _at("bars", "ohlcv_mismatch", hour=SECOND_HOUR),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_in_one_table_is_found_there_and_nothing_else_is(lake: Lake, name: str):
    table, statement, expected = CHANGES[name]
    lake.sql(statement, table)
    assert _findings(lake) == expected


def test_rows_deleted_from_all_layers_are_missed_by_offset_and_by_verdict(lake: Lake):
    lake.sql("DELETE FROM {} WHERE offset >= 31", BRONZE)
    lake.sql("DELETE FROM {} WHERE offset >= 31", SILVER)
    lake.sql("DELETE FROM {} WHERE exchange_hour = 11", GOLD)
    report = runner.audit(lake.spark, lake.platform, now=NOW + timedelta(minutes=1))
    texts = {finding.check: finding.text for finding in report.findings}
    assert texts["bronze_gap"].endswith("missing in Bronze: offset 31 to 40")
    assert texts["silver_missing"].endswith("missing in Silver and the dead letters: offset 31 to 40")
    changed = {(finding.check, finding.hour) for finding in report.findings if finding.hour}
    assert changed == {(f"{layer}_changed", SECOND_HOUR) for layer in ("bronze", "silver", "gold")}


def test_the_first_rows_deleted_from_bronze_are_missed(lake: Lake):
    lake.sql("DELETE FROM {} WHERE offset < 5", BRONZE)
    report = runner.audit(lake.spark, lake.platform, now=NOW + timedelta(minutes=1))
    assert [finding.check for finding in report.findings] == ["bronze_gap", "bronze_changed"]
    assert report.findings[0].text.endswith("missing in Bronze: offset 0 to 4")


def test_a_changed_verdict_breaks_the_chain(lake: Lake):
    lake.sql("UPDATE {} SET actual = 19 WHERE symbol = 'BTCUSDT' AND hour(hour) = 10", tables.COMPLETENESS_TABLE)
    assert ("verdict_chain", "audit_completeness", "BTCUSDT", SECOND_HOUR) in _findings(lake)
