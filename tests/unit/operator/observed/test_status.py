from dataclasses import replace
from datetime import timedelta

import pytest

from k2.operator.observed import conditions
from k2.operator.observed.conditions import Condition
from k2.operator.observed.objects import Application, Audit, Deployment, Layer, Observed, Shard, Topic
from k2.operator.observed.status import before, events, invalid, status, worth_writing
from tests.unit.operator.conftest import NOW

EARLIER = NOW - timedelta(hours=1)
SEEN = Observed(
    topic=Topic("t", EARLIER, True),
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


def test_the_status_is_the_one_that_users_read(feed, body):
    found = status(feed(), body(), SEEN, NOW, managed=True)
    assert found["observedGeneration"] == 3
    assert found["phase"] == "Running"
    assert [about["type"] for about in found["conditions"]] == list(conditions.ORDER)
    assert found["ingest"] == {
        "connected": 2,
        "desired": 2,
        "messagesPerSecond": 812,
        "lastMessageTime": "2026-01-02T03:04:03+00:00",
        "reconnects": 1,
        "openGaps": 1,
        "repairedGaps": 4,
    }
    assert found["layers"] == {
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


def test_what_the_newest_audit_found_stands_beside_the_layers(feed, body):
    found = status(feed(), body(), replace(SEEN, audit=Audit(2, "2026-01-02T03:00:00+00:00")), NOW, managed=True)
    assert found["layers"]["audit"] == {"incompleteHours": 2, "checkedAt": "2026-01-02T03:00:00+00:00"}
    assert found["phase"] == "Degraded"


def test_a_feed_of_which_nothing_is_known_has_a_status_too(feed, body):
    found = status(feed(), body(), Observed(), NOW, managed=True)
    assert found["phase"] == "Pending"
    assert found["layers"]["gold"] == {"application": "binance-gold", "state": "UNKNOWN"}
    assert "lastMessageTime" not in found["ingest"]


def test_the_same_sight_gives_the_same_status_at_any_time(feed, body):
    live = body()
    live["status"] = status(feed(), live, SEEN, NOW, managed=True)
    again = status(feed(), live, SEEN, NOW + timedelta(hours=1), managed=True)
    assert again == live["status"]
    assert not worth_writing(again, live["status"])


@pytest.mark.parametrize(
    ("change", "expected"),
    [({"phase": "Degraded"}, True), ({"observedGeneration": 4}, True), ({"ingest": {"reconnects": 9}}, False)],
)
def test_new_figures_may_wait_and_news_may_not(feed, body, change, expected):
    old = status(feed(), body(), SEEN, NOW, managed=True)
    assert worth_writing(old | change, old) is expected
    assert worth_writing(old, None)


def test_a_deleted_feed_says_so(feed, body):
    live = body()
    live["metadata"]["deletionTimestamp"] = "2026-01-02T00:00:00Z"
    assert status(feed(), live, SEEN, NOW, managed=True)["phase"] == "Deleting"


def test_an_invalid_spec_keeps_the_figures_of_what_runs(feed, body):
    live = body()
    live["status"] = status(feed(), live, SEEN, NOW, managed=True)
    live["metadata"]["generation"] = 4
    found = invalid(live, "InvalidSpec", "spec.symbols: wrong", NOW)
    assert (found["phase"], found["observedGeneration"]) == ("Failed", 4)
    assert found["ingest"]["messagesPerSecond"] == 812
    assert invalid(body(), "InvalidSpec", "x", NOW)["phase"] == "Failed"


def conditioned(**reasons):
    status_of = {"Ready": "True", "Starting": "Unknown", "Creating": "Unknown"}
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
        ({"Ready": "Starting"}, {"Ready": "Ready"}, [("Normal", "Ready")]),
        ({"Ready": "Ready"}, {"Ready": "CrashLoop"}, []),
        ({"Ready": "Ready"}, {"Ready": "InvalidSpec"}, [("Warning", "InvalidSpec")]),
        ({"Ready": "Ready"}, {"Ready": "Suspended"}, [("Normal", "Suspended")]),
    ],
)
def test_an_event_tells_a_transition_once(old, new, expected):
    found = events(conditioned(**old), conditioned(**new))
    assert [(kind, reason) for kind, reason, _ in found] == expected
    assert all("about" in message for *_, message in found)


def test_what_was_written_before_is_read_back(feed, body):
    live = body()
    assert before(live) == ()
    live["status"] = status(feed(), live, SEEN, NOW, managed=True)
    assert [about.type for about in before(live)] == list(conditions.ORDER)
