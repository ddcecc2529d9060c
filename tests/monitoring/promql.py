"""Extract metrics and labels from PromQL, as far as the chart uses it; promtool checks the syntax."""

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable, Iterator

from prometheus_client.core import Metric

from k2.ingest.telemetry.metrics import IngestCollector
from k2.ingest.telemetry.stats import Counts, Stats
from k2.jobs.telemetry.metrics import JobsCollector, LayerState
from k2.operator import metrics as operator_metrics
from k2.schemas.channels import CHANNELS, QUOTES
from k2.schemas.records.quote import Quote
from k2.schemas.states import Verdict

_SELECTOR = re.compile(r"\b(k2_\w+)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"")
_GROUPING = re.compile(r"\b(by|on)\s*\(([\w\s,]*)\)")
_LABEL_REPLACE = re.compile(r"\"(\w+)\",\s*\"[^\"]*\",\s*\"\w*\",\s*\"[^\"]*\"\s*\)")  # label_replace's destination


def declared() -> dict[str, frozenset[str]]:
    """Return the labels of every sample that a process of K2 can export, by the sample's name."""
    metrics: dict[str, frozenset[str]] = {}
    for family in _families():
        for sample in family.samples:
            metrics[sample.name] = metrics.get(sample.name, frozenset()) | sample.labels.keys()
    return {name: labels for name, labels in metrics.items() if not name.endswith("_created")}


def _families() -> Iterator[Metric]:
    stats = Stats(started_at=0.0, clock_offset=0.0)
    for field in dataclasses.fields(stats):
        if isinstance(counts := getattr(stats, field.name), Counter | Counts):
            counts["one"] += 1
    for channel in CHANNELS:
        if channel is QUOTES:
            stats.newest["one"] = Quote("one", "BINANCE", 1, 1, 10, 1, 11, 1, 0, 0, None, "a", 1, Verdict.VERIFIED)
        collector = IngestCollector(stats, exchange="binance", feed="btc", channel=channel.name, shard="0-0")
        yield from collector.collect()

    layers = [LayerState(layer, "trades", "binance", "btc", 1.0, newest=1) for layer in ("bronze", "silver", "gold")]
    layers[1].dead_letters["UNDECODABLE"] = 1
    layers[2].incomplete_hours = 0
    yield from JobsCollector(layers).collect()

    operator_metrics.set_phase("k2", "btc", "binance", "Running")
    operator_metrics.RECONCILE_SECONDS.labels(feed="btc").observe(0.1)
    operator_metrics.RECONCILE_ERRORS.labels(feed="btc").inc()
    for metric in (
        operator_metrics.UP,
        operator_metrics.PHASE,
        operator_metrics.RECONCILE_SECONDS,
        operator_metrics.RECONCILE_ERRORS,
    ):
        yield from metric.collect()
    operator_metrics.remove_feed("k2", "btc", "binance")


def names(query: str) -> set[str]:
    """Return the metrics of a query."""
    return {name for name, _ in _SELECTOR.findall(query)}


def result_labels(query: str) -> set[str]:
    """Return the labels of a query's result: those that it groups by, and those of label_replace."""
    grouped = {label for kind, labels in _GROUPING.findall(query) if kind == "by" for label in _words(labels)}
    return grouped | set(_LABEL_REPLACE.findall(query))


def undeclared(query: str, exported: dict[str, frozenset[str]]) -> Iterable[str]:
    """Yield the metrics and labels of a query that no process exports."""
    if not names(query):
        yield "no metric at all"
    for name, matchers in _SELECTOR.findall(query):
        if name not in exported:
            yield name
        else:
            yield from (f"{name}{{{label}}}" for label in _MATCHER.findall(matchers) if label not in exported[name])
    for grouping in _GROUPING.finditer(query):
        kind, labels = grouping.groups()
        inner = query if kind == "on" else _argument(query, grouping.end())
        for name in names(inner) & exported.keys():
            yield from (f"{kind} {label} of {name}" for label in _words(labels) if label not in exported[name])


def _words(labels: str) -> list[str]:
    return [word.strip() for word in labels.split(",") if word.strip()]


def _argument(query: str, start: int) -> str:
    """Return the content of the parentheses that open next."""
    opened = query.index("(", start)
    depth = 0
    for at in range(opened, len(query)):
        depth += {"(": 1, ")": -1}.get(query[at], 0)
        if depth == 0:
            return query[opened + 1 : at]
    raise ValueError(f"not closed: {query}")
