from dataclasses import replace
from datetime import timedelta

import pytest

from k2.operator.observed import conditions
from k2.operator.observed.conditions import Condition
from k2.operator.observed.objects import Application, Audit, Deployment, Layer, Observed, Rebuild, Shard, Topic
from k2.operator.observed.status import (
    blocked,
    events,
    is_significant,
    listing_events,
    previous_conditions,
    rebuild_events,
    shard_events,
    status,
)
from tests.unit.operator.conftest import NOW

EARLIER = NOW - timedelta(hours=1)
SEEN = Observed(
    topics={"market.crypto.trades.binance": Topic("t", EARLIER, True)},
    deployments=(Deployment("a", 1, 1, current=True), Deployment("b", 1, 1, current=True)),
    shards=(
        Shard("0-0", True, rate=400.4, last_message="2026-01-02T03:04:01+00:00", reconnects=1, open_gaps=1),
        Shard("1-0", True, rate=411.2, last_message="2026-01-02T03:04:03+00:00", repaired_gaps=4, dead_letters=2),
    ),
    applications={
        f"binance-{layer}": Application(f"binance-{layer}", EARLIER, "RUNNING", submitted_at=EARLIER)
        for layer in ("bronze", "silver", "gold")
    },
    layers={
        "bronze": Layer("RUNNING", rows=123, committed="2026-01-02T03:04:00+00:00", freshness=9.4),
        "silver": Layer("RUNNING", rows=120, freshness=190.0, dead_letters=3),
        "gold": Layer("RUNNING"),
    },
)


def test_the_status_has_the_documented_fields(feed, body):
    written = status(feed(), body(), SEEN, NOW, managed=True)
    assert written["observedGeneration"] == 3
    assert written["phase"] == "Running"
    assert [about["type"] for about in written["conditions"]] == list(conditions.ORDER)
    assert written["ingest"] == {
        "connected": 2,
        "desired": 2,
        "messagesPerSecond": 812,
        "lastMessageTime": "2026-01-02T03:04:03+00:00",
        "reconnects": 1,
        "openGaps": 1,
        "repairedGaps": 4,
    }
    assert written["layers"] == {
        "bronze": {
            "application": "binance-bronze",
            "state": "RUNNING",
            "lastCommitTime": "2026-01-02T03:04:00+00:00",
            "freshness": "9s",
            "rows": 123,
        },
        "silver": {"application": "binance-silver", "state": "RUNNING", "freshness": "3m", "rows": 120},
        "gold": {"application": "binance-gold", "state": "RUNNING", "rows": 0},
        "deadLetters": 5,
    }


def test_each_channel_has_its_figures_and_the_ingest_their_sum(feed, body):
    quotes = Shard("0-0", False, rate=9.0, reconnects=2, open_gaps=3, channel="quotes", states=(("flowing", 2),))
    trades = replace(SEEN.shards[0], states=(("flowing", 1), ("quiet", 1)))
    deployments = (SEEN.deployments[0], Deployment("q", 1, 0, current=True, channel="quotes"))
    observed = replace(SEEN, deployments=deployments, shards=(trades, quotes))
    written = status(feed(channels=["trades", "quotes"]), body(), observed, NOW, managed=True)
    assert written["channels"] == {
        "trades": {
            "connected": 1,
            "desired": 1,
            "messagesPerSecond": 400,
            "lastMessageTime": "2026-01-02T03:04:01+00:00",
            "reconnects": 1,
            "openGaps": 1,
            "repairedGaps": 0,
            "symbols": {"flowing": 1, "quiet": 1},
        },
        "quotes": {
            "connected": 0,
            "desired": 1,
            "messagesPerSecond": 9,
            "reconnects": 2,
            "openGaps": 3,
            "repairedGaps": 0,
            "symbols": {"flowing": 2},
        },
    }
    figures = written["ingest"]
    assert (figures["connected"], figures["desired"], figures["messagesPerSecond"]) == (1, 2, 409)
    assert (figures["reconnects"], figures["openGaps"]) == (3, 4)


