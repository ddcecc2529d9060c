"""The app that runs the layers of one or more feeds in one Spark application: starts, restarts and drains them."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from pyspark.sql import SparkSession

from k2.common import logs
from k2.common.platform import Platform
from k2.common.schema_registry import RegistryUnavailable
from k2.jobs.audit.periodic import PeriodicAudit
from k2.jobs.audit.status import AuditStatus
from k2.jobs.commit import retry
from k2.jobs.commit.checkpoints import BrokenCheckpoint
from k2.jobs.commit.commit_log import CommitLog
from k2.jobs.feed_channels import feed_channels
from k2.jobs.kafka_admin import KafkaUnavailable
from k2.jobs.maintenance.bar_maintenance import BarMaintainer
from k2.jobs.maintenance.runner import Maintenance
from k2.jobs.spark import tables
from k2.jobs.spark.listener import ProgressListener
from k2.jobs.stream import (
    GAPS,
    GOLD,
    LAYER_ORDER,
    SILVER,
    CheckpointInUse,
    NotDrained,
    Stream,
    failure_reason,
    initial_state,
)
from k2.jobs.telemetry import error_summary, metrics, server
from k2.schemas.channels import TRADES, Channel, exchange_tables
from k2.schemas.feed.model import ExchangeFeed
from k2.schemas.states import QueryState

log = logs.get("jobs")

# Seconds.
_CHECK_INTERVAL: Final = 0.5
_COMMIT_LOG_INTERVAL: Final = 60.0
_WAITING_INTERVAL: Final = 2.0
_RESTART_FIRST: Final = 2.0
_RESTART_LIMIT: Final = 60.0
_STOP_TIMEOUT: Final = 60.0


class LayerFailed(RuntimeError):
    """A streaming query failed."""


@dataclass(slots=True)
class _SupervisedStream:
    stream: Stream
    failures: int = 0
    retry_at: float = field(default=0.0)


class App:
    """Runs the layers of feeds, for each of their channels, until it is stopped.

    `channels` replaces the channels that the feeds record. With `restart` a failed query is restarted while the others
    continue; without it the failure ends the app, and the app's supervisor restarts the process. With `audit`
    everything in the catalog is audited minutes after the start, hourly, and at the end.
    """

    def __init__(
        self,
        spark: SparkSession,
        platform: Platform,
        feeds: Sequence[ExchangeFeed],
        layers: Sequence[str],
        *,
        restart: bool,
        channels: Sequence[Channel] | None = None,
        audit: bool = False,
    ) -> None:
        self._spark = spark
        self._restart = restart
        active = [feed for feed in feeds if not feed.spec.suspend]
        recorded = feed_channels(active, channels)
        self._tables = {
            table.name: table for feed, channel in recorded for table in exchange_tables(feed.spec.exchange, [channel])
        }
        queries: list[tuple[ExchangeFeed, Channel | None, str]] = [
            (feed, channel, layer) for layer in LAYER_ORDER if layer in layers for feed, channel in recorded
        ]
        if GOLD in layers:
            queries += [(feed, None, GAPS) for feed in active]
        self.streams = [
            Stream(spark, feed, platform, channel, layer, initial_state(feed, channel, layer))
            for feed, channel, layer in queries
        ]
        self._supervised = [_SupervisedStream(stream) for stream in self.streams]
        # Of a feed's drivers, the one that runs Gold maintains the tables and writes the commit log and the bars.
        self._commit_log = CommitLog(spark, active, channels) if GOLD in layers else None
        self._audit_status = AuditStatus(
            spark, [(stream.feed, stream.state) for stream in self.streams if stream.layer == GOLD]
        )
        self._maintenance = Maintenance(spark, platform, active, channels) if GOLD in layers else None
        self._audit = PeriodicAudit(spark, platform) if audit else None
        has_trades = any(channel is TRADES for _, channel in recorded)
        self._bar_maintainer = BarMaintainer(spark) if GOLD in layers and has_trades else None

    def serve(self, host: str, port: int) -> None:
        """Serve /metrics and /status. Raises OSError if the port is in use."""
        states = [stream.state for stream in self.streams]
        server.serve(states, metrics.registry(states), host, port)

    def run(self, stop: threading.Event) -> None:
        """Run until `stop` is set, then drain.

        Raises `OtherFormat`, `TableDrifted`, and without `restart` `LayerFailed`, `BrokenCheckpoint` and
        `RegistryUnavailable`.
        """
        tables.ensure(self._spark, self._tables.values())
        self._audit_status.refresh()
        self._spark.streams.addListener(ProgressListener(self.streams))
        for supervised in self._supervised:
            self._start(supervised)
        if self._maintenance is not None:
            threading.Thread(target=self._maintenance.run_hourly, args=(stop,), name="maintenance", daemon=True).start()
        if self._bar_maintainer is not None:
            threading.Thread(
                target=self._bar_maintainer.run_periodically, args=(stop,), name="bars", daemon=True
            ).start()
        if self._audit is not None:
            threading.Thread(target=self._audit.run_hourly, args=(stop,), name="audit", daemon=True).start()
        log.info("started", queries=[stream.name for stream in self.streams])
        recorded = time.monotonic()
        while not stop.wait(_CHECK_INTERVAL):
            self._check_streams()
            if time.monotonic() - recorded > _COMMIT_LOG_INTERVAL:
                self._record_commits(settled=False)
                recorded = time.monotonic()
        self.drain()

    def drain(self) -> None:
        """Stop every query between two batches, then process the remaining data layer by layer.

        A query that fails does not keep the others from it. Raises `LayerFailed`, in the end, with those that failed.
        """
        log.info("draining")
        failed: dict[str, str] = {}
        for stream in self.streams:
            stream.stop_between_batches(_STOP_TIMEOUT)
        for layer in LAYER_ORDER:
            streams = [stream for stream in self.streams if stream.layer == layer]
            streams = [stream for stream in streams if stream.state.state != QueryState.WAITING]
            for stream in streams:
                if reason := _failure(stream.drain):
                    failed[stream.name] = reason
            for stream in streams:
                if stream.name not in failed and (reason := _failure(stream.await_drained)):
                    failed[stream.name] = reason
                stream.state.state = QueryState.FAILED if stream.name in failed else QueryState.DRAINED
                stream.state.message = failed.get(stream.name, "")
        # Silver of another driver may be between the valid records and the dead letters of a batch.
        self._record_commits(settled=SILVER in {stream.layer for stream in self.streams})
        self._finish_bars()
        if self._audit is not None:
            self._audit.run()
        for stream in self.streams:
            stream.release_checkpoint()
        log.info("drained", rows={stream.name: stream.state.rows for stream in self.streams})
        if failed:
            raise LayerFailed(f"not drained: {'; '.join(f'{name}: {reason}' for name, reason in failed.items())}")

    def _record_commits(self, *, settled: bool) -> None:
        """Copy new commits into the commit log and refresh the audit status."""
        try:
            if self._commit_log is not None:
                self._commit_log.record(settled=settled)
            self._audit_status.refresh()
        except retry.ERRORS as error:
            if not retry.is_conflict(error):
                raise
            log.info("commit log conflict, retrying in the next minute", error=str(error)[:200])

    def _finish_bars(self) -> None:
        try:
            if self._bar_maintainer is not None:
                self._bar_maintainer.run()
        except retry.ERRORS as error:
            log.warning("bars are behind Gold until the next start", error=str(error)[:200])

    def _start(self, supervised: _SupervisedStream) -> None:
        state = supervised.stream.state
        if reason := supervised.stream.waiting_reason():
            self._wait(supervised, reason)
            return
        if state.state == QueryState.WAITING:
            state.message = ""
        try:
            supervised.stream.start()
        except KafkaUnavailable as error:
            self._wait(supervised, str(error))
        except (BrokenCheckpoint, RegistryUnavailable) as error:
            if not self._restart:
                raise
            self._on_failure(supervised, str(error))

    def _wait(self, supervised: _SupervisedStream, reason: str) -> None:
        state = supervised.stream.state
        if state.message != reason:
            log.warning("waiting", query=supervised.stream.name, reason=reason)
        state.state, state.message = QueryState.WAITING, reason
        supervised.retry_at = time.monotonic() + _WAITING_INTERVAL

    def _check_streams(self) -> None:
        for supervised in self._supervised:
            query, state = supervised.stream.query, supervised.stream.state
            if state.state == QueryState.RUNNING and query is not None and not query.isActive:
                self._on_failure(supervised, failure_reason(query))
            elif state.state in {QueryState.FAILED, QueryState.WAITING} and time.monotonic() >= supervised.retry_at:
                self._start(supervised)
            elif state.state == QueryState.RUNNING and state.batches > 0 and supervised.failures:
                supervised.failures, state.message = 0, ""

    def _on_failure(self, supervised: _SupervisedStream, reason: str) -> None:
        state = supervised.stream.state
        state.state, state.message = QueryState.FAILED, reason
        log.error("query failed", query=supervised.stream.name, error=reason, failures=supervised.failures)
        if not self._restart:
            raise LayerFailed(f"{supervised.stream.name}: {reason}")
        supervised.stream.release_checkpoint()  # a recovery may need it
        supervised.retry_at = time.monotonic() + min(_RESTART_LIMIT, _RESTART_FIRST * 2.0**supervised.failures)
        supervised.failures += 1


def _failure(step: Callable[[], None]) -> str:
    """Take a step of a query that is being drained; return why it failed, in one line."""
    try:
        step()
    except (BrokenCheckpoint, CheckpointInUse, RegistryUnavailable, KafkaUnavailable, NotDrained) as error:
        return str(error)
    except retry.ERRORS as error:
        return error_summary.summarize(error_summary.full_text(error))
    return ""
