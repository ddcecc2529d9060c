"""The incremental audit: what it finds and appends is what an audit of everything does."""

from datetime import timedelta

import pytest

from k2.jobs.audit import compaction, runner
from k2.schemas import tables
from k2.schemas.channels import TRADES
from tests.spark.audit.test_audit import fill
from tests.spark.builders import HOUR, Lake, consecutive, trade
from tests.spark.saved_lakes import point, prepared, rows

pytestmark = pytest.mark.spark

GOLD = tables.GOLD_TABLE
START = HOUR + timedelta(hours=4)


def _verdicts(lake: Lake) -> list[tuple]:
    return sorted(map(str, lake.table(tables.COMPLETENESS_TABLE).collect()))


def _audited(lake: Lake, minutes: int) -> tuple[list, str]:
    """Return the findings of an incremental audit, which are those of a whole one, and from when on it judged."""
    before, now = rows(lake), START + timedelta(minutes=minutes)
    whole = runner.audit(lake.spark, lake.platform, now=now)
    appended = _verdicts(lake)
    point(lake, before)
    report = runner.audit(lake.spark, lake.platform, now=now, incremental=True)
    assert report.findings == whole.findings
    assert _verdicts(lake) == appended
    return report.findings, report.exchanges["BINANCE"]["trades"].judged_since


def test_an_incremental_audit_equals_a_whole_one_whatever_was_touched(lake: Lake):
    feed = prepared(lake, fill)
    assert _audited(lake, 0) == ([], "")  # there was none before
    third = HOUR + timedelta(hours=2)
    lake.arrive(feed, [trade(number, third + timedelta(seconds=number)) for number in range(11, 15)])
    lake.run(feed, "silver", "gold")
    findings, since = _audited(lake, 1)
    assert (findings, since) == ([], "2026-03-02T12:00:00Z")
    lake.arrive(feed, [*consecutive(3, 4), trade(15, HOUR + timedelta(minutes=9))])
    lake.run(feed, "silver", "gold")
    findings, since = _audited(lake, 2)
    assert since == "2026-03-02T10:00:00Z"
    for table in (TRADES.silver("binance"), GOLD):
        options = f"table => '{table.identifier}', options => map('rewrite-all', 'true')"
        lake.spark.sql(f"CALL lake.system.rewrite_data_files({options})").collect()
    assert _audited(lake, 3)[0] == findings
    before = rows(lake)
    lake.sql("UPDATE {} SET price = price * 10 WHERE trade_id = '4'", GOLD)
    changed, _ = _audited(lake, 4)
    assert {"gold_changed", "gold_mismatch"} <= {finding.check for finding in changed}
    assert _audited(lake, 5)[0] == changed  # the finding stays
    point(lake, before)
    assert _audited(lake, 6)[0] == findings


@pytest.mark.slow
def test_the_audit_compacts_its_tables_and_judges_nothing_again_for_it(lake: Lake, monkeypatch: pytest.MonkeyPatch):
    feed = prepared(lake, fill)
    for minute in range(3):
        _new_trade(lake, feed, 11 + minute)
        assert runner.audit(lake.spark, lake.platform, now=START + timedelta(minutes=minute)).findings == []
    assert _files(lake) == 3
    verdicts = _verdicts(lake)
    monkeypatch.setattr(compaction, "_OPEN", 3)
    monkeypatch.setattr(compaction, "_CLOSED", 3)
    report = runner.audit(lake.spark, lake.platform, now=START + timedelta(minutes=4), incremental=True)
    assert report.findings == []
    assert set(verdicts) <= set(_verdicts(lake))
    assert _files(lake) == 1
    report = runner.audit(lake.spark, lake.platform, now=START + timedelta(minutes=5), incremental=True)
    assert (report.findings, report.exchanges["BINANCE"]["trades"].judged_since) == ([], "2026-03-02T12:00:00Z")
    assert runner.audit(lake.spark, lake.platform, now=START + timedelta(minutes=6)).findings == []
    lake.sql(
        "UPDATE {} SET actual = actual + 1 WHERE hour = TIMESTAMP '2026-03-02 10:00:00'", tables.COMPLETENESS_TABLE
    )
    changed = runner.audit(lake.spark, lake.platform, now=START + timedelta(minutes=7), incremental=True)
    assert "verdict_changed" in {finding.check for finding in changed.findings}


def _new_trade(lake: Lake, feed, number: int) -> None:
    lake.arrive(feed, [trade(number, HOUR + timedelta(hours=2, seconds=number))])
    lake.run(feed, "silver", "gold")


def _files(lake: Lake) -> int:
    return lake.spark.table(f"{tables.COMPLETENESS_TABLE.identifier}.files").count()
