"""The operator's metrics of feeds that share a name."""

from prometheus_client import REGISTRY

from k2.operator import metrics


def _phases(feed: str) -> set[str]:
    samples = metrics.PHASE.collect()[0].samples
    return {sample.labels["phase"] for sample in samples if sample.labels["feed"] == feed and sample.value}


def test_a_rejected_feed_of_the_same_name_does_not_hide_the_running_one():
    metrics.set_phase("here", "shared", "binance", "Running")
    metrics.set_phase("there", "shared", "binance", "Failed")
    assert _phases("shared") == {"Running", "Failed"}
    metrics.set_phase("here", "shared", "binance", "Degraded")
    assert _phases("shared") == {"Degraded", "Failed"}
    metrics.remove_feed("there", "shared", "binance")
    assert _phases("shared") == {"Degraded"}


def test_the_series_of_the_last_feed_of_a_name_are_removed():
    metrics.set_phase("here", "last", "binance", "Running")
    metrics.RECONCILE_ERRORS.labels(feed="last").inc()
    metrics.remove_feed("here", "last", "binance")
    assert not [sample for sample in metrics.PHASE.collect()[0].samples if sample.labels["feed"] == "last"]
    assert REGISTRY.get_sample_value("k2_operator_reconcile_errors_total", {"feed": "last"}) is None


def test_removing_a_feed_that_was_never_reported_is_allowed():
    metrics.remove_feed("here", "unknown", "binance")
    assert not _phases("unknown")
