"""Whether a rebuild is due, what it waits for, and how it ends."""

import pytest

from k2.operator.desired.naming import COMPONENT
from k2.operator.observed.feed_objects import FeedObjects
from k2.operator.observed.objects import Application, Rebuild
from k2.operator.planning.rebuild import rebuild
from tests.unit.operator.conftest import NOW

JOB = "binance-rebuild-2"


def job(name=JOB, **conditions):
    ended = [{"type": kind, "status": "True", "message": message} for kind, message in conditions.items()]
    return {"kind": "Job", "metadata": {"name": name}, "status": {"conditions": ended}}


def pod(component, phase="Running", of_job=""):
    labels = {COMPONENT: component, "batch.kubernetes.io/job-name": of_job}
    return {"kind": "Pod", "metadata": {"name": f"{component}-pod", "labels": labels}, "status": {"phase": phase}}


def applications(**states):
    return {f"binance-{part}": Application(f"binance-{part}", NOW, state) for part, state in states.items()}


@pytest.fixture
def assessed(feed, body):
    def build(live=(), pods=(), status=None, states=None, **spec):
        raw = body(rebuildNonce=2, **spec) | {"status": {"rebuild": status or {"nonce": 1}}}
        objects = FeedObjects(children=tuple(live), pods=tuple(pods))
        return rebuild(feed(rebuildNonce=2, **spec), raw, objects, applications(**(states or {})))

    return build


def test_the_number_that_a_feed_begins_with_is_carried_out_already(feed, body):
    assert rebuild(feed(rebuildNonce=7), body(), FeedObjects(), {}) == Rebuild(7)
    assert rebuild(feed(), body(), FeedObjects(), {}) == Rebuild(0)


def test_another_number_is_due_until_its_job_ended_and_never_again(assessed):
    begun = assessed()
    assert (begun.nonce, begun.state, begun.due, begun.job) == (1, "Running", True, True)
    assert assessed([job()]) == begun
    assert assessed(status={"nonce": 9}).due
    done = assessed([job(Complete="")])
    assert (done.nonce, done.state, done.due, done.job) == (2, "Succeeded", False, True)
    status = {"nonce": 2, "state": done.state, "message": done.message}
    assert assessed([job(Complete="")], status=status) == done
    assert assessed(status=status) == Rebuild(2, done.state, done.message)  # the Job's time to live is over
    assert not assessed([job()], status=status).due  # nor is it if somebody runs the Job once more


@pytest.mark.parametrize("status", ["False", "Unknown", "True"])
def test_a_job_that_is_about_to_end_still_runs(assessed, status):
    ending = job(SuccessCriteriaMet="", FailureTarget="")
    ended = [{"type": kind, "status": status} for kind in ("Complete", "Failed") if status != "True"]
    ending["status"]["conditions"] += ended
    assert assessed([ending]).state == "Running"


def test_a_job_that_failed_ends_the_rebuild_with_its_message(assessed):
    failed = assessed([job(Failed="BackoffLimitExceeded")])
    assert (failed.nonce, failed.state, failed.due, failed.job) == (2, "Failed", False, True)
    assert "another number tries again: BackoffLimitExceeded" in failed.message


@pytest.mark.parametrize(
    ("states", "pods", "waits_for"),
    [
        ({"silver": "RUNNING", "gold": "SUSPENDED"}, [], "binance-silver"),
        ({"silver": "SUSPENDED", "gold": "SUSPENDING"}, [], "binance-gold"),
        ({"silver": "FAILED", "gold": "SUBMISSION_FAILED"}, [], "binance-gold"),
        ({"silver": "COMPLETED", "gold": ""}, [], "binance-gold"),
        ({"silver": "SUSPENDED"}, [pod("gold")], "pod gold-pod"),
        ({}, [pod("silver-executor", "Pending")], "pod silver-executor-pod"),
        ({}, [pod("rebuild", of_job="binance-rebuild-1")], "pod rebuild-pod"),
        ({}, [pod("rebuild", of_job="binance-rebuild-3")], "pod rebuild-pod"),
    ],
)
def test_the_job_waits_for_all_that_writes_silver_and_gold(assessed, states, pods, waits_for):
    waiting = assessed([job("binance-rebuild-1")], pods, states=states)
    assert (waiting.nonce, waiting.state, waiting.due, waiting.job) == (1, "Pending", True, False)
    assert waiting.message == f"waits until {waits_for} ended"


def test_bronze_and_pods_that_ended_are_not_waited_for(assessed):
    pods = [pod("bronze"), pod("ingest"), pod("sidecar"), pod("gold", "Succeeded"), pod("rebuild", of_job=JOB)]
    assert assessed(pods=pods, states={"bronze": "RUNNING", "silver": "SUSPENDED"}).job
    combined = {"layers": {"topology": "Combined"}}
    assert assessed(states={"layers": "RUNNING"}, **combined).message == "waits until binance-layers ended"


def test_a_job_that_runs_goes_on_whatever_is_seen_of_the_layers(assessed):
    assert assessed([job()], states={"gold": "RUNNING"}).state == "Running"


def test_a_suspended_feed_is_rebuilt_when_it_is_not_any_more(assessed):
    waiting = assessed(suspend=True)
    assert (waiting.state, waiting.due, waiting.job) == ("Pending", True, False)
    assert assessed([job()], suspend=True).job
