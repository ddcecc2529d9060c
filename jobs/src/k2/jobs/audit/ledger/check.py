"""Checks the rows of the ledger of one channel: against the commits, and against each other."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pyspark.sql import DataFrame, Row, Window
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.common.ranges import Range
from k2.jobs.audit.ledger import compare
from k2.jobs.audit.offsets.bitmaps import TopicPartition, merge_adjacent
from k2.jobs.audit.scope import LEDGER, Scope
from k2.jobs.commit.commit_log import commit_rows
from k2.jobs.stream import BRONZE, GOLD, SILVER
from k2.schemas.tables import BATCHES_TABLE, Table
from k2.schemas.values import from_micros

_MOST: Final = 100
_MARGIN: Final = timedelta(hours=1)
_TIMES: Final = ("started_at", "committed_at")
# What went into a batch came out of it.
_UNBALANCED: Final = (
    f"(layer = '{BRONZE}' AND rows_in <> rows_out) OR (layer = '{SILVER}' AND rows_in <> rows_out + dead_letters) "
    f"OR (layer = '{GOLD}' AND rows_in <> rows_out + duplicates_dropped)"
)


def check(scope: Scope) -> None:
    """Report rows that are missing, added or changed, as far as commits or other rows tell."""
    rows = _rows(scope)
    for layer, table in ((BRONZE, scope.bronze_table), (SILVER, scope.silver_table), (GOLD, scope.channel.gold)):
        if not (commits := _commits(scope, layer, table)):
            continue
        first = min(commit["committed_at"] for commit in commits)
        # A row with a forged time of commit is missing at the right time.
        of_layer = rows.where((F.col("layer") == layer) & (F.col("committed_at") >= F.lit(first)))
        columns = [F.unix_micros(name).alias(name) if name in _TIMES else F.col(name) for name in rows.columns]
        stored = (row.asDict(recursive=True) for row in of_layer.select(*columns).toLocalIterator())
        for problem in compare.differences(stored, commits):
            # What the ledger rightly names is missing in the layer.
            place = layer if problem.check == "commit_missing" else LEDGER
            text = f"{scope.label} {scope.channel.name}: {problem.text}"
            scope.add(problem.check, f"{BATCHES_TABLE.name}: {text}", place, at=problem.at)
    for row in _unbalanced(rows):
        counts = ", ".join(f"{row[name]} {name}" for name in ("rows_in", "rows_out", "dead_letters"))
        _add(scope, "ledger_unbalanced", row, f"{counts}, {row['duplicates_dropped']} duplicates dropped")
    for row in _discontinuous(rows, scope.pinned.lost(scope.bronze_table)):
        place = f"{row['topic']}/{row['partition']}"
        text = f"begins at offset {row['first']} of {place}, and the one before it ends at {row['before']}"
        _add(scope, "ledger_discontinuous", row, text)


def _commits(scope: Scope, layer: str, table: Table) -> list[dict[str, Any]]:
    """Return the commits that must be in the ledger: none before retention or a purge of its topic."""
    purged = {**scope.pinned.purged(table), **scope.pinned.purged(BATCHES_TABLE)}
    pruned = scope.pinned.pruned_before(BATCHES_TABLE)
    retained = datetime.fromisoformat(pruned) if pruned else datetime.min.replace(tzinfo=UTC)

    def remains(commit: Mapping[str, Any]) -> bool:
        at = commit["committed_at"]
        return at >= retained and all(at.timestamp() > purged.get(one["topic"], 0.0) for one in commit["offset_ranges"])

    snapshots = scope.pinned.log(table).snapshots
    return list(filter(remains, commit_rows(layer, scope.label, scope.channel.name, snapshots)))


def _add(scope: Scope, check: str, row: Row, text: str) -> None:
    name = f"{BATCHES_TABLE.name}: {scope.label} {scope.channel.name}: the row of {row['layer']} epoch {row['epoch']}"
    scope.add(check, f"{name} {text}" if check == "ledger_discontinuous" else f"{name}: {text}", LEDGER, at=row["at"])


def _rows(scope: Scope) -> DataFrame:
    """Return the rows of the channel, without those of a topic before it was purged."""
    own = (F.col("exchange") == scope.label) & (F.col("channel") == scope.channel.name)
    rows = scope.recent(scope.pinned.rows(BATCHES_TABLE).where(own), F.col("committed_at"), _MARGIN)
    for topic, at in sorted(scope.pinned.purged(BATCHES_TABLE).items()):
        later = F.col("committed_at") > F.lit(from_micros(round(at * 1e6)))
        rows = rows.where(later | ~F.array_contains("offset_ranges.topic", topic))
    return rows


def _unbalanced(rows: DataFrame) -> list[Row]:
    at = F.unix_micros("committed_at").alias("at")
    return rows.where(_UNBALANCED).select("*", at).orderBy("layer", "epoch").limit(_MOST).collect()


def _discontinuous(rows: DataFrame, lost: Mapping[TopicPartition, Iterable[Range]]) -> list[Row]:
    """Return the rows whose offsets do not begin where those of the batch before, or what is lost after it, end."""
    at = F.unix_micros("committed_at").alias("at")
    ranges = rows.select("layer", "query_id", "epoch", at, F.inline("offset_ranges")).distinct()
    order = Window.partitionBy("layer", "query_id", "topic", "partition").orderBy("epoch")
    with_before = ranges.select("*", F.lag("last").over(order).alias("before"))
    jumps = with_before.where("first <> before + 1")
    for (topic, number), lost_ranges in sorted(lost.items()):
        for begin, end in merge_adjacent(lost_ranges):
            over_lost = (F.col("before") == begin - 1) & (F.col("first") == end + 1)
            jumps = jumps.where(~((F.col("topic") == topic) & (F.col("partition") == number) & over_lost))
    return jumps.orderBy("layer", "epoch").limit(_MOST).collect()
