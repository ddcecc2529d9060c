"""Raw API objects as the cluster holds them, some of them half empty."""

from datetime import UTC, datetime

import pytest

from k2.operator.observed import objects
from k2.operator.observed.objects import Application, Audit, Deployment, Layer, Pod, Refusal, Shard, Topic

CREATED = datetime(2026, 1, 1, tzinfo=UTC)
META = {"name": "a", "creationTimestamp": "2026-01-01T00:00:00Z", "generation": 2}


def test_a_deployment_tells_its_pods_and_why_there_are_none():
    failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota: q"}
    raw = {"metadata": META, "spec": {"replicas": 1}, "status": {"observedGeneration": 2, "conditions": [failure]}}
    assert objects.deployment(raw) == Deployment("a", 1, 0, current=True, trouble="exceeded quota: q")
    assert objects.deployment({"metadata": META}) == Deployment("a", 1, 0, current=False)
    healed = {**failure, "status": "False"}
    raw = {"metadata": META, "status": {"conditions": [healed], "readyReplicas": 1, "observedGeneration": 1}}
    assert objects.deployment(raw) == Deployment("a", 1, 1, current=False)


def pod(**status):
    return {"metadata": {"name": "p"}, "status": status}


def waiting(why, **ended):
    about = {"state": {"waiting": {"reason": why, "message": "waits"}}, "restartCount": 4}
    return pod(containerStatuses=[about | ({"lastState": {"terminated": ended}} if ended else {})])


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (waiting("CrashLoopBackOff", exitCode=2, reason="Error", message="bad feed"), "bad feed"),
        (waiting("CrashLoopBackOff", exitCode=137, reason="OOMKilled"), "OOMKilled, exit code 137"),
        (waiting("ImagePullBackOff"), "waits"),
    ],
)
def test_a_pod_that_waits_is_told_with_the_last_words_of_its_container(raw, expected):
    (found,) = objects.troubled([raw])
    assert (found.message, found.restarts) == (expected, 4)


def test_pods_that_start_or_run_are_no_trouble():
    running = pod(containerStatuses=[{"state": {"running": {}}, "restartCount": 9}])
    assert objects.troubled([running, waiting("ContainerCreating"), pod(), {"metadata": {"name": "p"}}]) == ()


def test_a_pod_that_no_node_takes_is_told():
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}
    assert objects.troubled([pod(conditions=[condition])]) == (Pod("p", "Unschedulable", "0/1 nodes", 0),)


def test_a_pod_in_trouble_is_told_with_its_part():
    raw = waiting("ImagePullBackOff")
    raw["metadata"]["labels"] = {"app.kubernetes.io/component": "silver-executor"}
    assert [found.part for found in objects.troubled([raw, waiting("ImagePullBackOff")])] == [
        "silver-executor",
        "ingest",
    ]


def test_an_application_tells_its_state_and_attempts():
    status = {
        "applicationState": {"state": "FAILED", "errorMessage": "driver container failed"},
        "executionAttempts": 3,
        "submissionAttempts": 1,
        "lastSubmissionAttemptTime": "2026-01-01T01:00:00Z",
    }
    meta = META | {"annotations": {"k2.marketdata.io/spec-hash": "h"}}
    submitted = datetime(2026, 1, 1, 1, tzinfo=UTC)
    expected = Application("a", CREATED, "FAILED", "driver container failed", submitted, 3, "h")
    assert objects.application({"metadata": meta, "status": status}) == expected


@pytest.mark.parametrize("status", [{}, None, {"applicationState": None, "lastSubmissionAttemptTime": None}])
def test_an_application_that_nobody_touched_has_no_state(status):
    assert objects.application({"metadata": META, "status": status}) == Application("a", CREATED)


@pytest.mark.parametrize(
    ("generation", "status", "expected"),
    [
        (2, "True", Topic("a", CREATED, True, "R", "m")),
        (2, "False", Topic("a", CREATED, False, "R", "m")),
        (1, "True", Topic("a", CREATED, changed=True)),
    ],
)
def test_what_strimzi_said_of_an_older_spec_is_not_said_of_this_one(generation, status, expected):
    said = [{"type": "Ready", "status": status, "reason": "R", "message": "m"}]
    raw = {"metadata": META, "status": {"observedGeneration": generation, "conditions": said}}
    assert objects.topic(raw) == expected


