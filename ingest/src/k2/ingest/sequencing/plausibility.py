"""Which ids and times of a record can be true, so that a wrong one does not decide about those after it. Pure.

All times are in UTC microseconds.
"""

from typing import Final

from k2.schemas.channels import Record

MOST_AHEAD: Final = 60_000_000  # microseconds; how far clocks may differ. Silver rejects times further ahead

_IDS_PER_SECOND: Final = 10_000  # of one symbol; far above what the busiest ones trade
_SLACK: Final = 10_000  # ids; times are coarse, and a burst is no matter of rate


def too_far(ids: int, elapsed: int) -> bool:
    """Return whether a symbol cannot have used up so many ids in `elapsed` microseconds."""
    return ids > _SLACK + max(0, elapsed) * _IDS_PER_SECOND // 1_000_000


def exchange_time(record: Record) -> int:
    """Return the exchange's time of a record; when it was received, if that time lies far ahead of it."""
    received = record.ingestion_timestamp
    return record.timestamp if record.timestamp <= received + MOST_AHEAD else received
