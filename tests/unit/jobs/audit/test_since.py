"""The `--since` option of the audit."""

from datetime import UTC, datetime, timedelta

import pytest

from k2.jobs.audit.since import parse_since

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
def test_since_is_a_time_or_a_duration_before_now(text, expected):
    assert parse_since(text, NOW) == expected


@pytest.mark.parametrize("text", ["yesterday", "26", "26 hours", "-1h", ""])
def test_an_invalid_since_is_rejected_with_examples(text):
    with pytest.raises(ValueError, match="26h"):
        parse_since(text, NOW)
