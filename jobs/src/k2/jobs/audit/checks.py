"""The audit of one channel of an exchange over pinned snapshots: offsets, identities, completeness, and a rebuild."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import reduce
from itertools import chain
from operator import or_
from typing import Any, Final

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.common.ranges import Range
from k2.jobs.audit import completeness, conflicts, differences, never_issued, offsets, rebuild, uniqueness
from k2.jobs.audit.completeness import Gap, HourCompleteness
from k2.jobs.audit.offsets import Partition, TopicPartition
from k2.jobs.audit.pinned_snapshots import Frontier, PinnedSnapshots
from k2.jobs.audit.report import ChannelReport, Finding
from k2.jobs.audit.verdicts import verdict
from k2.jobs.audit.verdicts.layer_digests import LayerRows
from k2.jobs.audit.verdicts.verdict import BRONZE, GOLD, SILVER, Chain, Hour, LayerDigests
from k2.jobs.layers import gold
from k2.jobs.layers.gold import MARGIN
from k2.jobs.spark.local_frames import local_frame
from k2.schemas import tables
from k2.schemas.channels import Channel
from k2.schemas.content import ID_CONFLICT
from k2.schemas.digests import Digest
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.states import GapState
from k2.schemas.tables import Table
from k2.schemas.values import from_micros, to_micros

Schemas = Callable[[str], Mapping[int, str]]  # a topic's writer schemas by id

# Kafka's timestamps need not rise with its offsets, so rows just after a pruned day can be deleted as well.
_EDGE: Final = "1 minute"
_CLOCK_SKEW: Final = timedelta(hours=1)
_HOUR: Final = timedelta(hours=1)
_HOUR_MICROS: Final = 3_600_000_000
_VERDICTS: Final = "verdicts"


class ChannelAudit:
    """Checks one channel of an exchange, collects a report and findings. Rows before `since` are left out."""

    def __init__(
        self,
        spark: SparkSession,
        pinned: PinnedSnapshots,
        exchange: str,
        channel: Channel,
        now: datetime,
        since: datetime | None,
    ) -> None:
        self._spark = spark
        self._pinned = pinned
        self._exchange = exchange
        self._channel = channel
        self._label = EXCHANGES[exchange].label
        self._now = now
        self._since = since
        self.report = ChannelReport()
        self.findings: list[Finding] = []
        self._time = gold.record_time(channel)
        bronze, silver = channel.bronze(exchange), channel.silver(exchange)
        own = F.col("exchange") == self._label
        dead_letters = pinned.rows(tables.DEAD_LETTERS_TABLE).where(own & (F.col("channel") == channel.name))
        self._bronze = self._from(pinned.rows(bronze), F.col("kafka_timestamp"), _CLOCK_SKEW)
        self._silver = pinned.rows(silver)
        self._recent_silver = self._from(self._silver, F.col("bronze_timestamp"), _CLOCK_SKEW)
        self._dead_letters = self._from(dead_letters, F.col("dead_lettered_at"), _CLOCK_SKEW)
        self._gold = pinned.rows(channel.gold).where(own)
        self._floors: dict[TopicPartition, int] = {}
        self._frontier: Frontier = {}
        self._missing = 0
        self._unsound: set[Hour] = set()  # hours of which Gold has too much
        self._differences: Sequence[
            differences.Difference
        ] = ()  # of Silver and Gold; their verdicts say which of the two changed
        self.report.snapshots = {
            "bronze": pinned.snapshot_id(bronze),
            "silver": pinned.snapshot_id(silver),
            "dead_letters": pinned.snapshot_id(tables.DEAD_LETTERS_TABLE),
            "gold": pinned.snapshot_id(channel.gold),
        }

    def check_offsets(self) -> None:
        """Check that Bronze has no gaps or duplicates, and each of its rows once in Silver or the dead letters."""
        bitmaps = offsets.bitmaps(self._bronze, self._recent_silver, self._dead_letters)
        partitions = offsets.partitions(row.asDict() for row in bitmaps.toLocalIterator())
        self._frontier = self._pinned.silver_frontier(self._exchange, self._channel, partitions)
        pruned = self._pinned.pruned_before(self._channel.bronze(self._exchange))
        first_offsets = self._first_offsets(pruned)
        is_whole = pruned is None and self._since is None
        extents = self._pinned.bronze_extents(self._exchange, self._label, self._channel)
        if is_whole:
            partitions |= {key: Partition() for key in extents if key not in partitions}
        pending = 0
        for key, partition in sorted(partitions.items()):
            stored = partition.extent()
            extent = extents.get(key, stored) if is_whole or stored else None
            if extent is None:
                if is_whole:
                    self._add_ranges(
                        "silver_orphan", key, "only Silver or the dead letters have", partition.orphans(-1)
                    )
                continue
            first, last = stored or extent
            last = max(last, extent[1])
            floor = min(first, extent[0]) if is_whole else max(first, first_offsets.get(key, 0))
            frontier = self._frontier.get(key, 0)
            self._floors[key] = floor
            gaps = list(partition.gaps(floor, last))
            self._add_ranges("bronze_gap", key, "missing in Bronze:", gaps)
            self._add_duplicates("bronze_duplicate", key, "Bronze", partition.duplicate_buckets(floor, bronze=True))
            self._add_duplicates(
                "silver_duplicate", key, "Silver and dead letters", partition.duplicate_buckets(floor, bronze=False)
            )
            missing = list(partition.missing(floor, frontier))
            lost = (partition.unprocessed(begin, min(end, frontier - 1)) for begin, end in gaps if begin < frontier)
            missing = list(offsets.merge_adjacent(sorted([*missing, *chain.from_iterable(lost)])))
            self._missing += sum(end - begin + 1 for begin, end in missing)
            self._add_ranges("silver_missing", key, "missing in Silver and the dead letters:", missing)
            self._add_ranges("silver_orphan", key, "not in Bronze:", partition.orphans(last))
            pending += partition.pending(max(floor, frontier))
        counts = [bucket.rows for partition in partitions.values() for bucket in partition.buckets.values()]
        for index, layer in enumerate(("bronze", "silver", "dead_letters")):
            self.report.rows[layer] = sum(rows[index] for rows in counts)
        self.report.lag["silver"] = pending
        if self.report.rows["dead_letters"]:
            categories = self._dead_letters.groupBy("error_category").count().collect()
            self.report.dead_letters = {row[0]: row[1] for row in sorted(categories)}
        if ID_CONFLICT in self.report.dead_letters:
            for text in conflicts.in_dead_letters(self._dead_letters):
                self._add("id_conflict", text)

    def check_uniqueness(self) -> None:
        """Check that each identity that Gold's queries have processed is in Gold once, and no others."""
        pruned = self._pinned.pruned_before(self._channel.silver(self._exchange))
        # Retention deletes Silver's rows by the column that partitions the table.
        retained = F.col(self._channel.time_columns[-1]) >= F.lit(pruned).cast("timestamp") if pruned else F.lit(True)
        recent = self._time >= F.lit(self._since) if self._since else F.lit(True)
        silver = self._from(self._silver, self._time, MARGIN).withColumn("in_scope", recent)
        in_gold = self._from(self._gold, self._time, MARGIN).withColumn("in_scope", recent & retained)
        frontier = self._pinned.gold_frontier(self._label, self._channel)
        rows = uniqueness.identities(self._spark, self._channel, silver, in_gold, frontier)
        comparison = uniqueness.compare(self._channel, rows)
        orphans = comparison.orphans
        if self._missing and orphans and len(orphans) <= self._missing:  # the same cause, so one finding
            rest = f"; Gold has {len(orphans)} of their records"
            missing = [finding for finding in self.findings if finding.check == "silver_missing"]
            self.findings[self.findings.index(missing[-1])] = replace(missing[-1], text=missing[-1].text + rest)
            orphans = ()
        for check, problem, mismatches in (
            ("gold_duplicate", "is in Gold more than once", comparison.duplicates),
            ("gold_missing", "is in Silver but not in Gold", comparison.missing),
            ("gold_orphan", "is in Gold but not in Silver", orphans),
        ):
            for entry in mismatches:
                self._add(check, f"{entry.record} {problem}", GOLD, entry.symbol, entry.at)
                if check != "gold_missing":
                    self._unsound.add((entry.symbol, entry.at - entry.at % _HOUR_MICROS))
        if comparison.differing is not None:
            for text in conflicts.in_tables(self._channel, silver, in_gold, comparison.differing):
                self._add("id_conflict", text)
        if comparison.changed is not None:
            self._differences = differences.describe_all(self._channel, silver, in_gold, comparison.changed)
        self.report.duplicates = comparison.repeats
        self.report.lag["gold"] = comparison.pending

    def check_completeness(
        self, gaps: list[Gap], states: Mapping[str, int], evidence: Mapping[str, bool]
    ) -> list[HourCompleteness]:
        """Return the completeness of every hour, and report what is missing.

        `states` is the number of gaps by state, `evidence` says of each stored answer whether its body has its hash.
        """
        start = self._start()
        nearby = self._gold if start is None else self._gold.where(self._time >= F.lit(start - _HOUR))
        rows = (
            completeness.hours(nearby, self._channel, self._exchange)
            .withColumn("hour", F.expr("unix_micros(hour)"))
            .collect()
        )
        fields = ({**row.asDict(), "hour": from_micros(row["hour"])} for row in rows)
        skipped = self._check_verdicts(gaps, evidence, nearby)
        hours = [
            completeness.evaluate(row, self._channel, self._exchange, self._now, skipped.get(row["symbol"], ()))
            for row in fields
        ]
        hours = sorted(
            (hour for hour in hours if start is None or hour.hour >= start), key=lambda h: (h.symbol, h.hour)
        )
        for hour in hours:
            findings, in_repair = completeness.describe_missing(hour, gaps)
            for text in findings:
                self._add("missing_ids", text, GOLD, hour.symbol, to_micros(hour.hour))
            self.report.in_repair += in_repair
            if hour.suspect and hour.state == completeness.INCOMPLETE:
                text = completeness.describe_suspect(hour)
                self._add("suspect_records", text, GOLD, hour.symbol, to_micros(hour.hour))
        self.report.rows["gold"] = sum(sum(hour.by_source.values()) for hour in hours)
        self.report.gaps = dict(states)
        self.report.completeness = _summary(hours)
        return hours

    def _check_verdicts(
        self, gaps: list[Gap], evidence: Mapping[str, bool], gold: DataFrame
    ) -> Mapping[str, Sequence[Range]]:
        """Return the ids by symbol that the exchange is proved to have never issued; report what is not, or no more."""
        proved = []
        for gap in gaps:
            if problem := never_issued.problem(gap, evidence):
                self._add(problem.check, f"{self._label} {gap.symbol}: {problem.text}")
            elif gap.state == GapState.NEVER_ISSUED:
                proved.append(gap)
        self.report.revoked = [f"{self._label} {text}" for text in never_issued.revoked(gaps)]
        skipped = never_issued.by_symbol(proved)
        arrived = never_issued.arrived(self._spark, gold, self._channel, skipped)
        self.report.revoked += [f"{self._label} {text}" for text in arrived]
        return skipped

    def check_verdicts(self, hours: Sequence[HourCompleteness], verdicts: Chain) -> list[dict[str, Any]]:
        """Compare what the layers hold with earlier verdicts; return the verdicts to append, none on a changed hour."""
        for row in verdicts.broken:
            text = f"verdict {row['revision']} does not follow the verdict before it: one was changed or deleted"
            self._add_at("verdict_chain", _VERDICTS, row["symbol"], row["hour"], text)
        start = self._start()
        rows = self._judged_rows(start)
        layers = rows.by_hour()
        first = 0 if start is None else to_micros(start)
        comparable = {
            BRONZE: max(first, self._retained_from(self._channel.bronze(self._exchange))),
            SILVER: max(first, self._retained_from(self._channel.silver(self._exchange))),
            GOLD: first,
        }
        changes = verdict.changes(verdicts.newest.values(), layers, comparable)
        earlier = rows.judged_before(self._spark, (change for change in changes if change.now.rows > change.then.rows))
        changed: set[tuple[str, Hour]] = set()
        for change in changes:
            hour = change.symbol, change.hour
            if earlier.get((change.layer, hour), Digest()) == change.then:
                continue  # late rows, which their revision will name
            changed.add((change.layer, hour))
            self._add_at(f"{change.layer}_changed", change.layer, *hour, change.text)
        for difference in self._differences:
            hour = difference.symbol, difference.at - difference.at % _HOUR_MICROS
            of_silver = (SILVER, hour) in changed and (GOLD, hour) not in changed
            self._add_at("gold_mismatch", SILVER if of_silver else GOLD, *hour, difference.text)
            self._unsound.add(hour)
        differing = {hour for _, hour in changed} | self._unsound
        snapshot, now = self._pinned.snapshot_id(self._channel.gold), to_micros(self._now)
        appended = []
        for one in hours:
            key = one.symbol, to_micros(one.hour)
            before = verdicts.newest.get(key)
            row = verdict.new_row(one, layers.get(key, LayerDigests()), snapshot, now)
            if key in differing:
                if before is None:
                    continue
                row = verdict.with_digests_of(before, row, verdict.DIGESTS)  # what differs never becomes the truth
            elif before is not None:
                removed = [layer for layer, retained in comparable.items() if key[1] < retained]
                row = verdict.with_digests_of(before, row, removed)
            if (chained := verdicts.append(row)) is not None:
                appended.append(chained)
        return appended

    def _judged_rows(self, start: datetime | None) -> LayerRows:
        """Return the rows since `start` (None: all) up to what Gold has read."""
        frontier = self._pinned.gold_frontier(self._label, self._channel)
        limits = [{"topic": topic, "partition": number, "upto": upto} for (topic, number), upto in frontier.items()]
        limit = F.broadcast(local_frame(self._spark, limits, "topic string, partition int, upto bigint"))

        def judged(rows: DataFrame, time: Column) -> DataFrame:
            recent = rows if start is None else rows.where(time >= F.lit(start))
            return recent.join(limit, ["topic", "partition"]).where("offset < upto").drop("upto")

        gold = self._gold if start is None else self._gold.where(self._time >= F.lit(start))
        bronze = self._pinned.rows(self._channel.bronze(self._exchange))
        return LayerRows(
            self._channel, judged(bronze, F.col("kafka_timestamp")), judged(self._silver, self._time), gold
        )

    def _start(self) -> datetime | None:
        """Return the start of the first hour to judge; None for all."""
        return self._since.replace(minute=0, second=0, microsecond=0) if self._since else None

    def _retained_from(self, table: Table) -> int:
        """Return the time (UTC microseconds) from which on retention has deleted no row of a table."""
        pruned = self._pinned.pruned_before(table)
        return 0 if pruned is None else to_micros(datetime.fromisoformat(pruned))

    def _table(self, layer: str) -> str:
        channel = self._channel
        return {
            BRONZE: channel.bronze(self._exchange), SILVER: channel.silver(self._exchange), GOLD: channel.gold,
            _VERDICTS: tables.COMPLETENESS_TABLE,
        }[layer].name  # fmt: skip

    def check_rebuild(self, schemas: Schemas) -> None:
        """Check that Silver and Gold equal what Bronze gives when validated again. Raises `RegistryUnavailable`."""
        topics = sorted({topic for topic, _ in self._floors})
        if not topics:
            return
        writer_schemas = {topic: schemas(topic) for topic in topics}
        channel, bronze = self._channel, self._due(self._bronze, self._frontier)
        revalidated = rebuild.revalidated(bronze, channel, writer_schemas, self._label).persist()
        identity, older = list(channel.identity), self._below(self._silver)
        other_gold = self._gold.join(self._silver.select(*identity), identity, "left_anti")
        validated = rebuild.with_conflicts(revalidated, channel, older, other_gold)
        valid = validated.where("error_category IS NULL")
        invalid = validated.where("error_category IS NOT NULL")
        stored = self._due(self._recent_silver, self._frontier)
        self._compare("silver", rebuild.silver_digest(valid, channel), rebuild.silver_digest(stored, channel))
        dead_letters = self._due(self._dead_letters, self._frontier)
        self._compare("dead_letters", rebuild.dead_letter_digest(invalid), rebuild.dead_letter_digest(dead_letters))
        due = self._due(valid, self._pinned.gold_frontier(self._label, channel))
        # Rows before Bronze's first one have decided already which of equal records is in Gold.
        first = rebuild.deduplicated(due, channel).join(older.select(*identity), identity, "left_anti")
        in_gold = self._gold.join(first.select(*identity), identity, "left_semi")
        self._compare("gold", rebuild.gold_digest(first, channel), rebuild.gold_digest(in_gold, channel))
        revalidated.unpersist()

    def _compare(self, layer: str, rebuilt: Digest, stored: Digest) -> None:
        if rebuilt == stored:
            self.report.rebuilt[layer] = rebuilt.rows
            return
        difference = "other rows" if rebuilt.rows == stored.rows else f"{rebuilt.rows} rows"
        self._add(f"rebuild_{layer}", f"{layer} has {stored.rows} rows; the rebuild from Bronze has {difference}")

    def _from(self, rows: DataFrame, time: Column, margin: timedelta) -> DataFrame:
        return rows if self._since is None else rows.where(time >= F.lit(self._since - margin))

    def _first_offsets(self, pruned: str | None) -> dict[TopicPartition, int]:
        """Return the first offset to check of each partition, where that is not the partition's first."""
        if pruned is None and self._since is None:
            return {}
        kafka, offset = F.col("kafka_timestamp"), F.col("offset")
        since = kafka >= F.lit(self._since) if self._since else F.lit(True)
        edge = kafka < F.lit(pruned).cast("timestamp") + F.expr(f"INTERVAL {_EDGE}") if pruned else F.lit(False)
        partitions = self._bronze.groupBy("topic", "partition").agg(
            F.max("offset").alias("last"),
            F.min(F.when(since, offset)).alias("since"),
            F.max(F.when(edge, offset)).alias("edge"),
        )
        return {
            (row["topic"], row["partition"]): max(
                row["last"] + 1 if row["since"] is None else row["since"],
                0 if row["edge"] is None else row["edge"] + 1,
            )
            for row in partitions.collect()
        }

    def _due(self, rows: DataFrame, frontier: Frontier) -> DataFrame:
        limits = [
            {"topic": topic, "partition": number, "floor": floor, "upto": frontier.get((topic, number), 0)}
            for (topic, number), floor in self._floors.items()
        ]
        limit = local_frame(self._spark, limits, "topic string, partition int, floor bigint, upto bigint")
        due = rows.join(F.broadcast(limit), ["topic", "partition"])
        return due.where("offset >= floor AND offset < upto").drop("floor", "upto")

    def _below(self, rows: DataFrame) -> DataFrame:
        limits = [
            {"topic": topic, "partition": number, "floor": floor} for (topic, number), floor in self._floors.items()
        ]
        limit = local_frame(self._spark, limits, "topic string, partition int, floor bigint")
        return rows.join(F.broadcast(limit), ["topic", "partition"]).where("offset < floor")

    def _add_ranges(self, check: str, key: TopicPartition, problem: str, ranges: Any) -> None:
        if text := offsets.format_ranges(ranges):
            self._add(check, f"{key[0]}/{key[1]}: {problem} offset {text}")

    def _add_duplicates(self, check: str, key: TopicPartition, layer: str, buckets: list[int]) -> None:
        """Add a finding that names the duplicate offsets; reads only the rows of their buckets."""
        if not buckets:
            return
        rows = (
            self._bronze
            if check == "bronze_duplicate"
            else self._recent_silver.select(*_POSITION).union(self._dead_letters.select(*_POSITION))
        )
        in_buckets = reduce(or_, (_in_bucket(number) for number in buckets[:_MAX_BUCKETS]))
        in_partition = (F.col("topic") == key[0]) & (F.col("partition") == key[1])
        counted = rows.where(in_partition & in_buckets).groupBy("offset").count().where("count > 1").orderBy("offset")
        duplicates = [(row["offset"], row["offset"]) for row in counted.limit(_MAX_OFFSETS).collect()]
        self._add_ranges(check, key, f"more than once in {layer}:", offsets.merge_adjacent(duplicates))

    def _add_at(self, check: str, layer: str, symbol: str, hour: int, text: str) -> None:
        """Add a finding whose text begins with the table, the symbol and the hour."""
        place = f"{self._table(layer)}: {self._label} {symbol} {_hour_text(hour)}"
        self._add(check, f"{place}: {text}", layer, symbol, hour)

    def _add(self, check: str, text: str, layer: str = "", symbol: str = "", at: int | None = None) -> None:
        """Add a finding; `at` is a time of its hour in UTC microseconds."""
        table, hour = self._table(layer) if layer else "", "" if at is None else _hour_text(at)
        self.findings.append(Finding(self._label, self._channel.name, check, text, table, symbol, hour))