def test_a_topic_without_status_is_not_judged():
    assert objects.topic({"metadata": META}) == Topic("a", CREATED)


def test_a_shard_is_read_from_what_the_ingest_itself_says():
    from k2.ingest.telemetry.server import document
    from k2.ingest.telemetry.stats import Stats

    stats = Stats(started_at=0.0, connections=1, rate=2.5, reconnects=1, last_received=1_767_225_600_000_000)
    stats.gaps_open = 2
    stats.gaps_repaired["BTCUSDT"] = 4
    stats.dead_letters["MalformedFrame"] = 3
    stats.refused["NOPE"] = "invalid symbol"
    raw = document(stats, feed="f", exchange="binance", shard="1-0")
    newest = "2026-01-01T00:00:00+00:00"
    expected = Shard("1-0", True, "", 2.5, newest, 1, 2, 4, 3, (("NOPE", "invalid symbol"),))
    assert objects.shard(raw) == expected


def test_records_wait_for_kafka_that_it_refused_and_all_while_the_circuit_is_open():
    from k2.ingest.kafka.circuit_breaker import State
    from k2.ingest.telemetry.server import document
    from k2.ingest.telemetry.stats import Stats

    stats = Stats(started_at=0.0, in_flight=7, unaccepted=2)
    told = {}
    for state in State:
        stats.circuit = int(state)
        told[state] = objects.shard(document(stats, feed="f", exchange="binance", shard="0-0")).waiting
    assert told == {State.CLOSED: 2, State.HALF_OPEN: 7, State.OPEN: 7}


def driver(message=None, **labels):
    ended = {"exitCode": 1, "reason": "Error"} | ({"message": message} if message else {})
    labels = {"spark-role": "driver", "sparkoperator.k8s.io/app-name": "a-gold"} | labels
    return {
        "metadata": {"name": "a-gold-driver", "labels": labels},
        "status": {"phase": "Failed", "containerStatuses": [{"state": {"terminated": ended}}]},
    }


def test_the_last_words_of_a_driver_are_its_applications():
    assert objects.last_words([driver("the catalog:\n  no")]) == {"a-gold": "the catalog: no"}
    assert objects.last_words([driver(), driver("no", **{"spark-role": "executor"})]) == {}
    running = {"metadata": META, "status": {"containerStatuses": [{"state": {"running": {}}}]}}
    assert objects.last_words([running, {"metadata": META}]) == {}


def test_layers_are_read_from_what_the_driver_itself_says():
    from k2.jobs.telemetry.metrics import LayerState
    from k2.jobs.telemetry.server import document

    state = LayerState("silver", "binance", "f", 30.0, state="RUNNING", rows=7, dead_letters={"UNDECODABLE": 2})
    other = LayerState("gold", "binance", "other", 30.0)
    assert objects.layers(document([state, other]), "f") == {
        "silver": Layer("RUNNING", "", rows=7, committed="", freshness=None, dead_letters=2)
    }
    assert objects.layers(document([state]), "nobody") == {}


def test_what_an_audit_found_is_read_from_golds_own_words():
    from k2.jobs.telemetry.metrics import LayerState
    from k2.jobs.telemetry.server import document

    state = LayerState("gold", "binance", "f", 60.0, incomplete_hours=2, audited_at=1_772_445_600.0)
    told = objects.layers(document([state]), "f")["gold"].audit
    assert told == Audit(2, "2026-03-02T10:00:00+00:00")
    assert objects.layers(document([LayerState("gold", "binance", "f", 60.0)]), "f")["gold"].audit is None


def test_a_refusal_keeps_the_request_and_the_servers_words():
    raw = {"kind": "Status", "code": 403, "message": "is forbidden"}
    assert objects.refusal("patch", "services", "a", raw) == Refusal("patch", "services", "a", 403, "is forbidden")
