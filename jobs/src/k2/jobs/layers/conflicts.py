"""Conflicts: records whose identity is known and whose content is another.

DataFrames in, DataFrames out. The first valid copy of an identity stays, and every copy with other content becomes a
dead letter. First is the copy with the lowest offset of its partition; of several partitions, as after an increase of
their number, the one that Bronze stored first, since batches never divide what Bronze stored in one commit. So the
result does not depend on how the rows were cut into batches.

Copies are looked up in Silver, in the minutes of the batch and `SEARCH_MARGIN` around them, and in Gold where Silver
may not reach: before the time up to which retention deletes rows of Bronze or Silver.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import reduce
from operator import and_
from typing import Final

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.jobs.commit.incremental_batch import SMALL_BATCH, IncrementalBatch
from k2.jobs.commit.snapshots import Offsets, SnapshotHistory
from k2.jobs.layers import gold, silver
from k2.jobs.spark.local_frames import local_frame
from k2.schemas.channels import Channel
from k2.schemas.content import ID_CONFLICT, SEARCH_MARGIN, same_time
from k2.schemas.snapshots import PRUNED
from k2.schemas.validation import MAX_AHEAD_MICROS

_STORED, _ARRIVED, _GOLD = range(3)
_HASHES: Final = ("hash", "content")
_POSITION: Final = ("topic", "partition", "offset")
_CONFLICTS: Final = "topic string, partition int, offset bigint, conflict string"
_MAX_AHEAD: Final = timedelta(microseconds=MAX_AHEAD_MICROS)


def find(
    batch: IncrementalBatch, channel: Channel, exchange: str, label: str, schemas: Mapping[int, str]
) -> DataFrame | None:
    """Return the Kafka position of each conflict in a batch of Bronze rows, with `conflict`, which explains it.

    Returns None if there is none. In a batch without one, of every record only what decides is decoded, and hashed.
    """
    if not channel.content or not schemas:
        return None
    keys = hashed_keys(silver.keys(batch.rows, channel, schemas), channel)
    hashes = batch.coalesce_small(keys.select(*_HASHES, "minute", F.lit(True).alias("arrived"))).persist()
    try:
        minutes = [row[0] for row in hashes.select("minute").distinct().collect()]
        earlier = _earlier(batch, channel, exchange, label, minutes)
        of_earlier = hashed(earlier, channel).select(*_HASHES, F.lit(False).alias("arrived"))
        # One task for any batch: it costs less than a shuffle, and groups of three numbers fit.
        together = hashes.drop("minute").unionByName(of_earlier).coalesce(1)
        differing = [row[0] for row in with_other_content(together).take(SMALL_BATCH)]
    finally:
        hashes.unpersist()
    if not differing:
        return None
    rows = batch.rows
    if len(differing) < SMALL_BATCH:  # otherwise too many to move through the driver
        few = F.broadcast(local_frame(batch.session, ({"hash": one} for one in differing), "hash bigint"))
        earlier = hashed(earlier, channel).join(few, "hash", "left_semi").select(*earlier.columns)
        rows = rows.join(keys.join(few, "hash", "left_semi").select(*_POSITION), list(_POSITION), "left_semi")
    validated = silver.validated(rows, channel, schemas, label)
    copies = batch.coalesce_small(arrived(validated, channel).unionByName(earlier))
    return collected(among(copies, channel))


def collected(conflicts: DataFrame) -> DataFrame | None:
    """Return the result of `among`, computed once unless there are too many; None if there is no conflict."""
    rows = conflicts.take(SMALL_BATCH)
    if not rows or len(rows) == SMALL_BATCH:
        return conflicts if rows else None
    return F.broadcast(local_frame(conflicts.sparkSession, (row.asDict() for row in rows), _CONFLICTS))


def hashed_keys(keys: DataFrame, channel: Channel) -> DataFrame:
    """Return hashes of identity and content, the minute and the position of the complete rows of `silver.keys`."""
    is_complete = reduce(and_, (F.col(name).isNotNull() for name in channel.identity))
    return keys.where(is_complete & gold.record_time(channel).isNotNull()).select(
        F.xxhash64(*channel.identity).alias("hash"),
        F.xxhash64(*channel.content, F.unix_micros(gold.record_time(channel))).alias("content"),
        gold.minute(channel).alias("minute"),
        *_POSITION,
    )


def hashed(copies: DataFrame, channel: Channel) -> DataFrame:
    """Return copies with the hashes that `hashed_keys` gives them."""
    content = F.xxhash64(*(f"content_{name}" for name in channel.content), "time")
    return copies.withColumns({"hash": F.xxhash64(*channel.identity), "content": content})


def with_other_content(hashes: DataFrame) -> DataFrame:
    """Return the hashes of identities with more than one content, of which a row has arrived. Nearly always none.

    Numbers are cheap to compare, and equal copies, of which a replay has many, cost nothing more. Times in different
    precision differ here and are equal in `among`.
    """
    counted = hashes.groupBy("hash").agg(
        F.min("content").alias("low"), F.max("content").alias("high"), F.max("arrived").alias("arrived")
    )
    return counted.where("low != high AND arrived").select("hash")


def suspicious(copies: DataFrame, channel: Channel) -> DataFrame:
    """Return the copies of the identities that have more than one content."""
    rows = hashed(copies, channel)
    hashes = with_other_content(rows.withColumn("arrived", F.col("rank") == _ARRIVED))
    return rows.join(hashes, "hash", "left_semi").select(*copies.columns)


def arrived(validated: DataFrame, channel: Channel) -> DataFrame:
    """Return the valid rows of `silver.validated` as copies for `among`: those that are judged."""
    return _copies(validated.where("error_category IS NULL"), channel, _ARRIVED)


def stored(rows: DataFrame, channel: Channel) -> DataFrame:
    """Return rows of Silver as copies for `among`: they came before those that are judged."""
    return _copies(rows, channel, _STORED)


def in_gold(rows: DataFrame, channel: Channel) -> DataFrame:
    """Return rows of Gold as copies for `among`: what they differ from is a conflict, whenever it came."""
    nothing = F.lit(None)
    return rows.select(
        *channel.identity,
        F.lit(_GOLD).alias("rank"),
        nothing.cast("timestamp").alias("stored_at"),
        nothing.cast("string").alias("topic"),
        nothing.cast("int").alias("partition"),
        nothing.cast("bigint").alias("offset"),
        gold_place(channel).alias("place"),
        *_content(channel),
    )


def kafka_place() -> Column:
    """Return where a row of Bronze or Silver is, for people: its Kafka position."""
    return F.format_string("%s/%d offset %d", *_POSITION)


def gold_place(channel: Channel) -> Column:
    """Return where a row of Gold is, for people: its hour."""
    return F.format_string(
        f"{channel.gold.name} of %s, hour %d", F.col("exchange_date").cast("string"), F.col("exchange_hour")
    )


def among(copies: DataFrame, channel: Channel) -> DataFrame:
    """Return the Kafka position of each conflict among `copies`, with `conflict`, which explains it."""
    fields = [name for name in copies.columns if name not in channel.identity]
    grouped = copies.groupBy(*channel.identity).agg(F.collect_list(F.struct(*fields)).alias("copies"))
    with_gold = grouped.where(F.size("copies") > 1).withColumn(
        "gold", F.get(F.filter("copies", lambda copy: copy["rank"] == _GOLD), F.lit(0))
    )
    agreeing = with_gold.withColumn(
        "agreeing",
        F.filter("copies", lambda copy: F.col("gold").isNull() | ~_differs(copy, F.col("gold"), channel)),
    )
    first = agreeing.withColumn("first", F.array_min(F.filter("agreeing", _is_first_of_partition)))
    conflicts = first.withColumn(
        "copy",
        F.explode(
            F.filter("copies", lambda copy: (copy["rank"] == _ARRIVED) & _differs(copy, F.col("first"), channel))
        ),
    )
    return conflicts.select(*(F.col(f"copy.{name}").alias(name) for name in _POSITION), _text(channel))


def marked(rows: DataFrame, conflicts: DataFrame | None) -> DataFrame:
    """Return validated rows, those among the `conflicts` as dead letters."""
    if conflicts is None:
        return rows
    conflict = F.col("conflict")
    category = F.when(conflict.isNotNull(), F.lit(ID_CONFLICT)).otherwise(F.col("error_category"))
    changed = {"error_category": category, "error_message": F.coalesce(conflict, F.col("error_message"))}
    return rows.join(conflicts, list(_POSITION), "left").withColumns(changed).select(*rows.columns)


def _earlier(batch: IncrementalBatch, channel: Channel, exchange: str, label: str, minutes: Sequence[int]) -> DataFrame:
    """Return the copies in Silver and Gold that may be of the batch's identities."""
    near = gold.within(gold.time_ranges(minutes, SEARCH_MARGIN), channel)
    in_silver = batch.session.table(channel.silver(exchange).identifier)
    earlier = stored(in_silver.where(near & _is_before(batch.contents.offsets)), channel)
    until = _reach(batch, channel, exchange)
    if old := [minute for minute in minutes if minute * 60 < until]:
        near = gold.in_time_ranges(gold.time_ranges(old, SEARCH_MARGIN), channel)
        rows = batch.session.table(channel.gold.identifier).where(near & (F.col("exchange") == label))
        earlier = earlier.unionByName(in_gold(rows, channel))
    return earlier


