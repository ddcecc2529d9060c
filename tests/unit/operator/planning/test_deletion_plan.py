"""The next step for a deleted feed, by what still exists."""

from datetime import UTC, datetime, timedelta

import pytest

from k2.operator.planning import deletion_plan
from k2.operator.planning.deletion_plan import Action, RemainingObjects, remaining_objects, step

ASKED = datetime(2026, 1, 2, 3, 0, 0, tzinfo=UTC)
NOW = ASKED + timedelta(minutes=5)
LIMIT = timedelta(minutes=15)
UID = "uid-of-market-binance"


def deleted(body, policy="Delete", name="binance", **spec):
    live = body(name, deletionPolicy=policy, **spec)
    live["metadata"]["deletionTimestamp"] = "2026-01-02T03:00:00Z"
    return live


def job(condition="", *, uid=UID, ended=ASKED, **about):
    status_condition = {"type": condition, "status": "True", "message": "Job has reached its backoff limit"}
    return {
        "kind": "Job",
        "metadata": {"name": "binance-purge", "ownerReferences": [{"uid": uid, "kind": "ExchangeFeed"}], **about},
        "status": {"conditions": [status_condition | {"lastTransitionTime": ended.isoformat()}] if condition else []},
    }


DONE = job("Complete")
LONG_AGO, JUST_NOW = NOW - timedelta(minutes=2), NOW - timedelta(seconds=10)


@pytest.mark.parametrize(
    ("remaining", "action", "reason", "words"),
    [
        (RemainingObjects(parts=("Deployment a",), pods=("p",)), "STOP", "Deleting", "Deployment a"),
        (RemainingObjects(parts=("Deployment a",), job=DONE), "STOP", "Deleting", "Deployment a"),
        (RemainingObjects(pods=("p", "q", "r", "s")), "WAIT", "Deleting", "p, q, r and 1 more"),
        (RemainingObjects(topics=("t",)), "PURGE", "Deleting", "tables"),
        (RemainingObjects(job=job()), "WAIT", "Deleting", "binance-purge"),
        (RemainingObjects(job=job(uid="older")), "RETRY", "Deleting", "belongs to an older feed"),
        (RemainingObjects(job=job("Complete", uid="older")), "RETRY", "Deleting", "belongs to an older feed"),
        (
            RemainingObjects(job=job("Complete", deletionTimestamp="2026-01-02T03:01:00Z")),
            "WAIT",
            "Deleting",
            "being deleted",
        ),
        (RemainingObjects(job=job("Failed", ended=JUST_NOW)), "WAIT", "PurgeFailed", "backoff limit"),
        (RemainingObjects(job=job("Failed", ended=LONG_AGO)), "RETRY", "PurgeFailed", "it is retried"),
        (RemainingObjects(job=DONE, topics=("t",)), "DELETE_TOPICS", "Deleting", "t"),
        (RemainingObjects(job=DONE, topics_error="403"), "WAIT", "PurgeFailed", "403"),
        (RemainingObjects(job=DONE), "REMOVE_FINALIZER", "Deleting", ""),
        (RemainingObjects(job=DONE, ownership_error="not its own"), "GIVE_UP", "PurgeSkipped", "not its own"),
    ],
)
def test_the_next_step_of_a_feed_whose_data_is_deleted(body, remaining, action, reason, words):
    next_step = step(deleted(body), remaining, NOW, LIMIT)
    assert (next_step.action.name, next_step.reason) == (action, reason)
    assert words in next_step.message


def test_a_feed_that_retains_its_data_is_released_at_once(body):
    remaining = RemainingObjects(parts=("Deployment a",), pods=("p",), topics=("t",))
    assert step(deleted(body, "Retain"), remaining, NOW, LIMIT).action is Action.REMOVE_FINALIZER
    default_policy = deleted(body)
    del default_policy["spec"]["deletionPolicy"]
    assert step(default_policy, remaining, NOW, LIMIT).action is Action.REMOVE_FINALIZER


def test_the_deadline_message_lists_what_remains_and_how_to_remove_it(body):
    remaining = RemainingObjects(parts=("Deployment a",), pods=("p",), job=job("Failed"), topics=("t",))
    assert step(deleted(body), remaining, ASKED + LIMIT - timedelta(seconds=1), LIMIT).action is not Action.GIVE_UP
    next_step = step(deleted(body), remaining, ASKED + LIMIT, LIMIT)
    assert (next_step.action, next_step.reason) == (Action.GIVE_UP, "PurgeIncomplete")
    for word in ("15 minutes", "Deployment a", "pod p", "tables", "KafkaTopic t", "python -m k2.jobs.purge --feed"):
        assert word in next_step.message
    after_purge = step(deleted(body), RemainingObjects(job=DONE, topics=("t",)), ASKED + LIMIT, LIMIT).message
    assert "tables" not in after_purge
    assert "KafkaTopic t" in after_purge


def test_terminated_pods_and_the_purges_own_are_not_waited_for():
    labels = {"app.kubernetes.io/component": "gold"}

    def pod(name, phase, **more):
        return {"kind": "Pod", "metadata": {"name": name, "labels": labels | more}, "status": {"phase": phase}}

    pods = [
        pod("driver", "Running"), pod("exec", "Pending"), pod("done", "Succeeded"), pod("dead", "Failed"),
        pod("own", "Running", **{"app.kubernetes.io/component": "purge"}),
    ]  # fmt: skip
    kinds = ("Deployment", "SparkApplication", "ConfigMap", "KafkaTopic")
    children = [{"kind": kind, "metadata": {"name": "x"}} for kind in kinds]
    remaining = remaining_objects(UID, [*children, job(uid="older"), DONE], pods)
    assert remaining == RemainingObjects(("Deployment x", "SparkApplication x"), ("driver", "exec"), DONE)
    older = job(uid="older")
    assert remaining_objects(UID, [older], []).job is older


def test_a_feed_is_the_last_of_its_exchange_unless_another_one_remains(body):
    mine = deleted(body)
    assert deletion_plan.is_last_of_exchange(mine, [mine, body("k", exchange="kraken")])
    assert not deletion_plan.is_last_of_exchange(mine, [mine, body("other")])
    assert deletion_plan.is_last_of_exchange(mine, [mine, deleted(body, name="other")])
    assert not deletion_plan.is_last_of_exchange(mine, [mine, deleted(body, "Retain", "other")])
