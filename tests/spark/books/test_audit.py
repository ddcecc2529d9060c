"""The audit of quotes and books: time by verdict, and whatever is changed, deleted or added is found where it is."""

from datetime import timedelta

import pytest

from k2.jobs.audit import runner
from k2.jobs.commit.commit_log import CommitLog
from k2.schemas import tables
from k2.schemas.channels import BOOK, QUOTES
from k2.schemas.states import Verdict
from tests.spark.books.lake import LATER, SECOND, Books, books, checks, delta, quote
from tests.spark.builders import HOUR, Lake
from tests.spark.saved_lakes import prepared

pytestmark = pytest.mark.spark

NEXT, AFTER = HOUR + timedelta(hours=1), HOUR + timedelta(hours=2)
SUSPECT = Verdict.SUSPECT


def _fill(lake: Lake) -> Books:
    """Two hours of a book on two connections, of which one loses messages, and an hour of quotes; all are judged."""
    filled = books(lake)
    filled.arrive(
        *(delta(number, HOUR + timedelta(seconds=60 * number)) for number in range(11)),
        delta(11, HOUR + timedelta(seconds=700), verdict=SUSPECT),
        delta(12, HOUR + timedelta(seconds=720)),
        delta(13, AFTER - timedelta(seconds=90)),
        delta(1, HOUR + timedelta(seconds=710), connection=SECOND),
        delta(2, HOUR + timedelta(seconds=715), connection=SECOND),
        # It has its first state after ten seconds, in which another connection is there, too.
        delta(1, AFTER - timedelta(seconds=100), connection="c3", verdict=SUSPECT),
        delta(2, AFTER - timedelta(seconds=80), connection="c3", verdict=SUSPECT),
        delta(3, AFTER - timedelta(seconds=30), connection="c3"),
        delta(4, AFTER + timedelta(seconds=10), connection="c3"),
    )
    filled.arrive(*(quote(number) for number in range(1, 6)), channel=QUOTES)
    filled.run()
    CommitLog(lake.spark, [filled.feed], [BOOK, QUOTES]).record()
    assert checks(filled.audit()) == [("book", "suspect_records")]
    return filled


def _filled(lake: Lake) -> Books:
    """Return what `_fill` makes, of which the first audit has judged every hour."""
    made = prepared(lake, _fill)
    return Books(lake, made.feed, made.encoders)


def test_the_ledger_has_the_seconds_of_each_hour_by_verdict_and_a_later_audit_repeats_its_findings(lake: Lake):
    filled = _filled(lake)
    rows = lake.table(tables.COMPLETENESS_TABLE).orderBy("channel", "hour").collect()
    assert [(row["channel"], row["hour"].hour, row["state"], row["actual"]) for row in rows] == [
        ("book", 10, "incomplete", 15), ("book", 11, "incomplete", 4), ("book", 12, "complete", 1),
        ("quotes", 10, "unverifiable", 5),
    ]  # fmt: skip
    # The other connection covers five of the seconds that are suspect on the first.
    assert rows[0]["seconds"] == {"verified": 600 + 5 + 2880, "suspect": 100 + 10 + 5, "silence": 100}
    assert rows[1]["seconds"] == {"verified": 3510 + 30, "missing": 60, "silence": 6380}
    assert rows[2]["seconds"] == {"verified": 10, "silence": 40}
    assert rows[3]["seconds"] == {"unverifiable": 240, "silence": 60}
    again = filled.audit(now=LATER + timedelta(minutes=1), incremental=True)
    assert checks(again) == [("book", "suspect_records")]
    # Missing time is listed, and is no finding.
    assert again.exchanges["BINANCE"]["book"].missing_time == [
        "BINANCE BTCUSDT 2026-03-02T11:00Z: for 60 s no connection recorded it or had its state"
    ]
    assert again.exchanges["BINANCE"]["book"].judged_since
    assert {row["revision"] for row in lake.table(tables.COMPLETENESS_TABLE).collect()} == {1}


def test_a_row_that_is_altered_deleted_or_added_is_found_in_its_table_and_hour(lake: Lake):
    _filled(lake)
    lake.sql("UPDATE {} SET asks = array(named_struct('price', 1L, 'quantity', 1L)) WHERE ordinal = 5", BOOK.gold)
    lake.sql("INSERT INTO {0} SELECT * FROM {0} WHERE ordinal = 13", BOOK.gold)
    lake.sql("UPDATE {} SET bid_quantity = NULL WHERE ordinal = 2", QUOTES.gold)
    lake.sql("DELETE FROM {} WHERE ordinal = 3", QUOTES.gold)
    report = runner.audit(lake.spark, lake.platform, channels=[QUOTES, BOOK], now=LATER + timedelta(minutes=1))
    places = {(one.check, one.table, one.hour) for one in report.findings}
    book, quotes, first, second = BOOK.gold.name, QUOTES.gold.name, "2026-03-02T10:00Z", "2026-03-02T11:00Z"
    assert places == {
        ("gold_changed", book, first), ("gold_mismatch", book, first),
        ("gold_changed", book, second), ("gold_duplicate", book, second),
        ("gold_changed", quotes, first), ("gold_mismatch", quotes, first), ("gold_missing", quotes, first),
        ("suspect_records", book, first),
    }  # fmt: skip
    texts = [one.text for one in report.findings if one.check == "gold_mismatch"]
    assert any("bid_quantity null in Gold, and bid_quantity 15" in text for text in texts)
    assert any("ordinal 5" in text and "asks [" in text for text in texts)
