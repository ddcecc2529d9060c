"""A verdict: what an audit knew of one hour of a symbol, with digests of the layers' rows. Independent of Spark.

Verdicts of a symbol form a chain: each names the hash of the one that was written before it. None is ever rewritten.
When an hour changes, a revision is appended that names its cause.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from k2.jobs.audit.completeness.hours import OPEN, HourCompleteness
from k2.schemas.digests import VERDICT, Digest, row_hash
from k2.schemas.records.trade import Source
from k2.schemas.states import Cause
from k2.schemas.values import to_micros

OffsetRange = tuple[str, int, int, int]  # topic, partition, first and last offset, both inclusive
Hour = tuple[str, int]  # a symbol, and the start of an hour in UTC microseconds

BRONZE: Final = "bronze"
SILVER: Final = "silver"
GOLD: Final = "gold"
LEAVES: Final = "leaves"
DIGESTS: Final = (BRONZE, SILVER, GOLD, LEAVES)

_JUDGED: Final = (
    "first_id",
    "last_id",
    "expected",
    "actual",
    "missing",
    "never_issued",
    "by_source",
    "state",
    "seconds",
)


@dataclass(frozen=True, slots=True)
class LayerDigests:
    """The digests of an hour's rows by layer, those of Gold's leaves, and the offsets of Bronze's and Silver's rows."""

    digests: Mapping[str, Digest] = field(default_factory=dict)
    offsets: tuple[OffsetRange, ...] = ()

    def of(self, layer: str) -> Digest:
        """Return the digest of a layer's rows; that of no rows if there are none."""
        return self.digests.get(layer, Digest())


def new_row(hour: HourCompleteness, layers: LayerDigests, gold_snapshot: int | None, checked_at: int) -> dict[str, Any]:
    """Return a row of audit_completeness without its place in the chain. Times are UTC microseconds."""
    return {
        "exchange": hour.exchange, "symbol": hour.symbol, "channel": hour.channel, "hour": to_micros(hour.hour),
        "first_id": hour.first_id, "last_id": hour.last_id, "expected": hour.expected, "actual": hour.actual,
        "missing": _id_ranges(hour.missing), "never_issued": _id_ranges(hour.never_issued),
        "by_source": dict(hour.by_source), "state": hour.state, "gold_snapshot_id": gold_snapshot,
        "seconds": dict(hour.seconds) or None, "checked_at": checked_at,
        "offsets": [_offsets(one) for one in layers.offsets],
        **{f"digest_{layer}": str(layers.of(layer)) for layer in DIGESTS},
    }  # fmt: skip


def with_digests_of(before: Mapping[str, Any], row: Mapping[str, Any], layers: Iterable[str]) -> dict[str, Any]:
    """Return a row with the digests of some layers, and the offsets that belong to them, from an earlier verdict."""
    names = [f"digest_{layer}" for layer in layers]
    return {**row, **{name: before[name] for name in (*names, *(["offsets"] if names else ()))}}


def _id_ranges(ranges: Iterable[tuple[int, int]]) -> list[dict[str, str]]:
    return [{"first_id": str(first), "last_id": str(last)} for first, last in ranges]


def _offsets(one: OffsetRange) -> dict[str, Any]:
    return dict(zip(("topic", "partition", "first", "last"), one, strict=True))


def verdict_hash(row: Mapping[str, Any]) -> str:
    """Return the hash of a row of audit_completeness, which the next verdict of its symbol names."""
    texts = {
        "missing": _text(row["missing"]),
        "never_issued": _text(row["never_issued"]),
        "offsets": _text(row["offsets"]),
        "by_source": {source: str(count) for source, count in row["by_source"].items()},
        "seconds": row["seconds"] and {verdict: str(count) for verdict, count in row["seconds"].items()},
    }
    return row_hash(VERDICT, {name: texts.get(name, row[name]) for name in HASHED}).hex()


HASHED: Final = (
    "exchange", "symbol", "channel", "hour", "first_id", "last_id", "expected", "actual", "missing", "never_issued",
    "by_source", "state", "gold_snapshot_id", "checked_at", "revision", "cause", "offsets", "digest_bronze",
    "digest_silver", "digest_gold", "digest_leaves", "previous_digest", "seconds",
)  # fmt: skip


