"""Retries of commits that lost a conflict with another writer."""

import pytest
from py4j.protocol import Py4JError

from k2.jobs.commit import retry


def _failing(times: int, message: str):
    attempts = []

    def commit() -> int:
        attempts.append(1)
        if len(attempts) <= times:
            raise Py4JError(message)
        return len(attempts)

    return commit, attempts


@pytest.mark.usefixtures("no_waits")
def test_a_commit_that_lost_a_conflict_is_retried():
    commit, _ = _failing(3, "org.apache.iceberg.exceptions.ValidationException: Found conflicting files")
    assert retry.retry_on_conflict(commit) == 4


@pytest.mark.usefixtures("no_waits")
@pytest.mark.parametrize(("message", "expected"), [("no space left", 1), ("CommitFailedException", 10)])
def test_other_errors_are_raised_at_once_and_conflicts_after_ten_attempts(message, expected):
    commit, attempts = _failing(100, message)
    with pytest.raises(Py4JError, match=message):
        retry.retry_on_conflict(commit)
    assert len(attempts) == expected
