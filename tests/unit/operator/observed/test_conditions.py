from datetime import timedelta

import pytest

from k2.operator.desired.naming import application_names
from k2.operator.observed import conditions
from k2.operator.observed.conditions import Condition, diagnose, parse, update
from k2.operator.observed.diagnostics import ready, summarize, unknown, unready
from k2.operator.observed.objects import Application, Deployment, Layer, Observed, Pod, Rebuild, Rejection, Shard, Topic
from k2.operator.observed.phase import phase
from k2.operator.observed.status import events
from tests.unit.operator.conftest import NOW

EARLIER = NOW - timedelta(hours=1)
LATER = NOW + timedelta(minutes=7)


def healthy(feed, **changes):
    names = set(application_names(feed).values())
    whole = {
        "topics": {"market.crypto.trades.binance": Topic("t", EARLIER, True)},
        "deployments": (Deployment("d", 1, 1, current=True),),
        "shards": (Shard("0-0", connected=True),),
        "applications": {name: Application(name, EARLIER, "RUNNING", submitted_at=EARLIER) for name in names},
        "layers": {layer: Layer("RUNNING") for layer in ("bronze", "silver", "gold")},
    }
    return Observed(**(whole | changes))


def of(feed, observed, before=(), now=NOW):
    return update(diagnose(feed, observed, now, managed=True), before, 3, now)


@pytest.mark.parametrize("topology", ["PerLayer", "Combined"])
def test_a_healthy_feed_is_ready_in_every_part(feed, topology):
    one = feed(layers={"topology": topology})
    updated = of(one, healthy(one))
    assert [(about.type, about.status) for about in updated] == [
        *((name, "True") for name in ("Ready", "TopicReady", "IngestReady", "BronzeReady", "SilverReady", "GoldReady")),
        ("SymbolsRefused", "False"),
    ]
    assert phase(updated) == "Running"


@pytest.mark.parametrize(
    ("topology", "stopped"),
    [("PerLayer", ["SilverReady", "GoldReady"]), ("Combined", ["BronzeReady", "SilverReady", "GoldReady"])],
)
def test_what_a_rebuild_stops_is_being_rebuilt_unless_its_pod_cannot_run(feed, topology, stopped):
    one, rebuild = feed(layers={"topology": topology}), Rebuild(1, "Running", "the Job runs", due=True, job=True)
    updated = of(one, healthy(one, rebuild=rebuild))
    assert [each.type for each in updated if each.reason == "Rebuilding" and each.type != "Ready"] == stopped
    assert phase(updated) == "Progressing"
    pod = Pod("binance-rebuild-2-x", "ImagePullBackOff", "no such image", 0, "rebuild")
    assert phase(of(one, healthy(one, rebuild=rebuild, pods=(pod,)))) == "Degraded"


def test_every_condition_is_valid_for_the_api_server(feed):
    for condition in (*of(feed(), Observed()), *of(feed(), healthy(feed()))):
        document = condition.document()
        assert document["reason"].isalpha()
        assert document["reason"][0].isupper()
        assert document["observedGeneration"] == 3
        assert document["lastTransitionTime"] == "2026-01-02T03:04:05Z"
        assert parse([document]) == (condition,)


def test_the_transition_time_moves_with_the_status_and_with_nothing_else(feed):
    one = feed()
    first = of(one, healthy(one))
    again = of(one, healthy(one), first, LATER)
    assert [about.since for about in again] == [about.since for about in first]
    failed = of(one, healthy(one, layers={"gold": Layer("FAILED", "x")}), again, LATER)
    times = {about.type: about.since for about in failed}
    assert times["GoldReady"] == times["Ready"] == "2026-01-02T03:11:05Z"
    assert times["IngestReady"] == "2026-01-02T03:04:05Z"
    other = of(one, healthy(one, layers={"gold": Layer("FAILED", "y")}), failed, LATER + timedelta(hours=1))
    by_type = {about.type: about for about in other}
    assert by_type["GoldReady"].message == "gold: y"
    assert by_type["GoldReady"].since == "2026-01-02T03:11:05Z"


def test_a_long_message_is_cut(feed):
    (condition,) = update({"Ready": unready("X", "m" * 5000)}, [], 1, NOW)
    assert len(condition.message) == 1024


@pytest.mark.parametrize(
    ("parts", "status", "reason"),
    [
        ({"A": ready(), "B": ready()}, "True", "Ready"),
        ({"A": unknown("Starting", "x"), "B": unready("CrashLoop", "y")}, "False", "CrashLoop"),
        ({"A": unready("Forbidden", "x"), "B": unready("CrashLoop", "y")}, "False", "Forbidden"),
        ({"A": ready(), "B": unknown("Starting", "y")}, "Unknown", "Starting"),
        ({"A": unready("Suspended", "x"), "B": unknown("Stopping", "y")}, "False", "Stopping"),
        ({"A": ready(), "B": unready("Suspended", "x")}, "False", "Suspended"),
    ],
)
def test_ready_reports_problems_that_need_action_first(parts, status, reason):
    ready_diagnosis = summarize(parts)
    assert (ready_diagnosis.status, ready_diagnosis.reason) == (status, reason)


