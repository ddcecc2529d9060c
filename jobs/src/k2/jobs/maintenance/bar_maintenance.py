"""Maintenance of the bars: the hours that Gold's commits touch are rebuilt shortly after.

A commit of bars names the Gold snapshot that all bars then match. A process that stops between Gold's commit and the
bars' loses nothing: the next run continues from there. Every driver of Gold maintains the bars of all feeds; of two
that run at once, one finds the work done. Between rounds it sleeps much longer than a round takes, to leave the
machine to the streams.
"""

import random
import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from functools import reduce
from itertools import chain
from operator import or_
from typing import Final

from pyspark.sql import SparkSession
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.common import logs
from k2.jobs.commit.retry import retry_on_conflict
from k2.jobs.commit.snapshots import Snapshot, SnapshotHistory
from k2.jobs.layers import bars
from k2.jobs.layers.bars import BarFile, RebuildUnit
from k2.schemas.bars import ChangedHours, changed_hours, effective_summary
from k2.schemas.snapshots import DELETED, GOLD_SNAPSHOT, QUERY
from k2.schemas.tables import BARS_TABLE, GOLD_TABLE

log = logs.get("bars")

_QUERY: Final = "bars"  # the newest commit under a query's name outlives the expiry of snapshots
_INTERVAL: Final = 30.0  # seconds
_REST: Final = 9.0  # pause as a multiple of the duration of a round


class BarMaintainer:
    """Maintains the bars of all trades in Gold."""

    def __init__(self, spark: SparkSession) -> None:
        self._spark = spark
        self._bars = SnapshotHistory(spark, BARS_TABLE)
        self._gold = SnapshotHistory(spark, GOLD_TABLE)
        self._lock = threading.Lock()

    def run(self) -> bool:
        """Bring the bars up to Gold's newest snapshot; return whether anything changed. Raises errors of Spark."""
        with self._lock:
            return retry_on_conflict(self._round)

    def run_periodically(self, stop: threading.Event) -> None:
        """Run rounds until `stop` is set, in a thread of their own. An error ends the round, not the process."""
        rest = _INTERVAL
        while not stop.wait(rest * random.uniform(0.7, 1.3)):
            started = time.monotonic()
            try:
                self.run()
            except Exception:
                log.exception("bars not rebuilt, retrying in the next round")
            rest = max(_INTERVAL, _REST * (time.monotonic() - started))

    def _round(self) -> bool:
        before = next(self._bars.snapshots(), None)  # read first: later commits are conflicts
        history = self._history()
        gold = next(history, None)
        touched = self._touched(chain([gold], history)) if gold is not None else ChangedHours()
        if gold is None or not touched:
            return False
        started = time.monotonic()
        units = self._units(touched)
        # Whole exchanges may take longer than the snapshot is retained.
        with self._gold.held(gold.id, "bars") if touched.everything or touched.whole else nullcontext():
            self._commit(units, gold, before)
        log.info("bars rebuilt", units=len(units), gold=gold.id, seconds=round(time.monotonic() - started, 2))
        return True

    def _history(self) -> Iterator[Snapshot]:
        properties = self._gold.java_table().properties()
        deleted = {str(key): str(properties[key]) for key in properties if str(key).startswith(DELETED)}
        for snapshot in self._gold.snapshots():
            yield replace(snapshot, summary=effective_summary(snapshot.id, snapshot.summary, deleted))

    def _touched(self, history: Iterator[Snapshot]) -> ChangedHours:
        last = next((s.summary[GOLD_SNAPSHOT] for s in self._bars.snapshots() if GOLD_SNAPSHOT in s.summary), None)
        touched = changed_hours(history, int(last)) if last is not None else None
        return ChangedHours(everything=True) if touched is None else touched

    def _units(self, touched: ChangedHours) -> list[RebuildUnit]:
        if touched.everything:
            return [RebuildUnit()]
        hours = {exchange: hours for exchange, hours in touched.hours.items() if exchange not in touched.whole}
        return [RebuildUnit(exchange) for exchange in sorted(touched.whole)] + bars.rebuild_units(hours, self._files())

    def _files(self) -> Iterator[BarFile]:
        files = self._spark.table(f"{BARS_TABLE.identifier}.files")
        bounds = [F.hour(f"readable_metrics.open_time.{bound}_bound") for bound in ("lower", "upper")]
        for row in files.select("partition.exchange", "partition.exchange_date", *bounds).collect():
            yield BarFile(*row)

    def _commit(self, units: list[RebuildUnit], gold: Snapshot, before: Snapshot | None) -> None:
        trades = self._spark.read.option("versionAsOf", str(gold.id)).table(GOLD_TABLE.identifier)
        properties = {GOLD_SNAPSHOT: str(gold.id), QUERY: _QUERY}
        writer = bars.bars_of_units(trades, units).writeTo(BARS_TABLE.identifier).option("fanout-enabled", "true")
        writer = writer.option("isolation-level", "serializable")
        if before is not None:
            writer = writer.option("validate-from-snapshot-id", str(before.id))
        for key, value in properties.items():
            writer = writer.option(f"snapshot-property.{key}", value)
        writer.overwrite(reduce(or_, (unit.bars_filter() for unit in units)))