def _text(ranges: Iterable[Mapping[str, Any]]) -> str:
    return ",".join("/".join(str(value) for value in one.values()) for one in ranges)


def agrees(earlier: Mapping[str, Any], row: Mapping[str, Any]) -> bool:
    """Return whether two rows say the same about their hour, whenever they were written."""
    return all(earlier[name] == row[name] for name in (*_JUDGED, *(f"digest_{layer}" for layer in DIGESTS)))


def cause(earlier: Mapping[str, Any] | None, row: Mapping[str, Any]) -> Cause | None:
    """Return why an hour needs another verdict after `earlier`; None if it does not."""
    if earlier is None:
        return Cause.FIRST
    digests = [f"digest_{layer}" for layer in DIGESTS]
    if agrees(earlier, row):
        return None
    if earlier["state"] == OPEN:
        return Cause.OPEN if row["state"] == OPEN else Cause.CLOSED
    if _ids(earlier["never_issued"]) != _ids(row["never_issued"]):
        return Cause.NEVER_ISSUED if len(row["never_issued"]) >= len(earlier["never_issued"]) else Cause.REVOKED
    if any(Digest.parse(row[name]).rows > Digest.parse(earlier[name]).rows for name in digests):
        return _of_more_rows(earlier, row)
    return Cause.REJUDGED


def _of_more_rows(earlier: Mapping[str, Any], row: Mapping[str, Any]) -> Cause:
    if not _reaches_beyond(row, earlier):
        return Cause.REDRIVEN
    backfill = Source.BACKFILL.value
    repaired = row["by_source"].get(backfill, 0) > earlier["by_source"].get(backfill, 0)
    return Cause.REPAIRED if repaired else Cause.LATE


def _reaches_beyond(row: Mapping[str, Any], earlier: Mapping[str, Any]) -> bool:
    """Whether Kafka has sent something since: dead letters that turn out to be valid have offsets of before."""
    ends = {(one["topic"], one["partition"]): one["last"] for one in earlier["offsets"]}
    return any(one["last"] > ends.get((one["topic"], one["partition"]), -1) for one in row["offsets"])


def _ids(ranges: Iterable[Mapping[str, str]]) -> list[tuple[str, str]]:
    return [(one["first_id"], one["last_id"]) for one in ranges]


def is_sound(row: Mapping[str, Any]) -> bool:
    """Whether a row has the values that every verdict has."""
    try:
        for layer in DIGESTS:
            Digest.parse(row[f"digest_{layer}"])
    except (ValueError, AttributeError):
        return False
    return all(row[name] is not None for name in ("missing", "never_issued", "by_source", "offsets", "state"))


@dataclass(frozen=True, slots=True)
class Change:
    """Rows of a closed hour in a layer that are not those of its verdict."""

    layer: str
    symbol: str
    hour: int
    verdict: Mapping[str, Any]
    then: Digest
    now: Digest

    @property
    def text(self) -> str:
        """What differs, for people."""
        if self.now.rows == self.then.rows:
            return f"{self.now.rows} rows with other values than in verdict {self.verdict['revision']}"
        return f"{self.now.rows} rows, and {self.then.rows} in verdict {self.verdict['revision']}"


def changes(
    verdicts: Iterable[Mapping[str, Any]], now: Mapping[Hour, LayerDigests], comparable: Mapping[str, int]
) -> list[Change]:
    """Return the changes since some verdicts on closed hours, those by late rows included.

    `comparable` are the layers to compare, each with the first hour that retention has left alone.
    """
    return [
        Change(layer, verdict["symbol"], verdict["hour"], verdict, then, current)
        for verdict in verdicts
        if verdict["state"] != OPEN
        for layer, first in comparable.items()
        if verdict["hour"] >= first
        and (then := Digest.parse(verdict[f"digest_{layer}"]))
        != (current := now.get((verdict["symbol"], verdict["hour"]), LayerDigests()).of(layer))
    ]
