"""Sabotage of a lake: whatever is changed, added or deleted is found, in the right table and hour.

One lake is built and audited once. Each sabotage ends with the catalog pointing to the tables as they were.
"""

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from k2.common.platform import Platform
from k2.jobs.audit import runner
from k2.jobs.commit.commit_log import CommitLog
from k2.jobs.maintenance.bar_maintenance import BarMaintainer
from k2.jobs.spark.local_frames import local_frame
from k2.schemas import tables
from k2.schemas.channels import TRADES
from tests.spark import empty_tables
from tests.spark.builders import HOUR, Lake, Record, consecutive, trade

pytestmark = pytest.mark.spark

BRONZE, SILVER, GOLD = TRADES.bronze("binance"), TRADES.silver("binance"), tables.GOLD_TABLE
NOW = HOUR + timedelta(hours=4)
ETHER = {"symbol": "ETHUSDT", "base_asset": "ETH"}
FIRST_HOUR, SECOND_HOUR = "2026-03-02T10:00Z", "2026-03-02T11:00Z"


@pytest.fixture(scope="module")
def audited(spark: SparkSession, services: Platform, schema_id: int, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Return a lake of two symbols and hours, of which every hour has a verdict."""
    empty_tables.remove_all(spark, services)
    checkpoints = str(tmp_path_factory.mktemp("sabotage"))
    lake = Lake(spark, services.model_copy(update={"checkpoints": checkpoints}), schema_id)
    feed = lake.feed()
    lake.arrive(feed, [*consecutive(1, 20), *consecutive(1, 10, **ETHER), Record(b"bad", key=None)])
    lake.run(feed, "silver", "gold")
    _list_instrument(lake)
    later = HOUR + timedelta(hours=1)
    lake.arrive(feed, [trade(number, later + timedelta(seconds=number)) for number in range(21, 31)])
    lake.run(feed, "silver", "gold")
    BarMaintainer(spark).run()
    CommitLog(spark, [feed]).record()
    assert runner.audit(spark, lake.platform, now=NOW).findings == []
    return lake


def _list_instrument(lake: Lake) -> None:
    row = {
        "exchange": "BINANCE", "raw_symbol": "BTCUSDT", "symbol": "BTCUSDT", "kind": "spot", "listing": 1,
        "base_asset": "BTC", "quote_currency": "USDT", "status": "trading",
        "valid_from": HOUR, "definition": "{}",
    }  # fmt: skip
    columns = ", ".join(f"{column.name} {column.type}" for column in tables.INSTRUMENTS_TABLE.columns)
    local_frame(lake.spark, [row], columns).writeTo(tables.INSTRUMENTS_TABLE.identifier).append()


@pytest.fixture
def lake(audited: Lake) -> Iterator[Lake]:
    rows = _catalog(audited, "SELECT * FROM iceberg_tables")
    yield audited
    _catalog(audited, "DELETE FROM iceberg_tables")
    _catalog(audited, f"INSERT INTO iceberg_tables VALUES ({', '.join('?' * len(rows[0]))})", rows)


def _catalog(lake: Lake, statement: str, values: list[tuple[str, ...]] | None = None) -> list[tuple[str, ...]]:
    connection = sqlite3.connect(lake.platform.catalog_uri.removeprefix("sqlite:///"), timeout=30)
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


# Changes that do not touch each other, so that one audit judges several: statements, and what is expected of them.
CHANGES = {
    "values and rows of gold": (
        [
            (GOLD, "UPDATE {} SET price = price * 10 WHERE trade_id = '4' AND symbol = 'BTCUSDT'"),
            (GOLD, ("UPDATE {} SET timestamp = timestamp + INTERVAL 30 SECOND "
             "WHERE trade_id = '4' AND symbol = 'ETHUSDT'")),
            (GOLD, "DELETE FROM {} WHERE trade_id = '30'"),
        ],
        _at("gold", "gold_changed", "gold_mismatch") | _at("gold", "gold_changed", "gold_mismatch", symbol="ETHUSDT")
        | _at("gold", "gold_changed", "gold_missing", hour=SECOND_HOUR),
    ),
    "a value in each other layer, and a row that is twice in gold": (
        [
            (SILVER, "UPDATE {} SET price = price * 10 WHERE trade_id = '4' AND symbol = 'BTCUSDT'"),
            (BRONZE, ("UPDATE {} SET value = concat(substring(value, 1, 20), X'00', substring(value, 22)) "
             "WHERE offset = 3")),
            (tables.BARS_TABLE, "UPDATE {} SET close = close * 2 WHERE symbol = 'BTCUSDT' AND hour(open_time) = 11"),
            (GOLD, "INSERT INTO {0} SELECT * FROM {0} WHERE trade_id = '21'"),
        ],
        _at("silver", "silver_changed", "gold_mismatch") | _at("bronze", "bronze_changed")
        | _at("bars", "ohlcv_mismatch", hour=SECOND_HOUR)
        | _at("gold", "gold_changed", "gold_duplicate", hour=SECOND_HOUR),
    ),
    "the first row of gold, what a dead letter says, an instrument, and a row of bronze without a key": (
        [
            (GOLD, "DELETE FROM {} WHERE trade_id = '1' AND symbol = 'BTCUSDT'"),
            (tables.DEAD_LETTERS_TABLE, "UPDATE {} SET error_category = 'UNDECODABLE'"),
            (tables.INSTRUMENTS_TABLE, "UPDATE {} SET base_asset = 'ETH'"),
            (BRONZE, "UPDATE {} SET value = X'00' WHERE key IS NULL"),
        ],
        _at("gold", "gold_changed", "gold_missing") | _at("bronze", "bronze_changed", symbol="")
        | {("dead_letters_changed", tables.DEAD_LETTERS, "", ""),
           ("instruments_changed", tables.INSTRUMENTS_TABLE.name, "BTCUSDT", FIRST_HOUR)},
    ),
}  # fmt: skip


LEDGER, VERDICTS = tables.BATCHES_TABLE, tables.COMPLETENESS_TABLE
REWRITES = {
    "a row of the ledger deleted": (
        LEDGER, "DELETE FROM {} WHERE layer = 'silver' AND epoch = 0", {"ledger_changed", "ledger_missing"}, "",
    ),
    "the newest row of the ledger deleted": (
        LEDGER, "DELETE FROM {} WHERE layer = 'gold' AND epoch = 1", {"ledger_changed"}, "",
    ),
    "a row of the ledger falsified": (
        LEDGER, "UPDATE {} SET rows_in = rows_in + 1, rows_out = rows_out + 1 WHERE layer = 'bronze' AND rows_in = 31",
        {"ledger_changed"}, "",
    ),
    "a row of the ledger added": (
        LEDGER, "INSERT INTO {0} SELECT * FROM {0} WHERE layer = 'bronze' AND rows_in = 31", {"ledger_duplicate"}, "",
    ),
    "the newest verdict of a symbol deleted": (
        VERDICTS, "DELETE FROM {} WHERE symbol = 'ETHUSDT'", {"verdict_changed"}, "ETHUSDT",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REWRITES)
def test_a_rewritten_row_of_a_table_that_only_grows_is_found_and_nothing_else_is(lake: Lake, name: str):
    table, statement, checks, symbol = REWRITES[name]
    lake.sql(statement, table)
    findings = runner.audit(lake.spark, lake.platform, now=NOW + timedelta(minutes=1)).findings
    assert {finding.check for finding in findings} == checks
    assert {(finding.table, finding.symbol, finding.exchange) for finding in findings} == {
        (table.name, symbol, "BINANCE")
    }
    assert all(finding.hour for finding in findings)


@pytest.mark.parametrize("table", [SILVER, GOLD], ids=["silver", "gold"])
def test_a_table_that_was_rolled_back_is_named_with_its_snapshots(lake: Lake, table: tables.Table):
    newest, before = lake.snapshots(table)[:2]
    lake.sql(f"CALL lake.system.rollback_to_snapshot('market_data.{table.name}', {before.id}) -- {{}}", table)
    findings = runner.audit(lake.spark, lake.platform, now=NOW + timedelta(minutes=1)).findings
    (rollback,) = [finding for finding in findings if finding.check == "rolled_back"]
    assert rollback.table == table.name
    assert rollback.text.endswith(f"rolled back to snapshot {before.id}; one commit was undone: {newest.id}")
    layer = table.name.partition("_")[0]
    missing = {"commit_missing", f"{layer}_missing", f"{layer}_changed"}
    assert {finding.check for finding in findings} == missing | {"rolled_back"}
    assert {finding.table for finding in findings} <= {table.name, ""}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_found_where_it_is_and_nothing_else_is(lake: Lake, name: str):
    statements, expected = CHANGES[name]
    for table, statement in statements:
        lake.sql(statement, table)
    report = runner.audit(lake.spark, lake.platform, now=NOW + timedelta(minutes=1))
    places = {
        # A dead letter's time is that of the test.
        (one.check, one.table, one.symbol, "" if one.check == "dead_letters_changed" else one.hour)
        for one in report.findings
    }
    assert places == expected
    texts = {one.check: one.text for one in report.findings}
    details = {"bronze_changed": "binance/0 offset ", "ohlcv_mismatch": ": 11:00", "dead_letters_changed": "offset 30"}
    assert all(details[check] in text for check, text in texts.items() if check in details)


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
    assert {(one.symbol, one.hour) for one in report.findings} == {("BTCUSDT", FIRST_HOUR)}


def test_a_falsified_verdict_is_named_itself_and_no_audit_appends_to_it(lake: Lake):
    digest = "concat('20:', repeat('0', 64))"
    lake.sql(f"UPDATE {{}} SET digest_gold = {digest} WHERE symbol = 'BTCUSDT' AND hour(hour) = 10", VERDICTS)
    for _ in range(2):
        assert _findings(lake) == {("verdict_changed", VERDICTS.name, "BTCUSDT", FIRST_HOUR)}
        assert lake.table(VERDICTS).count() == 3


def _file(lake: Lake, table: tables.Table, kind: str = "files", where: str = "true") -> Path:
    """Return the first data file of a table, or its first manifest."""
    column = {"files": "file_path", "manifests": "path"}[kind]
    files = lake.spark.table(f"{table.identifier}.{kind}").where(where).orderBy(column)
    return Path(files.first()[column].removeprefix("file:"))


@contextmanager
def _kept(*files: Path) -> Iterator[None]:
    """Keep copies of files, and put them back afterwards."""
    for file in files:
        shutil.copy(file, f"{file}.copy")
    try:
        yield
    finally:
        for file in files:
            Path(f"{file}.copy").replace(file)


def test_a_lost_file_of_every_layer_is_named_with_its_symbol_and_hour_and_nothing_else_is_reported(lake: Lake):
    every = (BRONZE, SILVER, GOLD, tables.BATCHES_TABLE)
    files = [_file(lake, table, where="partition.exchange_hour = 11" if table is GOLD else "true") for table in every]
    with _kept(*files):
        for file in files:
            file.unlink()
        report = runner.audit(lake.spark, lake.platform, now=NOW + timedelta(minutes=1))
    named = {finding.table: finding for finding in report.findings}
    assert sorted(named) == sorted(table.name for table in every)
    assert len(report.findings) == len(every)
    for table, file in zip(every, files, strict=True):
        assert named[table.name].check == "file_missing"
        assert str(file) in named[table.name].text
    assert (named[GOLD.name].symbol, named[GOLD.name].hour) == ("BTCUSDT", SECOND_HOUR)
    channel = report.document()["exchanges"]["BINANCE"]["trades"]
    assert "NoSuchFileException" in channel["unfinished"]
    assert "not every check was made" in report.text()


def test_a_cut_file_and_one_that_has_other_bytes_are_named(lake: Lake):
    cut = _file(lake, BRONZE)
    with _kept(cut):
        os.truncate(cut, 100)
        assert {finding[:2] for finding in _findings(lake)} == {("file_changed", BRONZE.name)}
    file = _file(lake, GOLD)
    with _kept(file):
        content = file.read_bytes()
        file.write_bytes(content[:50] + bytes(byte ^ 255 for byte in content[50:100]) + content[100:])
        (finding,) = runner.audit(lake.spark, lake.platform, now=NOW + timedelta(minutes=1)).findings
    assert (finding.check, finding.table) == ("file_unreadable", GOLD.name)
    assert str(file) in finding.text


def test_a_lost_manifest_lost_metadata_and_a_table_that_the_catalog_lost_are_named(lake: Lake):
    (location,) = _catalog(lake, f"SELECT metadata_location FROM iceberg_tables WHERE table_name = '{SILVER.name}'")[0]
    manifest, metadata = _file(lake, BRONZE, "manifests"), Path(location.removeprefix("file:"))
    with _kept(manifest, metadata):
        manifest.unlink()
        metadata.unlink()
        _catalog(lake, f"DELETE FROM iceberg_tables WHERE table_name = '{GOLD.name}'")
        report = runner.audit(lake.spark, lake.platform, now=NOW + timedelta(minutes=1))
    texts = {(finding.check, finding.table): finding.text for finding in report.findings}
    assert set(texts) == {
        ("table_missing", GOLD.name), ("table_unreadable", SILVER.name), ("file_missing", BRONZE.name),
    }  # fmt: skip
    assert metadata.name in texts["table_unreadable", SILVER.name]
    assert str(manifest) in texts["file_missing", BRONZE.name]


def test_an_exchange_whose_bronze_the_catalog_lost_is_still_audited(lake: Lake):
    _catalog(lake, f"DELETE FROM iceberg_tables WHERE table_name IN ('{BRONZE.name}', '{SILVER.name}')")
    report = runner.audit(lake.spark, lake.platform, now=NOW + timedelta(minutes=1))
    assert {(finding.check, finding.table) for finding in report.findings} == {
        ("table_missing", BRONZE.name), ("table_missing", SILVER.name),
    }  # fmt: skip
    assert report.document()["exchanges"]["BINANCE"]["trades"]["unfinished"]
