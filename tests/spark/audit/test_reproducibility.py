"""What was asked once is answered the same for ever, and a day made again from Bronze is the day that Gold holds."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from k2.cli.main import app
from k2.jobs.audit import rebuild, runner
from k2.jobs.maintenance.bar_maintenance import BarMaintainer
from k2.jobs.maintenance.runner import Maintenance
from k2.schemas import tables
from k2.schemas.codecs import avro
from tests.spark.builders import HOUR, Lake, Record, consecutive, trade

pytestmark = pytest.mark.spark

DAY = timedelta(days=1)


def _answer(lake: Lake, command: str, *words: str) -> bytes:
    """What the command prints over this lake."""
    folder = Path(lake.platform.catalog_uri.removeprefix("sqlite:///")).parent
    found = CliRunner().invoke(app, [command, "--data", str(folder), "--format", "csv", *words])
    assert found.exit_code == 0, found.stderr
    return found.stdout_bytes


def test_the_same_question_as_of_the_same_snapshot_gives_the_same_bytes(lake: Lake):
    feed, maintainer = lake.feed(), BarMaintainer(lake.spark)
    for first in range(1, 50, 10):
        lake.arrive(feed, consecutive(first, first + 9))
        lake.run(feed, "silver", "gold")
    maintainer.run()
    snapshot = str(lake.snapshots(tables.GOLD_TABLE)[0].id)
    questions = [("trades", ("--as-of", snapshot)), ("ohlcv", ("--symbol", "BTCUSDT", "--as-of", snapshot))]
    before = [_answer(lake, command, *words) for command, words in questions]
    assert before[0].count(b"\n") == 51
    lake.arrive(feed, [trade(100), trade(200, HOUR + timedelta(seconds=3), price=1)])
    lake.run(feed, "silver", "gold")
    maintainer.run()
    report = Maintenance(lake.spark, lake.platform, [feed]).run(now=HOUR + 2 * DAY, orphans=False)
    assert report["tables"][tables.GOLD]["compacted_files"] >= 5
    assert [_answer(lake, command, *words) for command, words in questions] == before
    assert _answer(lake, "trades") != before[0]


def test_a_day_made_again_from_bronze_has_the_same_hash(lake: Lake):
    feed = lake.feed()
    lake.arrive(feed, [*consecutive(1, 20), Record(b"bad"), trade(21, HOUR + DAY)])
    lake.run(feed, "silver", "gold")
    late = trade(22, HOUR - timedelta(hours=3), ingestion_timestamp=trade(21, HOUR + DAY).ingestion_timestamp)
    lake.arrive(feed, [*consecutive(15, 20), late, trade(23, HOUR + DAY)])
    lake.run(feed, "silver", "gold")
    # Kept, as the audit keeps it: Spark would otherwise write the rules into each column's expression.
    judged = rebuild.revalidated(lake.bronze(), {feed.topic: {lake.schema_id: avro.text()}}, "BINANCE").persist()
    again = rebuild.deduplicated(judged.where("error_category IS NULL"))
    for day, count in ((HOUR.date(), 21), (HOUR.date() + DAY, 2)):
        only = f"exchange_date = DATE '{day}'"
        found = rebuild.gold_digest(again.where(only))
        assert found.rows == count
        assert found == rebuild.gold_digest(lake.gold.where(only))
    judged.unpersist()


def test_the_audit_finds_bars_that_are_not_golds(lake: Lake):
    feed = lake.feed()
    lake.arrive(feed, [*consecutive(1, 100), trade(4000), trade(8000)])
    lake.run(feed, "silver", "gold")
    BarMaintainer(lake.spark).run()
    later = HOUR + timedelta(hours=4)

    def differ(**narrowed: datetime) -> list[tuple[str, str]]:
        found = runner.audit(lake.spark, lake.platform, now=later, **narrowed).findings
        # The trades lie hours apart by their numbers, so ids between them are missing too: that is another finding.
        return [(finding.check, finding.text) for finding in found if finding.check != "missing_ids"]

    assert differ() == []
    made = lake.snapshots(tables.BARS_TABLE)[0]
    conf, key = lake.spark.conf, "spark.sql.iceberg.snapshot-property.k2.gold-snapshot-id"
    conf.set(key, made.summary["k2.gold-snapshot-id"])
    try:
        lake.sql("UPDATE {} SET close = close + 1 WHERE hour(start) = 10 AND minute(start) = 1", tables.BARS_TABLE)
        lake.sql("DELETE FROM {} WHERE hour(start) = 12", tables.BARS_TABLE)
    finally:
        conf.unset(key)
    found = differ()
    assert found == [
        ("ohlcv_mismatch", "the bars of the hour 2026-03-02T10:00Z differ from Gold"),
        ("ohlcv_mismatch", "there are no bars for the hour 2026-03-02T12:00Z, in which Gold has trades"),
    ]
    assert differ(since=HOUR + timedelta(hours=1)) == found[1:]