def test_ready_names_the_other_parts_that_are_not_ready():
    ready_diagnosis = summarize(
        {"A": unknown("Starting", "x"), "B": unready("CrashLoop", "why"), "C": unready("CrashLoop", "y")}
    )
    assert ready_diagnosis.message == "B: why (also not ready: A, C)"


def test_a_feed_without_a_spark_operator_is_degraded_and_its_ingest_is_not(feed):
    one = feed()
    rejection = Rejection("patch", "sparkapplications", "binance-bronze", 404, "not found")
    updated = of(one, healthy(one, applications={}, layers={}, rejections=(rejection,)))
    assert {about.type: about.reason for about in updated} == {
        "Ready": "SparkOperatorMissing",
        "TopicReady": "Ready",
        "IngestReady": "Ready",
        "BronzeReady": "SparkOperatorMissing",
        "SilverReady": "SparkOperatorMissing",
        "GoldReady": "SparkOperatorMissing",
        "SymbolsRefused": "NoneRefused",
    }
    assert phase(updated) == "Degraded"


def test_refused_symbols_are_a_condition_that_is_true_while_there_are_any(feed):
    one, words = feed(), (("AUSDT", "no such symbol"), ("BUSDT", "delisted"))
    refused = of(one, healthy(one, shards=(Shard("0-0", connected=True, refused=words),)))
    condition = refused[-1]
    assert (condition.type, condition.status, condition.reason) == ("SymbolsRefused", "True", "SymbolsRefused")
    assert "AUSDT: no such symbol; BUSDT: delisted" in condition.message
    assert phase(refused) == "Degraded"
    started, accepted = of(one, healthy(one, shards=())), of(one, healthy(one), refused)
    assert [(each[-1].status, each[-1].reason) for each in (started, accepted)] == [
        ("Unknown", "NoConnection"), ("False", "NoneRefused"),
    ]  # fmt: skip
    assert [event for event in events((), refused) if event[1] == "SymbolsRefused"] == [
        ("Warning", "SymbolsRefused", condition.message)
    ]
    assert events(refused, refused) == []
    assert ("Normal", "SymbolsRefused", "the exchange refuses no symbol") in events(refused, accepted)
    assert not [event for event in events((), of(one, healthy(one))) if event[1] == "SymbolsRefused"]


def test_a_rejected_spec_leaves_the_conditions_of_the_parts_unchanged(feed):
    one = feed()
    before = of(one, healthy(one, layers={"bronze": Layer("FAILED"), "silver": Layer("STARTING")}))
    after = update(conditions.rejected_spec("InvalidSpec", "spec.symbols: wrong", before), before, 4, LATER)
    assert after[0].document() == {
        "type": "Ready",
        "status": "False",
        "reason": "InvalidSpec",
        "message": "spec.symbols: wrong",
        "lastTransitionTime": "2026-01-02T03:04:05Z",
        "observedGeneration": 4,
    }
    assert [(about.status, about.reason, about.since) for about in after[1:]] == [
        (about.status, about.reason, about.since) for about in before[1:]
    ]
    assert phase(after) == "Failed"
    new = update(conditions.rejected_spec("InvalidSpec", "x", []), [], 1, NOW)
    assert {about.status for about in new[1:]} == {"Unknown"}


@pytest.mark.parametrize(
    ("reason", "status", "others", "expected"),
    [
        ("Ready", "True", "Ready", "Running"),
        ("Creating", "Unknown", "Creating", "Pending"),
        ("Creating", "Unknown", "Starting", "Progressing"),
        ("Starting", "Unknown", "Ready", "Progressing"),
        ("Suspended", "False", "Suspended", "Suspended"),
        ("Stopping", "False", "Suspended", "Progressing"),
        ("InvalidSpec", "False", "Ready", "Failed"),
        ("TopicConflict", "False", "Creating", "Failed"),
        ("CrashLoop", "False", "Ready", "Degraded"),
        ("QuotaExceeded", "False", "Ready", "Degraded"),
    ],
)
def test_a_phase_is_one_word_for_the_conditions(reason, status, others, expected):
    parts = [Condition("Ready", status, reason, "", "", 1), Condition("GoldReady", "Unknown", others, "", "", 1)]
    assert phase(parts) == expected
    assert phase(parts, deleting=True) == "Deleting"


def test_a_feed_is_pending_only_while_none_of_its_parts_is_there():
    def phase_of(*reasons):
        parts = [Condition(f"Part{number}", "Unknown", reason, "", "", 1) for number, reason in enumerate(reasons)]
        return phase([Condition("Ready", "Unknown", "Creating", "", "", 1), *parts])

    assert phase_of("Creating", "Creating") == "Pending"
    assert phase_of("Creating", "Starting") == "Progressing"
