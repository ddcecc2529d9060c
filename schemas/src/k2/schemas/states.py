"""States that parts exchange by name: of gaps, hours, verdicts, the circuit breaker and streaming queries."""

from enum import StrEnum
from typing import Final

# The resolution of a gap in state `never_issued` of which some ids came.
REVOKED_IN_PART: Final = "rest: never issued, but for ids that came after all"


class GapState(StrEnum):
    """The state of a gap, in gap events and in the table `audit_gaps`."""

    OPEN = "open"
    REPAIRED = "repaired"
    NEVER_ISSUED = (
        "never_issued"  # the exchange's history proves that it skipped the ids; revoked if they come after all
    )
    UNRECOVERABLE = "unrecoverable"


class GapReason(StrEnum):
    """Why a gap was given up, in gap events. All but the last four follow from an answer of the exchange."""

    UNKNOWN_SYMBOL = "unknown_symbol"  # the exchange does not know the symbol
    BAD_REQUEST = "bad_request"  # the exchange rejects the request itself
    OUT_OF_HISTORY = "out_of_history"  # the exchange's history begins after the gap
    MAX_AGE = "max_age"  # spec.ingest.backfill.maxAge
    MAX_IDS = "max_ids"  # spec.ingest.backfill.maxIds
    DISABLED = "disabled"  # spec.ingest.backfill.enabled
    NO_HISTORY = "no_history"  # the exchange has no history of the channel


class HourState(StrEnum):
    """The completeness of an hour of a symbol, in the table `audit_completeness`."""

    OPEN = "open"  # the hour is not over, or a gap is still being repaired
    COMPLETE = "complete"
    INCOMPLETE = "incomplete"
    UNVERIFIABLE = "unverifiable"  # the exchange's ids are not consecutive


class Cause(StrEnum):
    """Why a verdict on an hour was written, in the table `audit_completeness`."""

    FIRST = "first"
    OPEN = "open"  # the hour is not over, and more came
    CLOSED = "closed"  # the verdict before was on an open hour
    LATE = "late"  # records came after the verdict before
    REPAIRED = "repaired"  # records came out of the exchange's history
    REDRIVEN = "redriven"  # dead letters turned out to be valid records
    NEVER_ISSUED = "never_issued"  # ids turned out to be skipped by the exchange
    REVOKED = "revoked"  # ids that counted as skipped came, or lost their evidence
    REBUILT = "rebuilt"  # the layer was built again, and has other rows
    REJUDGED = "rejudged"  # the same rows gave another result


class RebuildState(StrEnum):
    """How far a rebuild is that a feed's `rebuildNonce` asked for, in its status."""

    PENDING = "Pending"  # what writes Silver and Gold is stopping
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


class Verdict(StrEnum):
    """An adapter's verdict on the continuity of a record within its connection; the best first."""

    VERIFIED = "verified"  # the exchange's ids or checksums prove it
    UNVERIFIABLE = "unverifiable"  # the exchange sends nothing that could prove it
    SUSPECT = "suspect"  # they contradict it


class CircuitState(StrEnum):
    """The state of the circuit breaker between socket and Kafka, in `/status`."""

    CLOSED = "closed"
    HALF_OPEN = "half-open"
    OPEN = "open"


class QueryState(StrEnum):
    """The state of a layer's streaming query, in `/status`."""

    STARTING = "STARTING"
    WAITING = "WAITING"  # for its input or a service; it is retried
    RUNNING = "RUNNING"
    FAILED = "FAILED"  # it is retried
    DRAINED = "DRAINED"  # all input was processed, as requested


class SymbolState(StrEnum):
    """State of one wanted symbol of a feed. Only `flowing` is proved by data."""

    PENDING = "wanted"  # not subscribed yet
    SENT = "sent"  # the request is not answered yet
    ACKNOWLEDGED = "acknowledged"  # no record came yet
    FLOWING = "flowing"
    QUIET = "quiet"  # no record for longer than usual; the exchange's REST API has none either, or was not asked yet
    SILENT = "silent"  # the REST API has newer records than came
    UNANSWERED = "unanswered"  # no answer to several requests
    REFUSED = "refused"
