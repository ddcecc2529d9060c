"""Every metric of an ingest process, declared in one place and read from `Stats` when Prometheus asks."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from k2.ingest.telemetry.stats import Histogram, Stats

_LABELS = ("exchange", "feed", "shard")


class IngestCollector(Collector):
    """Shows one shard's `Stats` to Prometheus."""

    def __init__(self, stats: Stats, *, exchange: str, feed: str, shard: str) -> None:
        self._stats = stats
        self._values = (exchange, feed, shard)

    def collect(self) -> Iterable[Metric]:
        """The metric families, with their values now."""
        s = self._stats
        yield self._gauge("k2_ingest_connection_status", "1 while a websocket is open", int(s.connections > 0))
        yield self._gauge("k2_ingest_circuit_state", "0 closed, 1 half open, 2 open: the socket is not read", s.circuit)
        yield self._gauge("k2_ingest_records_in_flight", "sent to Kafka and not yet acknowledged", s.in_flight)
        yield self._gauge("k2_ingest_gaps_open", "gaps found and neither repaired nor given up", s.gaps_open)
        yield self._gauge("k2_ingest_resident_bytes", "memory of this process", s.resident_bytes)
        yield self._counter("k2_ingest_messages_received", "trades read from the socket", "symbol", s.received)
        delivered = {key.decode(): count for key, count in s.delivered.items()}
        yield self._counter("k2_ingest_trades_delivered", "trades that Kafka acknowledged", "symbol", delivered)
        yield self._counter("k2_ingest_gaps_detected", "gaps found by the exchange's ids", "symbol", s.gaps_detected)
        yield self._counter("k2_ingest_gaps_repaired", "gaps closed", "symbol", s.gaps_repaired)
        yield self._counter("k2_ingest_gaps_unrecoverable", "gaps given up", "symbol", s.gaps_unrecoverable)
        yield self._counter("k2_ingest_duplicates", "trades that came before", "symbol", s.duplicates)
        yield self._counter("k2_ingest_errors", "errors by kind", "kind", s.errors)
        yield self._counter("k2_ingest_dead_letters", "frames kept as dead letters", "error", s.dead_letters)
        yield self._total("k2_ingest_delivery_failures", "delivery reports with an error", s.failures)
        yield self._total("k2_ingest_reconnects", "connections lost", s.reconnects)
        yield self._histogram("k2_ingest_lag_seconds", "exchange time to socket", s.lag)
        yield self._histogram("k2_ingest_delivery_seconds", "socket to Kafka's acknowledgement", s.delivery)

    def _gauge(self, name: str, text: str, value: float) -> Metric:
        family = GaugeMetricFamily(name, text, labels=_LABELS)
        family.add_metric(self._values, value)
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


def registry(stats: Stats, *, exchange: str, feed: str, shard: str) -> CollectorRegistry:
    """A registry that holds these metrics and nothing else."""
    found = CollectorRegistry()
    found.register(IngestCollector(stats, exchange=exchange, feed=feed, shard=shard))
    return found
