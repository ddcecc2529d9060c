"""The repair policy of a feed: which gaps it asks for. Pure."""

from dataclasses import dataclass

from k2.ingest.exchanges.base import Gap
from k2.schemas.states import GapReason


@dataclass(frozen=True, slots=True)
class Policy:
    """The repair policy of a feed, `spec.ingest.backfill`. `max_age` is in seconds; 0 `max_ids` are any number."""

    enabled: bool
    max_age: float
    max_ids: int = 0

    def exclusion(self, gap: Gap, now: int) -> tuple[GapReason, str] | None:
        """Return why a gap is not asked for; None if it is. `now` is in UTC microseconds.

        How far apart the records around a gap are says nothing: between two trades of a quiet symbol lie hours.
        """
        if not self.enabled:
            return GapReason.DISABLED, "backfill is disabled"
        if now - gap.until > self.max_age * 1e6:
            return GapReason.MAX_AGE, "older than spec.ingest.backfill.maxAge"
        if self.max_ids and not gap.is_window and gap.last_id - gap.first_id + 1 > self.max_ids:
            return GapReason.MAX_IDS, "more ids than spec.ingest.backfill.maxIds"
        return None
