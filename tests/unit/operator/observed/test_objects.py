"""Raw API objects as the cluster holds them, some of them half empty."""

import json
from datetime import UTC, datetime

import msgspec
import pytest

from k2.operator.observed import objects
from k2.operator.observed.objects import Application, Audit, Deployment, Layer, Pod, Rejection, Shard, Topic
from k2.schemas.channels import TRADES

CREATED = datetime(2026, 1, 1, tzinfo=UTC)
META = {"name": "a", "creationTimestamp": "2026-01-01T00:00:00Z", "generation": 2}


def test_a_deployment_reports_its_pods_and_why_they_cannot_be_created():
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
def test_a_waiting_pod_is_reported_with_its_containers_termination_message(raw, expected):
    (unhealthy,) = objects.unhealthy_pods([raw])
    assert (unhealthy.message, unhealthy.restarts) == (expected, 4)


def test_pods_that_start_or_run_are_not_unhealthy():
    running = pod(containerStatuses=[{"state": {"running": {}}, "restartCount": 9}])
    assert objects.unhealthy_pods([running, waiting("ContainerCreating"), pod(), {"metadata": {"name": "p"}}]) == ()


def test_an_unschedulable_pod_is_reported():
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}
    assert objects.unhealthy_pods([pod(conditions=[condition])]) == (Pod("p", "Unschedulable", "0/1 nodes", 0),)


def test_an_unhealthy_pod_is_reported_with_its_component():
    raw = waiting("ImagePullBackOff")
    raw["metadata"]["labels"] = {"app.kubernetes.io/component": "silver-executor"}
    assert [unhealthy.part for unhealthy in objects.unhealthy_pods([raw, waiting("ImagePullBackOff")])] == [
        "silver-executor",
        "ingest",
    ]


def test_an_applications_state_and_attempts_are_parsed():
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
def test_an_application_without_status_has_no_state(status):
    assert objects.application({"metadata": META, "status": status}) == Application("a", CREATED)


@pytest.mark.parametrize(
    ("generation", "status", "expected"),
    [
        (2, "True", Topic("a", CREATED, True, "R", "m")),
        (2, "False", Topic("a", CREATED, False, "R", "m")),
        (1, "True", Topic("a", CREATED, changed=True)),
    ],
)
def test_strimzis_status_of_an_older_generation_is_ignored(generation, status, expected):
    ready_conditions = [{"type": "Ready", "status": status, "reason": "R", "message": "m"}]
    raw = {"metadata": META, "status": {"observedGeneration": generation, "conditions": ready_conditions}}
    assert objects.topic(raw) == expected


def test_a_topic_without_status_has_unknown_readiness():
    assert objects.topic({"metadata": META}) == Topic("a", CREATED)


def test_a_shard_is_read_from_the_ingests_own_status():
    from k2.ingest.telemetry.server import shard_status
    from k2.ingest.telemetry.stats import Stats

    stats = Stats(started_at=0.0, connections=1, rate=2.5, reconnects=1, last_received=1_767_225_600_000_000)
    stats.gaps_open = 2
    stats.gaps_repaired["BTCUSDT"] = 4
    stats.dead_letters["MalformedFrame"] = 3
    stats.refused["NOPE"] = "invalid symbol"
    raw = _as_json(shard_status(stats, TRADES, feed="f", exchange="binance", shard="1-0"))
    newest = "2026-01-01T00:00:00+00:00"
    expected = Shard("1-0", True, "", 2.5, newest, 1, 2, 4, 3, (("NOPE", "invalid symbol"),))
    assert objects.shard(raw) == expected


def test_waiting_records_are_those_kafka_rejected_or_all_while_the_circuit_is_open():
    from k2.ingest.kafka.circuit_breaker import State
    from k2.ingest.telemetry.server import shard_status
    from k2.ingest.telemetry.stats import Stats

    stats = Stats(started_at=0.0, in_flight=7, unaccepted=2)
    waiting_records = {}
    for state in State:
        stats.circuit = int(state)
        waiting_records[state] = objects.shard(
            _as_json(shard_status(stats, TRADES, feed="f", exchange="binance", shard="0-0"))
        ).waiting
    assert waiting_records == {State.CLOSED: 2, State.HALF_OPEN: 7, State.OPEN: 7}


def _as_json(status):
    return json.loads(msgspec.json.encode(status))


def _jobs(states):
    from k2.jobs.telemetry.server import jobs_status

    return _as_json(jobs_status(states))


def driver(message=None, **labels):
    ended = {"exitCode": 1, "reason": "Error"} | ({"message": message} if message else {})
    labels = {"spark-role": "driver", "sparkoperator.k8s.io/app-name": "a-gold"} | labels
    return {
        "metadata": {"name": "a-gold-driver", "labels": labels},
        "status": {"phase": "Failed", "containerStatuses": [{"state": {"terminated": ended}}]},
    }


def test_a_drivers_termination_message_is_reported_by_application():
    assert objects.termination_messages([driver("the catalog:\n  no")]) == {"a-gold": "the catalog: no"}
    assert objects.termination_messages([driver(), driver("no", **{"spark-role": "executor"})]) == {}
    running = {"metadata": META, "status": {"containerStatuses": [{"state": {"running": {}}}]}}
    assert objects.termination_messages([running, {"metadata": META}]) == {}


def test_layers_are_read_from_the_drivers_own_status():
    from k2.jobs.telemetry.metrics import LayerState

    state = LayerState(
        "silver", "trades", "binance", "f", 30.0, state="RUNNING", rows=7, dead_letters={"UNDECODABLE": 2}
    )
    other = LayerState("gold", "trades", "binance", "other", 30.0)
    assert objects.layers(_jobs([state, other]), "f") == {
        "silver": Layer("RUNNING", "", rows=7, committed="", freshness=None, dead_letters=2)
    }
    assert objects.layers(_jobs([state]), "nobody") == {}


def test_audit_findings_are_read_from_golds_status():
    from k2.jobs.telemetry.metrics import LayerState

    state = LayerState("gold", "trades", "binance", "f", 60.0, incomplete_hours=2, audited_at=1_772_445_600.0)
    audit = objects.layers(_jobs([state]), "f")["gold"].audit
    assert audit == Audit(2, "2026-03-02T10:00:00+00:00")
    assert objects.layers(_jobs([LayerState("gold", "trades", "binance", "f", 60.0)]), "f")["gold"].audit is None


def test_a_rejection_keeps_the_request_and_the_servers_message():
    raw = {"kind": "Status", "code": 403, "message": "is forbidden"}
    assert objects.rejection("patch", "services", "a", raw) == Rejection("patch", "services", "a", 403, "is forbidden")


def test_the_channel_of_a_deployment_and_of_a_pod_is_in_their_labels():
    labels = {"k2.marketdata.io/channel": "quotes", "app.kubernetes.io/component": "ingest"}
    assert objects.deployment({"metadata": META | {"labels": labels}}).channel == "quotes"
    assert objects.deployment({"metadata": META}).channel == "trades"
    raw = waiting("ImagePullBackOff")
    (unhealthy,) = objects.unhealthy_pods([raw | {"metadata": {"name": "p", "labels": labels}}])
    assert unhealthy.channel == "quotes"
    assert objects.shard({"shard": "0-0", "connected": True}, "p", "quotes").channel == "quotes"
