"""Metrics and the status document of an ingest process."""

import time

import aiohttp
import msgspec
import pytest
from prometheus_client import generate_latest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from k2.ingest.telemetry import metrics, server
from k2.ingest.telemetry.stats import Histogram, Stats
from k2.schemas.channels import TRADES
from k2.schemas.records.quote import Quote
from k2.schemas.records.trade import Side, Trade
from k2.schemas.states import SymbolState, Verdict

LABELS = {"exchange": "binance", "feed": "spot", "shard": "0-0"}
ALL_LABELS = {**LABELS, "channel": "trades"}
PUBLISHED = """
k2_ingest_connected k2_ingest_messages_received_total k2_ingest_trades_delivered_total
k2_ingest_delivery_failures_total k2_ingest_reconnects_total k2_ingest_errors_total k2_ingest_lag_seconds
k2_ingest_delivery_seconds k2_ingest_gaps_detected_total k2_ingest_gaps_repaired_total k2_ingest_duplicates_total
k2_ingest_circuit_state
""".split()


@pytest.fixture
def stats():
    counted = Stats(started_at=time.monotonic(), symbols=("BTCUSDT", "XYZUSDT", "ETHUSDT"))
    counted.connections, counted.circuit, counted.in_flight, counted.reconnects, counted.failures = 1, 2, 3, 4, 5
    for counter in (counted.received, counted.gaps_detected, counted.gaps_repaired, counted.duplicates):
        counter["BTCUSDT"] += 7
    counted.delivered["BTCUSDT"] += 6
    counted.errors["connect"] += 2
    counted.dead_letters["MALFORMED_FRAME"] += 1
    counted.newest["BTCUSDT"] = Trade(
        "1", "BTCUSDT", "BINANCE", "BTC", "USDT", 1, 61_837_630_000_000_000, 1, Side.BUY, 1
    )
    counted.last_received = 1_700_000_000_000_000
    counted.refused["XYZUSDT"] = "Invalid symbol."
    counted.symbol_states = {
        "BTCUSDT": (SymbolState.FLOWING, ""), "XYZUSDT": (SymbolState.REFUSED, "Invalid symbol."),
    }  # fmt: skip
    counted.silences["BTCUSDT"] += 3
    counted.lag.observe(-1_270_000)
    counted.lag.observe(20_000)
    return counted


def samples(stats: Stats) -> dict[tuple, float]:
    text = generate_latest(metrics.registry(stats, **ALL_LABELS)).decode()
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_every_published_metric_exists_from_the_start():
    text = generate_latest(metrics.registry(Stats(started_at=0.0), **ALL_LABELS)).decode()
    types = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    assert set(PUBLISHED) <= types


def test_every_sample_carries_exchange_feed_channel_and_shard(stats):
    labelled = [set(dict(key[1:])) for key in samples(stats)]
    assert all(set(ALL_LABELS) <= names for names in labelled)


def test_metrics_have_the_counted_values(stats):
    exported = samples(stats)
    base = tuple(sorted(ALL_LABELS.items()))

    def value(name: str, **labels: str) -> float:
        return exported[name, *sorted((ALL_LABELS | labels).items())]

    assert exported["k2_ingest_connected", *base] == 1
    assert value("k2_ingest_circuit_state") == 2
    assert [value("k2_ingest_symbols", state=state) for state in ("flowing", "refused", "wanted", "quiet")] == [
        1,
        1,
        1,
        0,
    ]
    assert value("k2_ingest_symbol_silences_total", symbol="BTCUSDT") == 3
    assert value("k2_ingest_reconnects_total") == 4
    assert value("k2_ingest_delivery_failures_total") == 5
    assert value("k2_ingest_messages_received_total", symbol="BTCUSDT") == 7
    assert value("k2_ingest_trades_delivered_total", symbol="BTCUSDT") == 6
    assert value("k2_ingest_gaps_detected_total", symbol="BTCUSDT") == 7
    assert value("k2_ingest_gaps_repaired_total", symbol="BTCUSDT") == 7
    assert value("k2_ingest_duplicates_total", symbol="BTCUSDT") == 7
    assert value("k2_ingest_errors_total", kind="connect") == 2
    assert value("k2_ingest_dead_letters_total", error="MALFORMED_FRAME") == 1


