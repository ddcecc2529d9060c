"""A purge deletes the data of one feed, keeps that of others, and leaves the audit clean."""

import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from k2.common.schema_registry import Registry
from k2.jobs.audit import runner
from k2.jobs.commit.commit_log import CommitLog
from k2.jobs.purge import Purge
from k2.jobs.spark import tables as spark_tables
from k2.schemas import tables, topics
from k2.schemas.channels import TRADES, exchange_tables
from k2.schemas.codecs import avro
from k2.schemas.feed.model import ExchangeFeed
from tests.spark.builders import HOUR, Lake, Record, consecutive, numbers, trade
from tests.spark.saved_lakes import prepared

pytestmark = pytest.mark.spark

LATER = HOUR + timedelta(hours=2)


def _other(lake: Lake) -> ExchangeFeed:
    """Return a second feed of the same exchange, with its own topic and symbol."""
    feed = lake.feed()
    body = feed.model_dump(by_alias=True, mode="json") | {"metadata": {"name": "more"}}
    body["spec"] |= {"symbols": ["ETHUSDT"], "kafka": {"topic": "more"}}
    Registry(lake.platform.registry).register(topics.subject("more"), avro.text())
    return ExchangeFeed.from_body(body)


def _ether(first: int, last: int):
    return consecutive(first, last, symbol="ETHUSDT", base_asset="ETH")


def _filled(lake: Lake) -> tuple[ExchangeFeed, ExchangeFeed]:
    return prepared(lake, _fill)


def _fill(lake: Lake) -> tuple[ExchangeFeed, ExchangeFeed]:
    feed, other = lake.feed(), _other(lake)
    lake.arrive(feed, [*consecutive(1, 5), Record(b"bad")])
    lake.arrive(other, [*_ether(1, 3), Record(b"worse")])
    for one in (feed, other):
        lake.run(one, "silver", "gold")
        CommitLog(lake.spark, [one]).record()
    assert runner.audit(lake.spark, lake.platform, now=LATER).findings == []
    return feed, other


def _purge(lake: Lake, feed: ExchangeFeed, *, exchange: bool = False):
    return Purge(lake.spark, lake.platform, feed, exchange=exchange).run()


def _symbols(rows) -> set[str]:
    return {row[0] for row in rows.select("symbol").distinct().collect()}


def test_only_the_rows_of_the_purged_feed_are_deleted(lake: Lake):
    feed, other = _filled(lake)
    removed = _purge(lake, feed)
    assert removed.pop("checkpoints").endswith(feed.name)
    assert removed == {
        "bronze_binance_trades": 6, "silver_binance_trades": 5, "silver_dlq_trades": 1, "gold_crypto_trades": 5,
        "audit_completeness": 1, "audit_batches": 2,
    }  # fmt: skip
    assert {row[0] for row in lake.bronze().select("topic").distinct().collect()} == {other.topic(TRADES)}
    assert {row[0] for row in lake.dead.select("topic").distinct().collect()} == {other.topic(TRADES)}
    for rows in (lake.silver(), lake.gold, lake.table(tables.COMPLETENESS_TABLE)):
        assert _symbols(rows) == {"ETHUSDT"}
    assert not Path(lake.platform.checkpoints, feed.name).exists()
    assert Path(lake.platform.checkpoints, other.name).exists()
    lake.arrive(other, _ether(4, 5))
    lake.run(other, "silver", "gold")
    assert numbers(lake.gold) == [1, 2, 3, 4, 5]
    assert runner.audit(lake.spark, lake.platform, now=LATER, rebuild=True).findings == []


def test_a_repeated_purge_succeeds_and_removes_nothing(lake: Lake):
    feed, _ = _filled(lake)
    assert _purge(lake, feed)
    assert _purge(lake, feed) == {}


def test_retained_rows_of_another_feed_are_kept_with_the_exchanges_tables(lake: Lake):
    """The other feed was deleted with its data retained; the tables are dropped when it is purged too."""
    feed, other = _filled(lake)
    _purge(lake, feed, exchange=True)
    assert _symbols(lake.silver()) == _symbols(lake.gold) == {"ETHUSDT"}
    lake.sql("DELETE FROM {}", TRADES.bronze("binance"))
    lake.sql("DELETE FROM {}", TRADES.silver("binance"))  # as after 30 days
    assert _purge(lake, feed, exchange=True) == {}
    assert _symbols(lake.gold) == {"ETHUSDT"}
    assert _purge(lake, other, exchange=True)["bronze_binance_trades"] == "dropped"
    assert lake.gold.isEmpty()


