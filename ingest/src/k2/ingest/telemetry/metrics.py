"""Prometheus metrics of an ingest process, read from `Stats` at each scrape."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from k2.ingest.telemetry.stats import Histogram, Stats
from k2.schemas.channels import CHANNELS
from k2.schemas.states import SymbolState, Verdict

_LABELS = ("exchange", "feed", "channel", "shard")
_OF_NEWEST = {channel.name: (channel.figures, channel.verdict_column) for channel in CHANNELS}


class IngestCollector(Collector):
    """Export the `Stats` of one channel of a shard to Prometheus."""

    def __init__(self, stats: Stats, *, exchange: str, feed: str, channel: str, shard: str) -> None:
        self._stats = stats
        self._channel = channel
        self._figures, self._verdict = _OF_NEWEST.get(channel, ((), ""))
        self._values = (exchange, feed, channel, shard)

    def collect(self) -> Iterable[Metric]:
        """Return all metric families with their current values."""
        s = self._stats
        yield self._gauge(
            "k2_ingest_connected", "1 while every websocket that the symbols need is open", int(s.connected)
        )
        yield self._gauges("k2_ingest_symbols", "wanted symbols by state", "state", s.symbols_by_state)
        yield self._gauge(
            "k2_ingest_circuit_state", "0 closed, 1 half open, 2 open (the websocket is not read)", s.circuit
        )
        yield self._gauge("k2_ingest_records_in_flight", "records sent to Kafka and not yet acknowledged", s.in_flight)
        yield self._gauge("k2_ingest_gaps_open", "gaps detected, neither repaired nor unrecoverable", s.gaps_open)
        yield self._gauge("k2_ingest_resident_bytes", "resident memory of this process", s.resident_bytes)
        yield self._gauge("k2_ingest_loop_lag_seconds", "by how much timers of the event loop are late", s.loop_lag)
        if s.clock_offset is not None:
            yield self._gauge(
                "k2_ingest_clock_offset_seconds",
                "how far this machine's clock is ahead of the exchange's",
                s.clock_offset,
            )
        yield self._counter("k2_ingest_messages_received", "records read from the websocket", "symbol", s.received)
        yield self._counter(
            f"k2_ingest_{self._channel}_delivered", f"{self._channel} that Kafka acknowledged", "symbol", s.delivered
        )
        yield self._counter("k2_ingest_gaps_detected", "gaps detected in the exchange's ids", "symbol", s.gaps_detected)
        yield self._counter("k2_ingest_gaps_repaired", "gaps repaired", "symbol", s.gaps_repaired)
        yield self._counter(
            "k2_ingest_gaps_never_issued", "gaps of ids that the exchange never issued", "symbol", s.gaps_never_issued
        )
        yield self._counter(
            "k2_ingest_gaps_unrecoverable", "gaps that no repair can close", "symbol", s.gaps_unrecoverable
        )
        yield self._counter("k2_ingest_duplicates", "records received more than once", "symbol", s.duplicates)
        yield self._counter(
            "k2_ingest_symbol_silences",
            "silences of symbols that the exchange's REST API disproved",
            "symbol",
            s.silences,
        )
        yield self._counter("k2_ingest_errors", "errors by kind", "kind", s.errors)
        yield self._counter("k2_ingest_dead_letters", "frames stored as dead letters", "error", s.dead_letters)
        yield self._total("k2_ingest_delivery_failures", "Kafka delivery reports with an error", s.failures)
        yield self._total("k2_ingest_reconnects", "websocket connections lost", s.reconnects)
        yield self._histogram("k2_ingest_lag_seconds", "time from the exchange's timestamp to the websocket", s.lag)
        yield self._histogram(
            "k2_ingest_delivery_seconds", "time from the websocket to Kafka's acknowledgement", s.delivery
        )
        yield from self._of_newest_records()

    def _of_newest_records(self) -> Iterator[Metric]:
        """Yield what the newest record of each symbol says, where its channel has such figures."""
        newest = sorted(self._stats.newest.items())
        if self._verdict:
            counts = Counter(getattr(record, self._verdict) for _, record in newest)
            by_verdict = {verdict: counts[verdict] for verdict in Verdict}
            text = "symbols by the verdict of their newest record"
            yield self._gauges("k2_ingest_verdict_symbols", text, "verdict", by_verdict)
        for figure in self._figures:
            family = GaugeMetricFamily(f"k2_ingest_{figure.name}", figure.description, labels=(*_LABELS, "symbol"))
            for symbol, record in newest:
                if (value := figure.value(record)) is not None:
                    family.add_metric((*self._values, symbol), value)
            yield family

    def _gauge(self, name: str, text: str, value: float) -> Metric:
        family = GaugeMetricFamily(name, text, labels=_LABELS)
        family.add_metric(self._values, value)
        return family

    def _gauges(
        self, name: str, text: str, label: str, values: Mapping[SymbolState, int] | Mapping[Verdict, int]
    ) -> Metric:
        family = GaugeMetricFamily(name, text, labels=(*_LABELS, label))
        for key, value in values.items():
            family.add_metric((*self._values, key.value), value)
        return family

    def _total(self, name: str, text: str, value: float) -> Metric:
        family = CounterMetricFamily(name, text, labels=_LABELS)
        family.add_metric(self._values, value)
        return family

    def _counter(self, name: str, text: str, label: str, counts: Mapping[str, int]) -> Metric:
        family = CounterMetricFamily(name, text, labels=(*_LABELS, label))
        for key, count in sorted(counts.items()):
            family.add_metric((*self._values, key), count)
        return family

    def _histogram(self, name: str, text: str, values: Histogram) -> Metric:
        family = HistogramMetricFamily(name, text, labels=_LABELS)
        family.add_metric(self._values, list(_buckets(values)), values.total / 1e6)
        return family


def _buckets(values: Histogram) -> Iterator[tuple[str, float]]:
    bounds = (*(str(bound) for bound in values.bounds), "+Inf")
    yield from zip(bounds, accumulate(values.counts), strict=True)


def registry(stats: Stats, *, exchange: str, feed: str, channel: str, shard: str) -> CollectorRegistry:
    """Return a registry with the metrics of one channel of a shard."""
    collectors = CollectorRegistry()
    collectors.register(IngestCollector(stats, exchange=exchange, feed=feed, channel=channel, shard=shard))
    return collectors