def test_a_rebuild_is_reported_survives_a_rejected_spec_and_is_an_event_when_it_begins_and_ends(feed, body):
    def reported(*rebuild):
        return status(feed(), body(), replace(SEEN, rebuild=Rebuild(*rebuild)), NOW, managed=True)

    never, runs, failed = reported(3), reported(3, "Running", "runs"), reported(4, "Failed", "why")
    assert (never["rebuild"], failed["rebuild"]) == ({"nonce": 3}, {"nonce": 4, "state": "Failed", "message": "why"})
    assert is_significant(runs, never)
    assert blocked({**body(), "status": failed}, "InvalidSpec", "x", NOW)["rebuild"] == failed["rebuild"]
    assert rebuild_events(never, runs) == [("Normal", "RebuildRunning", "runs")]
    assert rebuild_events(runs, failed) == [("Warning", "RebuildFailed", "why")]
    assert rebuild_events(failed, failed) == rebuild_events(None, failed) == rebuild_events(runs, never) == []


def test_the_latest_audit_is_reported_beside_the_layers(feed, body):
    written = status(feed(), body(), replace(SEEN, audit=Audit(2, "2026-01-02T03:00:00+00:00")), NOW, managed=True)
    assert written["layers"]["audit"] == {"incompleteHours": 2, "checkedAt": "2026-01-02T03:00:00+00:00"}
    assert written["phase"] == "Degraded"


def test_a_feed_without_any_objects_has_a_status(feed, body):
    written = status(feed(), body(), Observed(), NOW, managed=True)
    assert written["phase"] == "Pending"
    assert written["layers"]["gold"] == {"application": "binance-gold", "state": "UNKNOWN"}
    assert "lastMessageTime" not in written["ingest"]


def test_the_same_observation_gives_the_same_status_at_any_time(feed, body):
    live = body()
    live["status"] = status(feed(), live, SEEN, NOW, managed=True)
    again = status(feed(), live, SEEN, NOW + timedelta(hours=1), managed=True)
    assert again == live["status"]
    assert not is_significant(again, live["status"])


@pytest.mark.parametrize(
    ("change", "expected"),
    [({"phase": "Degraded"}, True), ({"observedGeneration": 4}, True), ({"ingest": {"reconnects": 9}}, False)],
)
def test_changed_figures_are_not_significant_but_changed_conditions_are(feed, body, change, expected):
    old = status(feed(), body(), SEEN, NOW, managed=True)
    assert is_significant(old | change, old) is expected
    assert is_significant(old, None)


def test_a_deleted_feed_has_the_phase_deleting(feed, body):
    live = body()
    live["metadata"]["deletionTimestamp"] = "2026-01-02T00:00:00Z"
    assert status(feed(), live, SEEN, NOW, managed=True)["phase"] == "Deleting"


def test_an_invalid_spec_keeps_the_figures_of_what_runs(feed, body):
    live = body()
    live["status"] = status(feed(), live, SEEN, NOW, managed=True)
    live["metadata"]["generation"] = 4
    written = blocked(live, "InvalidSpec", "spec.symbols: wrong", NOW)
    assert (written["phase"], written["observedGeneration"]) == ("Failed", 4)
    assert written["ingest"]["messagesPerSecond"] == 812
    assert blocked(body(), "InvalidSpec", "x", NOW)["phase"] == "Failed"


def conditioned(**reasons):
    status_of = {
        "Ready": "True",
        "SymbolsLeftOut": "True",
        "SymbolsHalted": "True",
        "Starting": "Unknown",
        "Creating": "Unknown",
    }
    return [
        Condition(name, status_of.get(reason, "False"), reason, f"about {reason}", "", 1)
        for name, reason in reasons.items()
    ]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({}, {"GoldReady": "Creating"}, []),
        ({"GoldReady": "Starting"}, {"GoldReady": "Ready"}, [("Normal", "GoldReady")]),
        ({"GoldReady": "Ready"}, {"GoldReady": "Ready"}, []),
        ({"GoldReady": "Ready"}, {"GoldReady": "CrashLoop"}, [("Warning", "CrashLoop")]),
        ({"GoldReady": "CrashLoop"}, {"GoldReady": "CrashLoop"}, []),
        ({"GoldReady": "CrashLoop"}, {"GoldReady": "QueryFailed"}, [("Warning", "QueryFailed")]),
        ({"GoldReady": "CrashLoop"}, {"GoldReady": "Starting"}, []),
        (
            {"BronzeReady": "Creating", "SilverReady": "Creating"},
            {"BronzeReady": "SparkOperatorMissing", "SilverReady": "SparkOperatorMissing"},
            [("Warning", "SparkOperatorMissing")],
        ),
        ({"IngestReady": "Ready"}, {"IngestReady": "SymbolsLeftOut"}, [("Warning", "SymbolsLeftOut")]),
        ({"IngestReady": "SymbolsLeftOut"}, {"IngestReady": "SymbolsLeftOut"}, []),
        ({"IngestReady": "Ready"}, {"IngestReady": "SymbolsHalted"}, [("Warning", "SymbolsHalted")]),
        ({"Ready": "Starting"}, {"Ready": "Ready"}, [("Normal", "Ready")]),
        ({"Ready": "Ready"}, {"Ready": "CrashLoop"}, []),
        ({"Ready": "Ready"}, {"Ready": "InvalidSpec"}, [("Warning", "InvalidSpec")]),
        ({"Ready": "Ready"}, {"Ready": "Suspended"}, [("Normal", "Suspended")]),
    ],
)
def test_a_transition_is_one_event(old, new, expected):
    emitted = events(conditioned(**old), conditioned(**new))
    assert [(kind, reason) for kind, reason, _ in emitted] == expected
    assert all("about" in message for *_, message in emitted)