def _hour_text(at: int) -> str:
    return f"{from_micros(at):%Y-%m-%dT%H:00Z}"


_POSITION: Final = ("topic", "partition", "offset")
_MAX_BUCKETS: Final = 20
_MAX_OFFSETS: Final = 10_000


def _in_bucket(number: int) -> Column:
    return F.col("offset").between(number * offsets.WIDTH, (number + 1) * offsets.WIDTH - 1)


def _summary(hours: list[HourCompleteness]) -> dict[str, Any]:
    sources: Counter[str] = Counter()
    for hour in hours:
        sources.update(hour.by_source)
    verified = [hour for hour in hours if hour.expected is not None]
    return {
        "hours": dict(sorted(Counter(hour.state for hour in hours).items())),
        "expected": sum(hour.expected or 0 for hour in verified),
        "actual": sum(hour.actual for hour in verified),
        "by_source": dict(sorted(sources.items())),
        "symbols": [
            {
                "symbol": hour.symbol, "hour": hour.hour.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                "first_id": hour.first_id, "last_id": hour.last_id, "expected": hour.expected, "actual": hour.actual,
                "missing": [list(ids) for ids in hour.missing],
                "never_issued": [list(ids) for ids in hour.never_issued], "state": hour.state,
            }
            for hour in hours
        ],
    }  # fmt: skip
