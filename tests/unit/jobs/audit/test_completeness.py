"""The completeness of an hour, from what Spark aggregates."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from k2.jobs.audit.completeness import hours as completeness
from k2.jobs.audit.records.uniqueness import describe
from k2.schemas.channels import TRADES, Sequencing

HOUR = datetime(2026, 3, 2, 10, tzinfo=UTC)
LATER = HOUR + timedelta(hours=2)
BOOK = replace(TRADES, name="book", sequencing=Sequencing.CONNECTION, id_column="", verdict_column="side")


def row(verified: int, suspect: int, rows: int = 10, **sources: int) -> dict:
    counts = {f"source_{name}": sources.get(name, 0) for name in ("live", "snapshot", "backfill", "replay")}
    return {"symbol": "BTCUSDT", "hour": HOUR, "rows": rows, "verified": verified, "suspect": suspect, **counts}


@pytest.mark.parametrize(
    ("verified", "suspect", "state"),
    [(10, 0, "complete"), (9, 1, "incomplete"), (0, 1, "incomplete"), (9, 0, "unverifiable"), (0, 0, "unverifiable")],
)
def test_an_hour_of_a_channel_with_verdicts_has_the_worst_of_its_records(verified, suspect, state):
    hour = completeness.evaluate(row(verified, suspect), BOOK, "binance", LATER)
    assert (hour.channel, hour.state, hour.actual, hour.expected) == ("book", state, 10, None)


@pytest.mark.parametrize(
    ("seconds", "state", "problems"),
    [
        ({"verified": 3600}, "complete", None),
        ({"verified": 3599, "unverifiable": 0}, "unverifiable", None),
        ({"verified": 3599, "suspect": 1}, "incomplete", (1, 0)),
        ({"missing": 1, "unverifiable": 9}, "incomplete", (0, 1)),
        ({"missing": 1, "suspect": 9}, "incomplete", (1, 1)),
    ],
)
def test_the_time_of_an_hour_decides_before_its_records_do(seconds, state, problems):
    hour = completeness.evaluate(row(9, 1), BOOK, "binance", LATER, seconds=seconds)
    assert (hour.state, hour.seconds) == (state, seconds)
    if problems:
        findings, listed = completeness.describe_lost_time(hour)
        assert (len(findings), len(listed)) == problems


def test_an_hour_without_records_has_the_state_of_its_time():
    hour = completeness.without_rows("BTCUSDT", HOUR, BOOK, "binance", LATER, {"missing": 3600})
    assert (hour.state, hour.actual, hour.by_source) == ("incomplete", 0, {})
    listed = ["BINANCE BTCUSDT 2026-03-02T10:00Z: for 3600 s no connection recorded it or had its state"]
    assert completeness.describe_lost_time(hour) == ([], listed)


def test_an_hour_with_verdicts_is_open_until_five_minutes_after_its_end():
    end = HOUR + timedelta(hours=1, minutes=5)
    assert completeness.evaluate(row(9, 1), BOOK, "binance", end - timedelta(seconds=1)).state == "open"
    assert completeness.evaluate(row(9, 1), BOOK, "binance", end).state == "incomplete"


def test_without_ids_and_verdicts_an_hour_is_unverifiable_and_its_rows_are_counted_by_source():
    hour = completeness.evaluate(row(0, 0, live=4, backfill=1), TRADES, "bybit", LATER)
    assert (hour.state, hour.actual) == ("unverifiable", 10)
    assert hour.by_source == {"live": 4, "backfill": 1, "unknown": 5}


def test_ids_prove_completeness_only_where_channel_and_exchange_number_records():
    assert completeness.has_consecutive_ids(TRADES, "binance")
    assert not completeness.has_consecutive_ids(TRADES, "bybit")
    assert not completeness.has_consecutive_ids(BOOK, "binance")
    assert not completeness.has_consecutive_ids(replace(TRADES, verdict_column="side"), "binance")


def test_a_record_is_described_by_symbol_own_id_and_every_column_of_its_identity():
    values = {"symbol": "BTCUSDT", "trade_id": "7", "message_id": "m", "connection": "c1", "ordinal": 3}
    assert describe(TRADES, values) == "BTCUSDT record 7 (message_id m)"
    book = replace(BOOK, identity=("symbol", "connection", "ordinal"))
    assert describe(book, values) == "BTCUSDT record (connection c1, ordinal 3)"


def test_a_repaired_gap_is_contradicted_by_missing_ids_of_a_closed_hour():
    hour = completeness.HourCompleteness(
        "BINANCE", "trades", "BTCUSDT", HOUR, "1", "9", 9, 7, ((4, 5),), {"live": 7}, "incomplete"
    )
    gap = completeness.Gap("BTCUSDT", 5, 6, "repaired", "rest")
    others = [replace(gap, symbol="ETHUSDT"), replace(gap, state="unrecoverable"), replace(gap, first=6)]
    assert completeness.contradicted(hour, [gap, *others]) == [gap]
    assert completeness.contradicted(replace(hour, state="open"), [gap]) == []
    assert completeness.contradicted(replace(hour, missing=((1, 4),)), [gap]) == []
