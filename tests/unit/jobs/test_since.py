"""`--since` of the audit, and which failures are another writer's commit."""

from datetime import UTC, datetime, timedelta

import pytest
from py4j.protocol import Py4JError

from k2.jobs.audit.runner import moment
from k2.jobs.commit import retry

NOW = datetime(2026, 3, 2, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("26h", NOW - timedelta(hours=26)),
        ("7d", NOW - timedelta(days=7)),
        ("2026-03-01", datetime(2026, 3, 1, tzinfo=UTC)),
        ("2026-03-01T10:00:00Z", datetime(2026, 3, 1, 10, tzinfo=UTC)),
        ("2026-03-01T10:00:00+02:00", datetime(2026, 3, 1, 8, tzinfo=UTC)),
    ],
)
def test_since_is_a_time_or_how_long_ago_it_was(text, expected):
    assert moment(text, NOW) == expected


@pytest.mark.parametrize("text", ["yesterday", "26", "26 hours", "-1h", ""])
def test_another_since_is_refused_with_what_to_write(text):
    with pytest.raises(ValueError, match="26h"):
        moment(text, NOW)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(retry.time, "sleep", lambda _: None)


def _failing(times: int, words: str):
    tries = []

    def act() -> int:
        tries.append(1)
        if len(tries) <= times:
            raise Py4JError(words)
        return len(tries)

    return act, tries


@pytest.mark.usefixtures("quick")
def test_a_commit_that_another_beat_is_made_again():
    act, _ = _failing(3, "org.apache.iceberg.exceptions.ValidationException: Found conflicting files")
    assert retry.until_won(act) == 4


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("words", "tries"), [("no space left", 1), ("CommitFailedException", 10)])
def test_another_failure_is_told_at_once_and_a_lost_commit_in_the_end(words, tries):
    act, made = _failing(100, words)
    with pytest.raises(Py4JError, match=words):
        retry.until_won(act)
    assert len(made) == tries
