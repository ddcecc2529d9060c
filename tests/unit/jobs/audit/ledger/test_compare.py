"""Rows of the ledger against the commits that they were copied from."""

from datetime import UTC, datetime
from typing import Any

import pytest

from k2.jobs.audit.ledger.compare import differences

AT = datetime(2026, 3, 2, 10, tzinfo=UTC)


def _row(epoch: int, **changes: Any) -> dict[str, Any]:
    ranges = [{"topic": "t", "partition": 0, "first": epoch * 10, "last": epoch * 10 + 9}]
    row = {
        "layer": "bronze", "query_id": "q", "epoch": epoch, "offset_ranges": ranges, "rows_in": 10, "rows_out": 10,
        "dead_letters": 0, "duplicates_dropped": 0, "snapshot_id": 100 + epoch, "started_at": AT, "committed_at": AT,
        "topic_id": "x",
    }  # fmt: skip
    return row | changes


def test_rows_that_are_copies_have_no_problem_nor_has_a_commit_that_is_not_copied_yet():
    commits = [_row(2), _row(1), _row(0)]
    assert list(differences([_row(0), _row(1)], commits)) == []
    assert list(differences([], commits)) == []


def test_a_row_that_an_older_release_copied_has_no_topic_id():
    assert list(differences([_row(0, topic_id=None)], [_row(0)])) == []


def test_times_are_compared_by_their_microseconds():
    micros = 1_772_445_600_000_000
    assert list(differences([_row(0, started_at=micros, committed_at=micros)], [_row(0)])) == []
    (problem,) = differences([_row(0, committed_at=micros + 1)], [_row(0)])
    assert (problem.check, problem.at) == ("ledger_changed", micros)


@pytest.mark.parametrize(
    ("rows", "check", "text"),
    [
        ([_row(0), _row(2)], "ledger_missing", "the row of bronze epoch 1, snapshot 101, is missing"),
        ([_row(0), _row(0)], "ledger_duplicate", "the row of bronze epoch 0 is there 2 times"),
        ([_row(0, rows_in=11)], "ledger_changed", "the row of bronze epoch 0: rows_in is 11 instead of 10"),
        ([_row(0, topic_id="y")], "ledger_changed", "the row of bronze epoch 0: topic_id is y instead of x"),
        ([_row(0, offset_ranges=[])], "ledger_changed",
         "the row of bronze epoch 0: offset_ranges is  instead of t/0 0 to 9"),
        ([_row(1), _row(0), _row(2), _row(3)], "commit_missing",
         "the row of bronze epoch 3 names snapshot 103, which its table does not have"),
    ],
)  # fmt: skip
def test_a_row_that_is_wrong_is_named(rows: list[dict[str, Any]], check: str, text: str):
    (problem,) = differences(rows, [_row(2), _row(1), _row(0)])
    assert (problem.check, problem.text) == (check, text)


def test_rows_of_a_query_that_made_no_retained_commit_say_nothing():
    assert list(differences([_row(7, query_id="older")], [_row(0)])) == []
