"""The layers of one or more feeds in one Spark application: started, watched, restarted, drained."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from pyspark.sql import SparkSession

from k2.common import logs
from k2.common.platform import Platform
from k2.jobs.audit.audit_status import AuditWatch
from k2.jobs.commit import retry
from k2.jobs.commit.checkpoints import BrokenCheckpoint
from k2.jobs.commit.commit_log import Ledger
from k2.jobs.maintenance.bar_maintenance import Upkeep
from k2.jobs.maintenance.runner import Maintenance
from k2.jobs.spark import tables
from k2.jobs.spark.listener import ProgressListener
from k2.jobs.stream import GAPS, GOLD, ORDER, SILVER, Stream, ended, state_of
from k2.jobs.telemetry import metrics, server
from k2.schemas.feed.model import ExchangeFeed
from k2.schemas.tables import of_exchange

log = logs.get("jobs")

_WATCH_EVERY: Final = 0.5
_NOTES_EVERY: Final = 60.0
_AWAITED_EVERY: Final = 2.0
_RESTART_FIRST: Final = 2.0
_RESTART_LIMIT: Final = 60.0
_SETTLE: Final = 60.0
_DRAIN: Final = 300.0


class LayerFailed(RuntimeError):
    """A query ended that should not have."""


@dataclass(slots=True)
class _Watched:
    stream: Stream
    failures: int = 0
    retry_at: float = field(default=0.0)


class App:
    """Runs layers until it is told to stop.

    With `restart` a query that fails is started again while the others go on; without, its failure ends the app, and
    whoever runs the app starts it again.
    """

    def __init__(
        self,
        spark: SparkSession,
        platform: Platform,
        feeds: Sequence[ExchangeFeed],
        layers: Sequence[str],
        *,
        restart: bool,
    ) -> None:
        self._spark = spark
        self._restart = restart
        wanted = [layer for layer in ORDER if layer in layers or (layer == GAPS and GOLD in layers)]
        active = [feed for feed in feeds if not feed.spec.suspend]
        self._tables = {table.name: table for feed in active for table in of_exchange(feed.spec.exchange)}
        self.streams = [
            Stream(spark, feed, platform, layer, state_of(feed, layer)) for layer in wanted for feed in active
        ]
        self._watched = [_Watched(stream) for stream in self.streams]
        # Each table needs one that maintains it, and one that writes the ledger and the bars: of the drivers of a feed,
        # the one that runs Gold.
        self._ledger = Ledger(spark, active) if GOLD in layers else None
        self._audits = AuditWatch(
            spark, [(stream.feed, stream.state) for stream in self.streams if stream.layer == GOLD]
        )
        self._maintenance = Maintenance(spark, platform, active) if GOLD in layers else None
        self._upkeep = Upkeep(spark) if GOLD in layers else None

    def serve(self, host: str, port: int) -> None:
        """Opens /metrics and /status. Raises OSError if the port is taken."""
        states = [stream.state for stream in self.streams]
        server.serve(states, metrics.registry(states), host, port)

    def run(self, stop: threading.Event) -> None:
        """Runs until `stop` is set, then drains. Raises `LayerFailed`, `TableDrifted`, `BrokenCheckpoint`."""
        tables.ensure(self._spark, self._tables.values())
        self._audits.look()
        self._spark.streams.addListener(ProgressListener(self.streams))
        for watched in self._watched:
            self._start(watched)
        if self._maintenance is not None:
            threading.Thread(target=self._maintenance.hourly, args=(stop,), name="maintenance", daemon=True).start()
        if self._upkeep is not None:
            threading.Thread(target=self._upkeep.keep, args=(stop,), name="bars", daemon=True).start()
        log.info("started", queries=[stream.name for stream in self.streams])
        recorded = time.monotonic()
        while not stop.wait(_WATCH_EVERY):
            self._watch()
            if time.monotonic() - recorded > _NOTES_EVERY:
                self._note(settled=False)
                recorded = time.monotonic()
        self.drain()

    def drain(self) -> None:
        """Stops every query between two batches, then takes what is left, layer after layer."""
        log.info("draining")
        for stream in self.streams:
            stream.settle(_SETTLE)
        for layer in ORDER:
            found = [stream for stream in self.streams if stream.layer == layer]
            found = [stream for stream in found if stream.state.state != "WAITING"]
            for stream in found:
                stream.drain()
            for stream in found:
                assert stream.query is not None
                stream.query.awaitTermination(int(_DRAIN))
                stream.state.state = "DRAINED"
        # Another driver's Silver may be between a batch's trades and its dead letters.
        self._note(settled=SILVER in {stream.layer for stream in self.streams})
        self._finish_bars()
        log.info("drained", rows={stream.name: stream.state.rows for stream in self.streams})

    def _note(self, *, settled: bool) -> None:
        """Copies commits into the ledger, and looks at what the audit found."""
        try:
            if self._ledger is not None:
                self._ledger.record(settled=settled)
            self._audits.look()
        except retry.ERRORS as error:
            if not retry.lost(error):
                raise
            log.info("the ledger is written in the next minute", error=str(error)[:200])

    def _finish_bars(self) -> None:
        try:
            if self._upkeep is not None:
                self._upkeep.run()
        except retry.ERRORS as error:
            log.warning("the bars are behind Gold; the next start makes up for it", error=str(error)[:200])

    def _start(self, watched: _Watched) -> None:
        state = watched.stream.state
        if lacking := watched.stream.awaited():
            if state.message != lacking:
                log.warning("waiting", query=watched.stream.name, why=lacking)
            state.state, state.message = "WAITING", lacking
            watched.retry_at = time.monotonic() + _AWAITED_EVERY
            return
        if state.state == "WAITING":
            state.message = ""
        try:
            watched.stream.start()
        except BrokenCheckpoint as error:
            if not self._restart:
                raise
            self._failed(watched, str(error))

    def _watch(self) -> None:
        for watched in self._watched:
            query, state = watched.stream.query, watched.stream.state
            if state.state == "RUNNING" and query is not None and not query.isActive:
                self._failed(watched, ended(query))
            elif state.state in {"FAILED", "WAITING"} and time.monotonic() >= watched.retry_at:
                self._start(watched)
            elif state.state == "RUNNING" and state.batches > 0 and watched.failures:
                watched.failures, state.message = 0, ""

    def _failed(self, watched: _Watched, why: str) -> None:
        state = watched.stream.state
        state.state, state.message = "FAILED", why
        log.error("query failed", query=watched.stream.name, error=why, failures=watched.failures)
        if not self._restart:
            raise LayerFailed(f"{watched.stream.name}: {why}")
        watched.retry_at = time.monotonic() + min(_RESTART_LIMIT, _RESTART_FIRST * 2.0**watched.failures)
        watched.failures += 1