def test_previous_conditions_are_read_from_the_status(feed, body):
    live = body()
    assert previous_conditions(live) == ()
    live["status"] = status(feed(), live, SEEN, NOW, managed=True)
    assert [about.type for about in previous_conditions(live)] == list(conditions.ORDER)


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        (3, 5, "the feed follows 5 symbols, 2 more than before"),
        (5, 4, "the feed follows 4 symbols, 1 fewer than before"),
        (0, 4, None),  # it starts
        (4, 0, None),  # its pods do not answer, or a condition says that nothing matches
        (4, 4, None),
    ],
)
def test_listings_that_a_selector_follows_are_one_event(before, now, expected):
    spec = {"symbolSelector": {"quotes": ["USDT"]}}
    emitted = listing_events({"symbols": before}, {"symbols": now}, spec)
    assert emitted == ([("Normal", "SymbolsChanged", expected)] if expected else [])
    assert listing_events({"symbols": before}, {"symbols": now}, {"symbols": ["A"]}) == []


WHY = "the busiest shard has 4000 messages/s"


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        ({"shards": 2}, {"shards": 3}, [("ShardsChanged", f"3 shards instead of 2: {WHY}")]),
        ({"shards": 2}, {"shards": 2, "recommendedShards": 3}, [
            ("ShardsRecommended", f"3 shards instead of 2: {WHY}")
        ]),
        ({"shards": 2, "recommendedShards": 3}, {"shards": 2, "recommendedShards": 3}, []),
        ({"shards": 2, "recommendedShards": 3}, {"shards": 2, "recommendedShards": 2}, []),
        ({"shards": 2, "recommendedShards": 3}, {"shards": 3, "recommendedShards": 3}, [
            ("ShardsChanged", f"3 shards instead of 2: {WHY}")
        ]),
        ({}, {"shards": 2}, []),
        ({"shards": 2}, {}, []),
    ],
)  # fmt: skip
def test_another_number_of_shards_is_one_event(before, now, expected):
    emitted = shard_events({"ingest": before}, {"ingest": now}, WHY)
    assert emitted == [("Normal", reason, message) for reason, message in expected]
    assert shard_events(None, {"ingest": {"shards": 1}}, "") == []


def test_the_number_of_shards_is_that_which_carries_everything(feed, body):
    observed = replace(SEEN, counts=(2, 3), recommended=3)
    ingest = status(feed(), body(), observed, NOW, managed=True)["ingest"]
    assert (ingest["shards"], ingest["recommendedShards"]) == (2, 3)
    ingest = status(feed(), body(), replace(observed, recommended=0), NOW, managed=True)["ingest"]
    assert "recommendedShards" not in ingest


def test_the_symbols_of_a_selector_are_counted_by_what_the_pods_follow(feed, body):
    selector = {"symbols": None, "symbolSelector": {"quotes": ["USDT"]}}
    shards = (Shard("0-0", connected=True, matching=7, left_out=("A", "B")),)
    observed = replace(SEEN, shards=shards)
    assert status(feed(**selector), body(**selector), observed, NOW, managed=True)["symbols"] == 5
    assert status(feed(**selector), body(**selector), replace(SEEN, shards=()), NOW, managed=True)["symbols"] == 0
