"""The audit of one exchange over pinned tables: offsets, message ids, trade ids, and on demand a rebuild."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import reduce
from operator import or_
from typing import Any, Final

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.jobs.audit import completeness, message_ids, offsets, rebuild
from k2.jobs.audit.completeness import Gap, Hour
from k2.jobs.audit.offsets import Place
from k2.jobs.audit.pinned_snapshots import Frontier, Pins
from k2.jobs.audit.rebuild import Digest
from k2.jobs.audit.report import ExchangeReport, Finding
from k2.jobs.layers.gold import MARGIN
from k2.jobs.spark.local_frames import frame
from k2.schemas import tables
from k2.schemas.exchanges.spec import EXCHANGES
from k2.schemas.values import moment

Schemas = Callable[[str], Mapping[int, str]]  # a topic's writer schemas by id

# Kafka's times need not rise with its offsets: just behind a pruned day, neighbours of rows that stayed are gone too.
_EDGE: Final = "1 minute"
_CLOCKS: Final = timedelta(hours=1)
_HOUR: Final = timedelta(hours=1)


class ExchangeAudit:
    """What is true of one exchange. `since` leaves out what is older."""

    def __init__(self, spark: SparkSession, pins: Pins, exchange: str, now: datetime, since: datetime | None) -> None:
        self._spark = spark
        self._pins = pins
        self._exchange = exchange
        self._label = EXCHANGES[exchange].label
        self._now = now
        self._since = since
        self.report = ExchangeReport()
        self.findings: list[Finding] = []
        bronze, silver = tables.bronze(exchange), tables.silver(exchange)
        ours = F.col("exchange") == self._label
        self._bronze = self._from(pins.rows(bronze), "kafka_timestamp", _CLOCKS)
        self._silver = pins.rows(silver)
        self._kept = self._from(self._silver, "bronze_timestamp", _CLOCKS)
        self._dead = self._from(pins.rows(tables.DEAD_LETTERS_TABLE).where(ours), "dlq_timestamp", _CLOCKS)
        self._gold = pins.rows(tables.GOLD_TABLE).where(ours)
        self._floors: dict[Place, int] = {}
        self._frontier: Frontier = {}
        self._lost = 0
        self.report.snapshots = {
            "bronze": pins.snapshot_id(bronze),
            "silver": pins.snapshot_id(silver),
            "dead_letters": pins.snapshot_id(tables.DEAD_LETTERS_TABLE),
            "gold": pins.snapshot_id(tables.GOLD_TABLE),
        }

    def balance(self) -> None:
        """Bronze without holes or repetitions; each of its rows once in Silver or the dead letters."""
        held = offsets.partitions(
            row.asDict() for row in offsets.bitmaps(self._bronze, self._kept, self._dead).toLocalIterator()
        )
        self._frontier = self._pins.silver_frontier(self._exchange, held)
        pruned = self._pins.pruned_before(tables.bronze(self._exchange))
        edges = self._edges(pruned)
        waiting = 0
        for place, partition in sorted(held.items()):
            first, last = partition.first(), partition.last()
            if first is None or last is None:
                if pruned is None and self._since is None:
                    self._ranges("silver_orphan", place, "Silver or the dead letters hold", partition.unknown(-1))
                continue
            floor = max(first, edges.get(place, 0))
            frontier = self._frontier.get(place, 0)
            self._floors[place] = floor
            self._ranges("bronze_gap", place, "Bronze lacks", partition.holes(floor))
            self._twice("bronze_duplicate", place, "Bronze", partition.repeated(floor, bronze=True))
            self._twice("silver_duplicate", place, "Silver and dead letters", partition.repeated(floor, bronze=False))
            lost = list(partition.lost(floor, frontier))
            self._lost += sum(end - begin + 1 for begin, end in lost)
            self._ranges("silver_missing", place, "neither Silver nor dead letters hold", lost)
            self._ranges("silver_orphan", place, "Bronze does not hold", partition.unknown(last))
            waiting += partition.waiting(max(floor, frontier))
        counts = [bucket.rows for partition in held.values() for bucket in partition.buckets.values()]
        for index, layer in enumerate(("bronze", "silver", "dead_letters")):
            self.report.rows[layer] = sum(rows[index] for rows in counts)
        self.report.lag["silver"] = waiting
        if self.report.rows["dead_letters"]:
            found = self._dead.groupBy("error_category").count().collect()
            self.report.dead_letters = {row[0]: row[1] for row in sorted(found)}

    def once(self) -> None:
        """Every message id that Gold's queries have read is in Gold, once; and Gold invented none."""
        pruned = self._pins.pruned_before(tables.silver(self._exchange))
        kept = F.col("timestamp") >= F.lit(pruned).cast("timestamp") if pruned else F.lit(True)
        recent = F.col("timestamp") >= F.lit(self._since) if self._since else F.lit(True)
        silver = self._from(self._silver, "timestamp", MARGIN).withColumn("judged", recent)
        gold = self._from(self._gold, "timestamp", MARGIN).withColumn("judged", recent & kept)
        frontier = self._pins.gold_frontier(self._label)
        found = message_ids.compared(message_ids.layered(self._spark, silver, gold, frontier))
        unknown = found.unknown
        if self._lost and unknown and len(unknown) <= self._lost:  # one cause is one finding
            rest = f"; Gold holds {len(unknown)} of their trades"
            lost = [finding for finding in self.findings if finding.check == "silver_missing"]
            self.findings[self.findings.index(lost[-1])] = replace(lost[-1], text=lost[-1].text + rest)
            unknown = ()
        for check, told, suspects in (
            ("gold_duplicate", "is in Gold more than once", found.twice),
            ("gold_missing", "is in Silver and not in Gold", found.missing),
            ("gold_orphan", "is in Gold and not in Silver", unknown),
        ):
            for suspect in suspects:
                self._finding(check, f"{suspect.symbol} trade {suspect.trade_id} ({suspect.message_id}) {told}")
        self.report.duplicates = found.repeats
        self.report.lag["gold"] = found.waiting

    def complete(self, gaps: list[Gap], states: Mapping[str, int]) -> list[Hour]:
        """Every hour's verdict, from the exchange's own numbering."""
        start = self._since.replace(minute=0, second=0, microsecond=0) if self._since else None
        near = self._gold if start is None else self._gold.where(F.col("timestamp") >= F.lit(start - _HOUR))
        rows = completeness.hours(near, self._exchange).withColumn("hour", F.expr("unix_micros(hour)")).collect()
        told = ({**row.asDict(), "hour": moment(row["hour"])} for row in rows)
        found = [completeness.verdict(row, self._exchange, self._now) for row in told]
        found = sorted(
            (hour for hour in found if start is None or hour.hour >= start), key=lambda h: (h.symbol, h.hour)
        )
        for hour in found:
            findings, in_repair = completeness.judged(hour, gaps)
            for text in findings:
                self._finding("missing_ids", text)
            self.report.in_repair += in_repair
        self.report.rows["gold"] = sum(sum(hour.by_source.values()) for hour in found)
        self.report.gaps = dict(states)
        self.report.completeness = _summary(found)
        return found

    def rebuild(self, schemas: Schemas) -> None:
        """Silver and Gold are what Bronze gives when it is judged again. Raises `RegistryUnavailable`."""
        topics = sorted({topic for topic, _ in self._floors})
        if not topics:
            return
        known = {topic: schemas(topic) for topic in topics}
        anew = rebuild.rebuilt(self._due(self._bronze, self._frontier), known, self._label).persist()
        valid = anew.where("error_category IS NULL")
        letters = anew.where("error_category IS NOT NULL")
        stored = self._due(self._kept, self._frontier)
        self._same("silver", rebuild.of_silver(valid), rebuild.of_silver(stored))
        dead = self._due(self._dead, self._frontier)
        self._same("dead_letters", rebuild.of_dead_letters(letters), rebuild.of_dead_letters(dead))
        due = self._due(valid, self._pins.gold_frontier(self._label))
        # What came before Bronze's first row decided already which of equal trades stays.
        older = self._below(self._silver).select("message_id")
        first = rebuild.deduplicated(due).join(older, "message_id", "left_anti")
        held = self._gold.join(first.select("message_id"), "message_id", "left_semi")
        self._same("gold", rebuild.of_gold(first), rebuild.of_gold(held))
        anew.unpersist()

    def _same(self, layer: str, anew: Digest, stored: Digest) -> None:
        if anew == stored:
            self.report.rebuilt[layer] = anew.rows
            return
        differ = "other rows" if anew.rows == stored.rows else f"{anew.rows} rows"
        self._finding(f"rebuild_{layer}", f"{layer} holds {stored.rows} rows; Bronze gives {differ}")

    def _from(self, rows: DataFrame, column: str, margin: timedelta) -> DataFrame:
        return rows if self._since is None else rows.where(F.col(column) >= F.lit(self._since - margin))

    def _edges(self, pruned: str | None) -> dict[Place, int]:
        """From which offset on a partition is judged, where that is not its first."""
        if pruned is None and self._since is None:
            return {}
        kafka, offset = F.col("kafka_timestamp"), F.col("offset")
        since = kafka >= F.lit(self._since) if self._since else F.lit(True)
        edge = kafka < F.lit(pruned).cast("timestamp") + F.expr(f"INTERVAL {_EDGE}") if pruned else F.lit(False)
        found = self._bronze.groupBy("topic", "partition").agg(
            F.max("offset").alias("last"),
            F.min(F.when(since, offset)).alias("since"),
            F.max(F.when(edge, offset)).alias("edge"),
        )
        return {
            (row["topic"], row["partition"]): max(
                row["last"] + 1 if row["since"] is None else row["since"],
                0 if row["edge"] is None else row["edge"] + 1,
            )
            for row in found.collect()
        }

    def _due(self, rows: DataFrame, frontier: Frontier) -> DataFrame:
        limits = [
            {"topic": topic, "partition": number, "floor": floor, "upto": frontier.get((topic, number), 0)}
            for (topic, number), floor in self._floors.items()
        ]
        limit = frame(self._spark, limits, "topic string, partition int, floor bigint, upto bigint")
        due = rows.join(F.broadcast(limit), ["topic", "partition"])
        return due.where("offset >= floor AND offset < upto").drop("floor", "upto")

    def _below(self, rows: DataFrame) -> DataFrame:
        limits = [
            {"topic": topic, "partition": number, "floor": floor} for (topic, number), floor in self._floors.items()
        ]
        limit = frame(self._spark, limits, "topic string, partition int, floor bigint")
        return rows.join(F.broadcast(limit), ["topic", "partition"]).where("offset < floor")

    def _ranges(self, check: str, place: Place, told: str, ranges: Any) -> None:
        if text := offsets.told(ranges):
            self._finding(check, f"{place[0]}/{place[1]}: {told} offset {text}")

    def _twice(self, check: str, place: Place, layer: str, buckets: list[int]) -> None:
        """Names the offsets that are two rows, by looking at the rows of their buckets alone."""
        if not buckets:
            return
        rows = (
            self._bronze
            if check == "bronze_duplicate"
            else self._kept.select(*_PLACE).union(self._dead.select(*_PLACE))
        )
        near = reduce(or_, (_in_bucket(number) for number in buckets[:_MOST_BUCKETS]))
        there = (F.col("topic") == place[0]) & (F.col("partition") == place[1])
        counted = rows.where(there & near).groupBy("offset").count().where("count > 1").orderBy("offset")
        found = [(row["offset"], row["offset"]) for row in counted.limit(_MOST_OFFSETS).collect()]
        self._ranges(
            check, place, f"{layer} hold twice" if " " in layer else f"{layer} holds twice", offsets.merged(found)
        )

    def _finding(self, check: str, text: str) -> None:
        self.findings.append(Finding(self._label, check, text))


_PLACE: Final = ("topic", "partition", "offset")
_MOST_BUCKETS: Final = 20
_MOST_OFFSETS: Final = 10_000


def _in_bucket(number: int) -> Column:
    return F.col("offset").between(number * offsets.WIDTH, (number + 1) * offsets.WIDTH - 1)


def _summary(found: list[Hour]) -> dict[str, Any]:
    sources: Counter[str] = Counter()
    for hour in found:
        sources.update(hour.by_source)
    proved = [hour for hour in found if hour.expected is not None]
    return {
        "hours": dict(sorted(Counter(hour.state for hour in found).items())),
        "expected": sum(hour.expected or 0 for hour in proved),
        "present": sum(hour.present for hour in proved),
        "by_source": dict(sorted(sources.items())),
        "symbols": [
            {
                "symbol": hour.symbol, "hour": hour.hour.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                "first_id": hour.first_id, "last_id": hour.last_id, "expected": hour.expected, "present": hour.present,
                "missing": [list(ids) for ids in hour.missing], "state": hour.state,
            }
            for hour in found
        ],
    }  # fmt: skip
