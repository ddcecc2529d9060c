"""Keeps the bars equal to Gold: the hours that Gold's commits have touched are rebuilt, some moments after them.

A commit of bars names the Gold snapshot that all bars then equal. So a process that ends between Gold's commit and the
bars' loses nothing: whoever comes next goes on from there. Every driver of Gold does this for all feeds; where two
meet, one of them finds the work done. It runs beside the streams, and rests many times as long as it works.
"""

import random
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import reduce
from itertools import chain
from operator import or_
from typing import Final

from pyspark.sql import SparkSession
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.common import logs
from k2.jobs.commit.appender import QUERY, Snapshot, TableLog
from k2.jobs.commit.retry import until_won
from k2.jobs.layers import bars
from k2.jobs.layers.bars import File, Unit
from k2.schemas.bars import DELETED, GOLD_SNAPSHOT, Touched, changed, summary
from k2.schemas.tables import BARS_TABLE, GOLD_TABLE

log = logs.get("bars")

_QUERY: Final = "bars"  # the newest commit under a query's name outlives the expiry of snapshots
_EVERY: Final = 30.0
_REST: Final = 9.0  # times as long as a round took: streams need the machine more


class Upkeep:
    """Maintains the bars of everything that is in Gold."""

    def __init__(self, spark: SparkSession) -> None:
        self._spark = spark
        self._bars = TableLog(spark, BARS_TABLE)
        self._gold = TableLog(spark, GOLD_TABLE)
        self._working = threading.Lock()

    def run(self) -> bool:
        """Brings the bars up to Gold's newest snapshot; whether there was anything to do. Raises what Spark raises."""
        with self._working:
            return until_won(self._round)

    def keep(self, stop: threading.Event) -> None:
        """Rounds until `stop` is set, in a thread of their own. Nothing that happens in one ends the process."""
        rest = _EVERY
        while not stop.wait(rest * random.uniform(0.7, 1.3)):
            started = time.monotonic()
            try:
                self.run()
            except Exception:
                log.exception("the bars could not be rebuilt; the next round does it")
            rest = max(_EVERY, _REST * (time.monotonic() - started))

    def _round(self) -> bool:
        before = next(self._bars.snapshots(), None)  # first: what is committed after it is a conflict
        history = self._history()
        gold = next(history, None)
        touched = self._touched(chain([gold], history)) if gold is not None else Touched()
        if gold is None or not touched:
            return False
        started = time.monotonic()
        wanted = self._units(touched)
        self._commit(wanted, gold, before)
        log.info("rebuilt", units=len(wanted), gold=gold.id, seconds=round(time.monotonic() - started, 2))
        return True

    def _history(self) -> Iterator[Snapshot]:
        properties = self._gold.java_table().properties()
        deleted = {str(key): str(properties[key]) for key in properties if str(key).startswith(DELETED)}
        for snapshot in self._gold.snapshots():
            yield replace(snapshot, summary=summary(snapshot.id, snapshot.summary, deleted))

    def _touched(self, history: Iterator[Snapshot]) -> Touched:
        made_of = next((s.summary[GOLD_SNAPSHOT] for s in self._bars.snapshots() if GOLD_SNAPSHOT in s.summary), None)
        found = changed(history, int(made_of)) if made_of is not None else None
        return Touched(everything=True) if found is None else found

    def _units(self, touched: Touched) -> list[Unit]:
        if touched.everything:
            return [Unit()]
        few = {exchange: hours for exchange, hours in touched.hours.items() if exchange not in touched.whole}
        return [Unit(exchange) for exchange in sorted(touched.whole)] + bars.units(few, self._files())

    def _files(self) -> Iterator[File]:
        files = self._spark.table(f"{BARS_TABLE.identifier}.files")
        bounds = [F.hour(f"readable_metrics.start.{bound}_bound") for bound in ("lower", "upper")]
        for row in files.select("partition.exchange", "partition.exchange_date", *bounds).collect():
            yield File(*row)

    def _commit(self, wanted: list[Unit], gold: Snapshot, before: Snapshot | None) -> None:
        trades = self._spark.read.option("versionAsOf", str(gold.id)).table(GOLD_TABLE.identifier)
        properties = {GOLD_SNAPSHOT: str(gold.id), QUERY: _QUERY}
        writer = bars.of_units(trades, wanted).writeTo(BARS_TABLE.identifier).option("fanout-enabled", "true")
        writer = writer.option("isolation-level", "serializable")
        if before is not None:
            writer = writer.option("validate-from-snapshot-id", str(before.id))
        for key, value in properties.items():
            writer = writer.option(f"snapshot-property.{key}", value)
        writer.overwrite(reduce(or_, (unit.of_bars() for unit in wanted)))