def test_quotes_have_a_spread_and_symbols_by_verdict(stats):
    numbers = {"ingestion_timestamp": 1, "exchange_timestamp": 1, "price_exponent": -2, "quantity_exponent": 0}
    fields = numbers | {"exchange": "BINANCE", "bid_quantity": 1, "ask_quantity": 1, "sequence": None}
    for at, (symbol, bid, verdict) in enumerate(
        [
            ("BTCUSDT", 9_999, Verdict.VERIFIED),
            ("ETHUSDT", None, Verdict.SUSPECT),
            ("XYZUSDT", 10_001, Verdict.VERIFIED),
        ]
    ):
        stats.newest[symbol] = Quote(
            symbol=symbol, bid_price=bid, ask_price=10_001, connection="a", ordinal=at, verdict=verdict, **fields
        )
    labels = ALL_LABELS | {"channel": "quotes"}
    text = generate_latest(metrics.registry(stats, **labels)).decode()
    exported = {
        (sample.name, sample.labels.get("symbol") or sample.labels.get("verdict")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if family.name in {"k2_ingest_spread_ratio", "k2_ingest_verdict_symbols"}
    }
    assert exported == {
        ("k2_ingest_spread_ratio", "BTCUSDT"): pytest.approx(0.0002),
        ("k2_ingest_spread_ratio", "XYZUSDT"): 0,
        ("k2_ingest_verdict_symbols", "verified"): 2,
        ("k2_ingest_verdict_symbols", "unverifiable"): 0,
        ("k2_ingest_verdict_symbols", "suspect"): 1,
    }
    assert not {name for name, *_ in samples(stats)} & {"k2_ingest_spread_ratio", "k2_ingest_verdict_symbols"}


def test_lag_may_be_negative(stats):
    exported = samples(stats)
    buckets = {
        dict(key[1:])["le"]: value for key, value in exported.items() if key[0] == "k2_ingest_lag_seconds_bucket"
    }
    assert (buckets["-1.0"], buckets["0.0"], buckets["0.025"], buckets["+Inf"]) == (1, 1, 2, 2)


def test_a_value_on_a_bound_counts_in_the_lower_bucket():
    histogram = Histogram((0.001, 0.01))
    for micros in (1000, 1001, 10_000, 10_001):
        histogram.observe(micros)
    assert (histogram.counts, histogram.total) == ([1, 2, 1], 22_002)


def test_the_status_document_has_the_counted_values(stats):
    document = msgspec.to_builtins(server.shard_status(stats, TRADES, feed="spot", exchange="binance", shard="0-0"))
    assert (document["connected"], document["received"], document["delivered"], document["inFlight"]) == (True, 7, 6, 3)
    assert document["gaps"] == {"open": 0, "detected": 7, "repaired": 7, "unrecoverable": 0}
    assert (document["circuit"], document["reconnects"], document["duplicates"]) == ("open", 4, 7)
    assert document["symbols"] == {
        "BTCUSDT": {"received": 7, "price": "61837.63", "state": "flowing", "reason": ""},
        "XYZUSDT": {"received": 0, "price": "", "state": "refused", "reason": "Invalid symbol."},
    }
    counts = {"flowing": 1, "refused": 1, "wanted": 1}
    assert document["states"] == {state.value: counts.get(state, 0) for state in SymbolState}
    assert document["lastMessageTime"] == "2023-11-14T22:13:20+00:00"
    assert document["refused"] == {"XYZUSDT": "Invalid symbol."}
    assert server.shard_status(Stats(0.0), TRADES, feed="f", exchange="e", shard="s").last_message_time is None


async def test_a_shard_is_ready_while_connected_and_kafka_accepts_records(stats):
    runner = await server.serve(
        stats, TRADES, metrics.registry(stats, **ALL_LABELS), host="127.0.0.1", port=0, **LABELS
    )
    base = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        async with aiohttp.ClientSession() as http:

            async def get(path: str) -> tuple[int, str]:
                async with http.get(base + path) as response:
                    return response.status, await response.text()

            stats.circuit = 0
            assert await get("/readyz") == (200, "ok\n")
            stats.lanes = 2  # one of two connections is open
            assert await get("/readyz") == (503, "not connected\n")
            stats.lanes = 1
            stats.circuit, stats.message = 2, "Kafka does not response"
            assert await get("/readyz") == (503, "Kafka does not response\n")
            stats.circuit, stats.connections, stats.message = 0, 0, ""
            assert await get("/readyz") == (503, "not connected\n")
            assert await get("/healthz") == (200, "ok\n")
            stats.stuck = "records are stuck"
            assert await get("/healthz") == (503, "records are stuck\n")
            stats.stuck, stats.heartbeats["monitor"] = "", time.monotonic() - 40
            assert await get("/healthz") == (503, "the monitor loop has not moved for 40 s\n")
            stats.heartbeats["monitor"] = time.monotonic()
            assert await get("/healthz") == (200, "ok\n")
            assert (await get("/status"))[0] == 200
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("accept", "content_type", "parse"),
    [
        ("", "text/plain; version=0.0.4; charset=utf-8", text_string_to_metric_families),
        (
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2",
            "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=underscores",
            openmetrics.text_string_to_metric_families,
        ),
    ],
)
async def test_metrics_are_encoded_as_the_client_accepts(stats, accept, content_type, parse):
    runner = await server.serve(
        stats, TRADES, metrics.registry(stats, **ALL_LABELS), host="127.0.0.1", port=0, **LABELS
    )
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/metrics"
    try:
        async with aiohttp.ClientSession() as http, http.get(url, headers={"Accept": accept}) as response:
            assert response.headers["Content-Type"] == content_type
            assert "k2_ingest_connected" in {family.name for family in parse(await response.text())}
    finally:
        await runner.cleanup()
