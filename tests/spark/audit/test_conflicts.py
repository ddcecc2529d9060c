"""The audit reports conflicts: those that Silver rejected, and those that it could not see."""

import json
from datetime import timedelta

import pytest

from k2.jobs.audit import runner
from k2.jobs.maintenance.runner import Maintenance
from k2.schemas import tables
from k2.schemas.channels import TRADES
from k2.schemas.values import to_micros
from tests.spark.builders import HOUR, Lake, consecutive, trade

pytestmark = pytest.mark.spark

TOPIC = "market.crypto.trades.binance"
LATER = HOUR + timedelta(hours=2)
UNIT = 10**12


def _audit(lake: Lake, now=LATER, **options):
    return runner.audit(lake.spark, lake.platform, now=now, **options)


def _checks(report) -> list[str]:
    return [finding.check for finding in report.findings]


def test_a_rejected_conflict_is_a_finding_and_the_lake_equals_its_rebuild(lake: Lake):
    """Several batches, with a conflict within one and across two; the rebuild judges all rows at once."""
    feed = lake.feed()
    lake.arrive(feed, [*consecutive(1, 3), trade(3, price=UNIT)])
    lake.run(feed, "silver", "gold")
    lake.arrive(feed, [trade(2, quantity=UNIT), trade(1), *consecutive(4, 5)])
    lake.run(feed, "silver", "gold")
    report = _audit(lake, rebuild=True)
    assert _checks(report) == ["id_conflict", "id_conflict"]
    assert f"dead letter ID_CONFLICT at {TOPIC}/0 offset 3: message_id " in report.findings[0].text
    assert report.findings[1].text.endswith(f"quantity 1 instead of 0.02; the first copy is at {TOPIC}/0 offset 1")
    numbers = report.exchanges["BINANCE"]["trades"]
    assert numbers.rows == {"bronze": 8, "silver": 6, "dead_letters": 2, "gold": 5}
    assert numbers.dead_letters == {"ID_CONFLICT": 2}
    assert (numbers.duplicates, numbers.rebuilt) == (1, {"silver": 6, "dead_letters": 2, "gold": 5})
    assert "id_conflict: dead letter ID_CONFLICT at" in report.text()
    document = json.loads(report.json())
    assert document["verdict"] == "findings"
    assert {finding["check"] for finding in document["findings"]} == {"id_conflict"}


def test_a_conflict_with_what_only_gold_holds_is_rejected_and_the_rebuild_agrees(lake: Lake):
    feed = lake.feed()
    lake.arrive(feed, [trade(5)])
    lake.run(feed, "silver", "gold")
    now = HOUR + timedelta(days=40)
    assert Maintenance(lake.spark, lake.platform, [feed]).run(now=now, orphans=False)["errors"] == []
    lake.arrive(feed, [trade(5, price=UNIT, ingestion_timestamp=to_micros(now)), trade(6, now)])
    lake.run(feed, "silver", "gold")
    report = _audit(lake, now=now + timedelta(hours=2), rebuild=True)
    assert _checks(report) == ["id_conflict"]
    assert "gold_crypto_trades of 2026-03-02, hour 10" in report.findings[0].text
    assert report.exchanges["BINANCE"]["trades"].rebuilt == {"silver": 1, "dead_letters": 1, "gold": 1}


def test_what_silver_could_not_know_is_found_with_both_contents(lake: Lake):
    """Silver lost the first copy without a trace, so Gold drops the second as a duplicate: the audit names both."""
    feed = lake.feed()
    lake.arrive(feed, [trade(5)])
    lake.run(feed, "silver", "gold")
    lake.sql("DELETE FROM {}", TRADES.silver("binance"))
    lake.arrive(feed, [trade(5, price=UNIT)])
    lake.run(feed, "silver", "gold")
    assert lake.gold.count() == 1
    (conflict,) = [finding for finding in _audit(lake).findings if finding.check == "id_conflict"]
    assert conflict.text == (
        f"BTCUSDT record 5 (message_id {trade(5).message_id}) has other content in another copy: gold_crypto_trades "
        f"of 2026-03-02, hour 10 has price 61837.63; {TOPIC}/0 offset 1 has price 1"
    )


@pytest.mark.parametrize("gold_runs", [1, 2])
def test_copies_whose_times_are_far_apart_are_found(lake: Lake, gold_runs: int):
    feed, apart = lake.feed(), timedelta(hours=1)
    lake.arrive(feed, [trade(5)])
    lake.run(feed, "silver", *["gold"] * (gold_runs - 1))
    lake.arrive(feed, [trade(5, HOUR + apart)])
    lake.run(feed, "silver", "gold")
    report = _audit(lake, now=LATER + apart)
    texts = [finding.text for finding in report.findings if finding.check == "id_conflict"]
    assert len(texts) == 1
    assert "has time 2026-03-02T10:00:05.000000Z; " in texts[0]
    assert "has time 2026-03-02T11:00:00.000000Z" in texts[0]


def test_a_precise_and_a_coarse_time_are_no_finding(lake: Lake):
    feed, at = lake.feed(), to_micros(HOUR)
    lake.arrive(feed, [trade(5, timestamp=at + 123_456), trade(6)])
    lake.run(feed, "silver", "gold")
    lake.arrive(feed, [trade(5, timestamp=at + 123_000), trade(6)])
    lake.run(feed, "silver", "gold")
    report = _audit(lake, rebuild=True)
    assert report.findings == []
    assert report.exchanges["BINANCE"]["trades"].duplicates == 2
    assert lake.table(tables.DEAD_LETTERS_TABLE).count() == 0
