"""Ids that an exchange never issued: what the verdicts in audit_gaps rest on, and which of them came after all."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.common.ranges import Range
from k2.jobs.audit.completeness.hours import Gap
from k2.jobs.spark.local_frames import local_frame
from k2.schemas.channels import Channel
from k2.schemas.states import REVOKED_IN_PART, GapState

_MOST_ARRIVED: Final = 1000


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with the evidence of a gap: the check, and a description."""

    check: str
    text: str


def stored(evidence: DataFrame) -> dict[str, bool]:
    """Return the ids of all stored answers of an exchange, and whether each body has the hash that is its id."""
    hashed = evidence.select("evidence_id", (F.sha2("body", 256) == F.col("evidence_id")).alias("intact"))
    rows = hashed.groupBy("evidence_id").agg(F.bool_and(F.coalesce("intact", F.lit(False))).alias("intact")).collect()
    return {row["evidence_id"]: row["intact"] for row in rows}


def problem(gap: Gap, evidence: Mapping[str, bool]) -> Problem | None:
    """Return what is wrong with the evidence of a verdict. Gaps in other states need none."""
    if gap.state != GapState.NEVER_ISSUED:
        return None
    ids = f"ids of {gap.first} to {gap.last} are listed as never issued"
    if not gap.evidence:
        return Problem("evidence_missing", f"{ids} without evidence")
    if absent := [key for key in gap.evidence if key not in evidence]:
        return Problem("evidence_missing", f"{ids}, but audit_evidence lacks {', '.join(absent)}")
    if changed := [key for key in gap.evidence if not evidence[key]]:
        return Problem("evidence_mismatch", f"{ids}, but the body of {', '.join(changed)} has another hash")
    return None


def by_symbol(gaps: Iterable[Gap]) -> dict[str, list[Range]]:
    """Return the ids of verdicts by symbol."""
    ranges: dict[str, list[Range]] = {}
    for gap in gaps:
        ranges.setdefault(gap.symbol, []).extend(gap.missing or [(gap.first, gap.last)])
    return ranges


def revoked(gaps: Iterable[Gap]) -> Iterator[str]:
    """Yield texts about verdicts that the ingest has revoked, since ids came after all."""
    for gap in gaps:
        if gap.state == GapState.REPAIRED and gap.evidence:
            yield f"{gap.symbol}: all of the gap {gap.first} to {gap.last}"
        elif gap.state == GapState.NEVER_ISSUED and gap.resolution == REVOKED_IN_PART:
            yield f"{gap.symbol}: some of the gap {gap.first} to {gap.last}"


def arrived(
    spark: SparkSession, gold: DataFrame, channel: Channel, ranges: Mapping[str, Sequence[Range]]
) -> Iterator[str]:
    """Yield texts about ids that are in Gold although the newest verdict lists them. Reads nothing without verdicts."""
    listed = [{"symbol": symbol, "first": first, "last": last} for symbol, ids in ranges.items() for first, last in ids]
    if not listed:
        return
    limits = local_frame(spark, listed, "symbol string, first bigint, last bigint")
    numbered = gold.select("symbol", F.expr(f"try_cast({channel.id_column} AS bigint)").alias("number"))
    rows = numbered.join(F.broadcast(limits), "symbol").where("number BETWEEN first AND last")
    for row in rows.select("symbol", "number").distinct().orderBy("symbol", "number").limit(_MOST_ARRIVED).collect():
        yield f"{row['symbol']}: id {row['number']}, which audit_gaps still lists"