def test_a_purge_of_the_last_feed_drops_the_exchanges_tables(lake: Lake):
    feed, kraken = lake.feed(), lake.feed("kraken")
    lake.arrive(feed, [*consecutive(1, 5), Record(b"bad")])
    lake.arrive(kraken, [trade(1, exchange="kraken"), Record(b"bad")])
    for one in (feed, kraken):
        lake.run(one, "silver", "gold")
        CommitLog(lake.spark, [one]).record()
    runner.audit(lake.spark, lake.platform, now=LATER)
    removed = _purge(lake, feed, exchange=True)
    assert removed["bronze_binance_trades"] == removed["silver_binance_trades"] == "dropped"
    assert not lake.spark.catalog.tableExists(TRADES.bronze("binance").identifier)
    folder = Path(lake.platform.warehouse.removeprefix("file:")) / tables.NAMESPACE
    assert not (folder / "bronze_binance_trades").exists()
    assert (folder / "bronze_kraken_trades").exists()
    shared = (lake.dead, lake.gold, lake.table(tables.COMPLETENESS_TABLE), lake.table(tables.BATCHES_TABLE))
    for rows in shared:
        assert {row[0] for row in rows.select("exchange").distinct().collect()} == {"KRAKEN"}
    assert runner.audit(lake.spark, lake.platform, now=LATER).findings == []


def test_a_feed_that_never_ran_can_be_purged(lake: Lake):
    feed = ExchangeFeed.from_body(lake.feed("okx").model_dump(by_alias=True, mode="json"))
    for table in exchange_tables("okx"):
        lake.sql("DROP TABLE {}", table)
    assert _purge(lake, feed, exchange=True) == {}
    assert _purge(lake, feed) == {}


@pytest.mark.parametrize("exchange", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_new_feed_of_the_same_name_has_a_clean_audit(lake: Lake, *, exchange: bool):
    """Its topic restarts at offset 0, which must not be confused with the offsets of older snapshots."""
    feed, other = _filled(lake)
    _purge(lake, feed)
    if exchange:
        assert _purge(lake, other, exchange=True)["silver_binance_trades"] == "dropped"
    lake.restart(feed)
    spark_tables.ensure(lake.spark, exchange_tables("binance"))
    lake.arrive(feed, consecutive(101, 102))
    assert runner.audit(lake.spark, lake.platform, now=LATER).findings == []
    lake.run(feed, "silver")
    assert runner.audit(lake.spark, lake.platform, now=LATER).findings == []
    lake.run(feed, "gold")
    lake.arrive(feed, consecutive(103, 103))
    report = runner.audit(lake.spark, lake.platform, now=LATER)
    assert report.findings == []
    assert report.exchanges["BINANCE"]["trades"].lag["silver"] == 1
    assert set(numbers(lake.gold.where("symbol = 'BTCUSDT'"))) == {101, 102}


def _command(file: Path, root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    own = {
        "K2_CATALOG_URI": f"sqlite:///{root}/catalog.db",
        "K2_WAREHOUSE": f"file:{root}/warehouse",
        "K2_CHECKPOINTS": f"file:{root}/checkpoints",
    }
    variables = {key: value for key, value in os.environ.items() if not key.startswith("PYSPARK_")} | own
    command = [sys.executable, "-m", "k2.jobs.purge", "--memory", "512m", "--feed", str(file), *words]
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120)


def test_exit_codes_of_the_command(lake: Lake, tmp_path: Path):
    """The catalog is empty, and there is a started checkpoint."""
    file, left = tmp_path / "feed.yaml", tmp_path / "checkpoints" / "binance" / "bronze" / "v1"
    file.write_text(yaml.safe_dump(lake.feed().model_dump(by_alias=True, mode="json")))
    left.mkdir(parents=True)
    (tmp_path / "checkpoints" / "another").mkdir()
    done = _command(file, tmp_path, "--exchange")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["removed"] == {"checkpoints": f"file:{tmp_path}/checkpoints/binance"}
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["another"]
    missing = _command(tmp_path / "none.yaml", tmp_path)
    assert (missing.returncode, missing.stderr.count("\n")) == (2, 1)
    unreachable = _command(file, tmp_path / "no-such-folder")
    assert unreachable.returncode == 3, unreachable.stderr
    assert "the catalog cannot be read" in unreachable.stderr


def test_an_interrupted_purge_removes_the_files_of_tables_that_are_dropped_already(lake: Lake, tmp_path: Path):
    """As a REST catalog places them: in a folder that nothing but the dropped table's metadata names."""
    feed = lake.feed()
    place = Path(lake.platform.warehouse.removeprefix("file:")) / "elsewhere" / "bronze-1f2e"
    place.mkdir(parents=True)
    (place / "rows.parquet").write_bytes(b"rows")
    note = Path(lake.platform.checkpoints) / feed.name / "dropped.json"
    note.parent.mkdir(parents=True)
    outside = tmp_path / "outside"
    outside.mkdir()
    note.write_text(json.dumps([f"file:{place}", f"file:{outside}"]))
    Purge(lake.spark, lake.platform, feed, exchange=True).run()
    assert not place.exists()
    assert outside.exists()
    assert not note.exists()