def _is_before(offsets: Offsets) -> Column:
    """Return the filter for rows before a batch, which leaves out those that the batch itself has committed.

    The offsets are in one map, which Spark passes by reference; single numbers it would compile into each batch's code.
    """
    entries = [
        entry
        for topic, partitions in offsets.items()
        for partition, (first, _) in partitions.items()
        for entry in (F.lit(f"{topic}/{partition}"), F.lit(first).cast("bigint"))
    ]
    if not entries:
        return F.lit(True)
    first = F.element_at(F.create_map(*entries), F.concat_ws("/", "topic", F.col("partition").cast("string")))
    return F.coalesce(F.col("offset") < first, F.lit(True))


def _reach(batch: IncrementalBatch, channel: Channel, exchange: str) -> float:
    """Return the time (seconds since 1970) before which Silver may lack records that Gold holds.

    Retention has deleted them from Silver; or from Bronze, before Silver was rebuilt from it.
    """
    pruned: list[float] = []
    for table in (channel.silver(exchange), channel.bronze(exchange)):
        if before := SnapshotHistory(batch.session, table).java_table().properties().get(PRUNED):
            time = datetime.fromisoformat(str(before))
            pruned.append((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp())
    return max(pruned) + (SEARCH_MARGIN + _MAX_AHEAD).total_seconds() if pruned else 0.0


def _copies(rows: DataFrame, channel: Channel, rank: int) -> DataFrame:
    return rows.select(
        *channel.identity,
        F.lit(rank).alias("rank"),
        F.col("bronze_timestamp").alias("stored_at"),
        *_POSITION,
        kafka_place().alias("place"),
        *_content(channel),
    )


def _content(channel: Channel) -> list[Column]:
    time = F.unix_micros(gold.record_time(channel)).alias("time")
    return [time, *(F.col(name).alias(f"content_{name}") for name in channel.content)]


def _is_first_of_partition(copy: Column) -> Column:
    """Return whether no other of the agreeing copies of the same origin comes before `copy` in its partition."""

    def is_before(other: Column) -> Column:
        in_partition = (other["topic"] == copy["topic"]) & (other["partition"] == copy["partition"])
        return (other["rank"] == copy["rank"]) & in_partition & (other["offset"] < copy["offset"])

    return ~F.coalesce(F.exists("agreeing", is_before), F.lit(False))  # rows of Gold have no partition


def _differs(copy: Column, other: Column, channel: Channel) -> Column:
    is_same: Column = same_time(copy["time"], other["time"])
    for name in channel.content:
        is_same &= F.equal_null(copy[f"content_{name}"], other[f"content_{name}"])
    return ~is_same


def _text(channel: Channel) -> Column:
    """Return the explanation of a conflict, which names what differs and where the first copy is."""
    copy, first = F.col("copy"), F.col("first")
    times = (_time_text(copy["time"]), _time_text(first["time"]))
    differing = [F.when(~same_time(copy["time"], first["time"]), _instead("time", *times))]
    for name in channel.content:
        values = copy[f"content_{name}"], first[f"content_{name}"]
        text = _instead(name, *(_plain(value) for value in values))
        differing.append(F.when(~F.equal_null(*values), text))
    identity = F.concat_ws(", ", *(F.concat(F.lit(f"{name} "), F.col(name)) for name in channel.identity))
    return F.concat(
        identity,
        F.lit(" is known with other content: "),
        F.concat_ws(", ", *differing[1:], differing[0]),
        F.lit("; the first copy is at "),
        first["place"],
    ).alias("conflict")


def _instead(name: str, value: Column, first: Column) -> Column:
    return F.concat(F.lit(f"{name} "), value, F.lit(" instead of "), first)


def _plain(value: Column) -> Column:
    """Return a value as text, a number without trailing zeros."""
    return F.regexp_replace(F.coalesce(value.cast("string"), F.lit("null")), r"\.0+$|(\.[0-9]*[1-9])0+$", "$1")


def _time_text(micros: Column) -> Column:
    return F.date_format(F.timestamp_micros(micros), "yyyy-MM-dd'T'HH:mm:ss.SSSSSS'Z'")
