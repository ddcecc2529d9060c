"""The `--since` option: a time, or a duration before now. Independent of Spark."""

from datetime import UTC, datetime, timedelta

from k2.schemas.values import seconds


def parse_since(text: str, now: datetime) -> datetime:
    """Parse a time (UTC unless it has a zone) or a duration before `now`. Raises ValueError."""
    try:
        if not text[-1:].isdigit() and text[-1:] not in {"Z", "z"}:
            return now - timedelta(seconds=seconds(text))
        time = datetime.fromisoformat(text)
    except (ValueError, OverflowError) as error:
        raise ValueError(
            f"--since {text!r} is not a time or a duration; write 2026-03-01, 2026-03-01T10:00:00Z or 26h"
        ) from error
    return time if time.tzinfo else time.replace(tzinfo=UTC)
