"""Digests of the rows of each hour, layer by layer, and of those rows that an earlier verdict was about."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.jobs.audit import digests
from k2.jobs.audit.verdicts.verdict import BRONZE, GOLD, LEAVES, SILVER, Change, Hour, LayerDigests, OffsetRange
from k2.jobs.layers.gold import record_time
from k2.jobs.spark.local_frames import local_frame
from k2.schemas import digests as canonical
from k2.schemas.channels import Channel
from k2.schemas.digests import Digest

_HOUR: Final = 3_600_000_000
_POSITION: Final = ("topic", "partition", "offset")


@dataclass(frozen=True, slots=True)
class LayerRows:
    """The rows of one channel of an exchange that a verdict may be about: up to the offsets that Gold has read."""

    channel: Channel
    bronze: DataFrame
    silver: DataFrame
    gold: DataFrame

    def by_hour(self) -> dict[Hour, LayerDigests]:
        """Return the digests of each hour of each symbol."""
        layers: dict[Hour, dict[str, Digest]] = {}
        offsets: dict[Hour, dict[tuple[str, int], tuple[int, int]]] = {}
        for layer, rows in ((BRONZE, self._bronze()), (SILVER, self._silver())):
            aggregates = [
                *digests.sums("row_hash", layer),
                F.min("offset").alias("first"),
                F.max("offset").alias("last"),
            ]
            for row in rows.groupBy("symbol", "hour", "topic", "partition").agg(*aggregates).toLocalIterator():
                hour, partition = (row["symbol"], row["hour"]), (row["topic"], row["partition"])
                _add(layers, hour, layer, digests.from_sums(row.asDict(), layer))
                first, last = offsets.setdefault(hour, {}).get(partition, (row["first"], row["last"]))
                offsets[hour][partition] = min(first, row["first"]), max(last, row["last"])
        columns = [*digests.sums("row_hash", GOLD), *digests.sums("leaf_hash", LEAVES)]
        for row in self._gold().groupBy("symbol", "hour").agg(*columns).toLocalIterator():
            for layer in (GOLD, LEAVES):
                _add(layers, (row["symbol"], row["hour"]), layer, digests.from_sums(row.asDict(), layer))
        return {hour: LayerDigests(of_hour, _ranges(offsets.get(hour, {}))) for hour, of_hour in layers.items()}

    def judged_before(self, spark: SparkSession, changes: Iterable[Change]) -> dict[tuple[str, Hour], Digest]:
        """Return, by layer and hour, the digest of those rows of changed hours that came before their verdict.

        Those are the rows up to the verdict's offsets, and as many of Gold's as it had, those that were stored first.
        Of Silver's they are those that were validated before the verdict, if not all are: others were dead letters.
        """
        by_layer: dict[str, list[Change]] = {}
        for change in changes:
            by_layer.setdefault(change.layer, []).append(change)
        earlier: dict[tuple[str, Hour], Digest] = {}
        for layer, rows in ((BRONZE, self._bronze), (SILVER, self._silver)):
            if of_layer := by_layer.get(layer):
                limits = [
                    {"symbol": change.symbol, "hour": change.hour, "judged": change.verdict["checked_at"], **one}
                    for change in of_layer
                    for one in change.verdict["offsets"]
                ]
                schema = (
                    "symbol string, hour bigint, judged bigint, topic string, partition int, first bigint, last bigint"
                )
                limit = local_frame(spark, limits, schema)
                before = (
                    rows().join(F.broadcast(limit), ["symbol", "hour", "topic", "partition"]).where("offset <= last")
                )
                earlier |= _by_hour(before, layer)
                if layer == SILVER and (
                    redriven := [one for one in of_layer if earlier.get((layer, (one.symbol, one.hour))) != one.then]
                ):
                    validated = _by_hour(before.where("validated_at <= judged"), layer)
                    earlier |= {
                        key: validated[key]
                        for one in redriven
                        if validated.get(key := (layer, (one.symbol, one.hour))) == one.then
                    }
        if of_gold := by_layer.get(GOLD):
            counts = [{"symbol": one.symbol, "hour": one.hour, "judged": one.then.rows} for one in of_gold]
            limit = local_frame(spark, counts, "symbol string, hour bigint, judged bigint")
            order = Window.partitionBy("symbol", "hour").orderBy("stored_at", "identity")
            ranked = self._gold().join(F.broadcast(limit), ["symbol", "hour"])
            earlier |= _by_hour(ranked.withColumn("rank", F.row_number().over(order)).where("rank <= judged"), GOLD)
        return earlier

    def _bronze(self) -> DataFrame:
        # Bronze is not decoded: a row belongs to the symbol of its key and the hour of its own timestamp.
        columns = canonical.bronze_columns()
        return self.bronze.select(
            F.col("key").cast("string").alias("symbol"),
            _hour(F.col("kafka_timestamp")),
            *_POSITION,
            digests.row_hash(self.bronze, canonical.BRONZE, columns).alias("row_hash"),
        ).where("symbol IS NOT NULL")

    def _silver(self) -> DataFrame:
        columns = canonical.silver_columns(self.channel)
        return self.silver.select(
            "symbol",
            _hour(record_time(self.channel)),
            *_POSITION,
            F.unix_micros("validation_timestamp").alias("validated_at"),
            digests.row_hash(self.silver, canonical.SILVER, columns).alias("row_hash"),
        )

    def _gold(self) -> DataFrame:
        return self.gold.select(
            "symbol",
            _hour(record_time(self.channel)),
            F.col("gold_ingestion_timestamp").alias("stored_at"),
            F.concat_ws("|", *self.channel.identity).alias("identity"),
            digests.row_hash(self.gold, canonical.GOLD, canonical.gold_columns(self.channel)).alias("row_hash"),
            digests.row_hash(self.gold, canonical.LEAF, canonical.leaf_columns(self.channel)).alias("leaf_hash"),
        )


def _hour(time: Column) -> Column:
    micros = F.unix_micros(time)
    return (micros - F.pmod(micros, F.lit(_HOUR))).alias("hour")


def _add(layers: dict[Hour, dict[str, Digest]], hour: Hour, layer: str, digest: Digest) -> None:
    of_hour = layers.setdefault(hour, {})
    of_hour[layer] = of_hour.get(layer, Digest()) + digest


def _ranges(partitions: Mapping[tuple[str, int], tuple[int, int]]) -> tuple[OffsetRange, ...]:
    return tuple((topic, number, first, last) for (topic, number), (first, last) in sorted(partitions.items()))


def _by_hour(rows: DataFrame, layer: str) -> dict[tuple[str, Hour], Digest]:
    counted = rows.groupBy("symbol", "hour").agg(*digests.sums("row_hash", layer)).collect()
    return {(layer, (row["symbol"], row["hour"])): digests.from_sums(row.asDict(), layer) for row in counted}
