"""Reproducibility: queries of a snapshot are stable, and a rebuild from Bronze equals Gold."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from k2.cli.main import app
from k2.jobs.audit import runner
from k2.jobs.audit.bars import check_bars
from k2.jobs.audit.rebuild import rows as rebuild
from k2.jobs.commit.snapshots import SnapshotHistory
from k2.jobs.maintenance.bar_maintenance import BarMaintainer
from k2.jobs.maintenance.runner import Maintenance
from k2.schemas import tables
from k2.schemas.channels import TRADES
from k2.schemas.codecs import avro
from tests.spark.builders import HOUR, Lake, Record, consecutive, trade

pytestmark = pytest.mark.spark

DAY = timedelta(days=1)


def _output(lake: Lake, command: str, *words: str) -> bytes:
    """Return the output of a `k2` command over this lake."""
    folder = Path(lake.platform.catalog_uri.removeprefix("sqlite:///")).parent
    result = CliRunner().invoke(app, [command, "--data", str(folder), "--format", "csv", *words])
    assert result.exit_code == 0, result.stderr
    return result.stdout_bytes


def test_queries_as_of_a_snapshot_return_the_same_bytes(lake: Lake):
    feed, maintainer = lake.feed(), BarMaintainer(lake.spark)
    for first in range(1, 50, 10):
        lake.arrive(feed, consecutive(first, first + 9))
        lake.run(feed, "silver", "gold")
    maintainer.run()
    snapshot = str(lake.snapshots(tables.GOLD_TABLE)[0].id)
    queries = [("trades", ("--as-of", snapshot)), ("ohlcv", ("--symbol", "BTCUSDT", "--as-of", snapshot))]
    before = [_output(lake, command, *words) for command, words in queries]
    assert before[0].count(b"\n") == 51
    lake.arrive(feed, [trade(100), trade(200, HOUR + timedelta(seconds=3), price=1)])
    lake.run(feed, "silver", "gold")
    maintainer.run()
    report = Maintenance(lake.spark, lake.platform, [feed]).run(now=HOUR + 2 * DAY, orphans=False)
    assert report["tables"][tables.GOLD]["compacted_files"] >= 5
    assert [_output(lake, command, *words) for command, words in queries] == before
    assert _output(lake, "trades") != before[0]


def test_a_day_rebuilt_from_bronze_has_the_same_hash(lake: Lake):
    feed = lake.feed()
    lake.arrive(feed, [*consecutive(1, 20), Record(b"bad"), trade(21, HOUR + DAY)])
    lake.run(feed, "silver", "gold")
    late = trade(22, HOUR - timedelta(hours=3), ingestion_timestamp=trade(21, HOUR + DAY).ingestion_timestamp)
    lake.arrive(feed, [*consecutive(15, 20), late, trade(23, HOUR + DAY)])
    lake.run(feed, "silver", "gold")
    # Persisted, as in the audit: Spark would otherwise repeat the rules in each column's expression.
    validated = rebuild.revalidated(
        lake.bronze(), TRADES, {feed.topic(TRADES): {lake.schema_id: avro.text()}}, "BINANCE"
    ).persist()
    rebuilt = rebuild.deduplicated(validated.where("error_category IS NULL"), TRADES)
    for day, count in ((HOUR.date(), 21), (HOUR.date() + DAY, 2)):
        only = f"exchange_date = DATE '{day}'"
        digest = rebuild.gold_digest(rebuilt.where(only), TRADES)
        assert digest.rows == count
        assert digest == rebuild.gold_digest(lake.gold.where(only), TRADES)
    validated.unpersist()


def test_the_audit_finds_bars_that_differ_from_gold(lake: Lake):
    feed = lake.feed()
    lake.arrive(feed, [*consecutive(1, 100), trade(4000), trade(8000)])
    lake.run(feed, "silver", "gold")
    BarMaintainer(lake.spark).run()
    later = HOUR + timedelta(hours=4)

    def mismatches(**options: datetime) -> list[tuple[str, str]]:
        findings = runner.audit(lake.spark, lake.platform, now=later, **options).findings
        # The ids have gaps of hours, so `missing_ids` findings are expected as well.
        return [(finding.check, finding.text) for finding in findings if finding.check != "missing_ids"]

    assert mismatches() == []
    lake.sql("UPDATE {} SET close = close + 1 WHERE hour(open_time) = 10 AND minute(open_time) = 1", tables.BARS_TABLE)
    lake.sql("DELETE FROM {} WHERE hour(open_time) = 12", tables.BARS_TABLE)
    findings = mismatches()
    assert findings == [
        ("ohlcv_mismatch", "the bars of BTCUSDT for the hour 2026-03-02T10:00Z differ from Gold: 10:01"),
        ("ohlcv_mismatch", "there are no bars of BTCUSDT for the hour 2026-03-02T12:00Z, in which Gold has trades"),
    ]
    assert mismatches(since=HOUR + timedelta(hours=1)) == findings[1:]


def test_bars_of_which_nothing_tells_their_trades_are_a_finding_until_they_are_built_again(lake: Lake):
    feed, later = lake.feed(), HOUR + timedelta(hours=4)

    def findings() -> list[str]:
        return [finding.text for finding in check_bars(lake.spark, None)]

    def audited() -> list[str]:
        report = runner.audit(lake.spark, lake.platform, now=later, channels=[TRADES])
        return [finding.text for finding in report.findings]

    def expire(table: tables.Table) -> None:
        history = SnapshotHistory(lake.spark, table)
        history.expire([snapshot.id for snapshot in history.snapshots()][1:])

    lake.arrive(feed, consecutive(1, 90))
    lake.run(feed, "silver", "gold")
    assert findings() == []  # bars that are not built
    BarMaintainer(lake.spark).run()
    lake.arrive(feed, consecutive(91, 100))
    lake.run(feed, "silver", "gold")
    assert findings() == []
    named = lake.snapshots(tables.GOLD_TABLE)[1].id
    SnapshotHistory(lake.spark, tables.GOLD_TABLE).expire([named])
    (expired,) = audited()
    assert f"no bar can be judged: Gold's snapshot {named}" in expired
    assert BarMaintainer(lake.spark).run()
    assert findings() == []
    lake.sql("UPDATE {} SET close = close + 1", tables.BARS_TABLE)
    expire(tables.BARS_TABLE)
    (unnamed,) = audited()
    assert "no bar can be judged: none of its commits names a snapshot" in unnamed
    assert BarMaintainer(lake.spark).run()
    assert findings() == []
    lake.sql("DELETE FROM {}", tables.BARS_TABLE)
    expire(tables.BARS_TABLE)
    assert audited() == []  # as if they were never built
