"""What is done next for a deleted feed, by what is there; and the Job that purges it."""

from datetime import UTC, datetime, timedelta

import pytest

from k2.operator.desired.naming import selector
from k2.operator.desired.purge import purge_job
from k2.operator.planning import deletion_plan
from k2.operator.planning.deletion_plan import Action, Remains, remains, step

ASKED = datetime(2026, 1, 2, 3, 0, 0, tzinfo=UTC)
NOW = ASKED + timedelta(minutes=5)
LIMIT = timedelta(minutes=15)
UID = "uid-of-market-binance"


def deleted(body, policy="Delete", name="binance", **spec):
    found = body(name, deletionPolicy=policy, **spec)
    found["metadata"]["deletionTimestamp"] = "2026-01-02T03:00:00Z"
    return found


def job(condition="", *, uid=UID, ended=ASKED, **about):
    told = {"type": condition, "status": "True", "message": "Job has reached its backoff limit"}
    return {
        "kind": "Job",
        "metadata": {"name": "binance-purge", "ownerReferences": [{"uid": uid, "kind": "ExchangeFeed"}], **about},
        "status": {"conditions": [told | {"lastTransitionTime": ended.isoformat()}] if condition else []},
    }


DONE = job("Complete")
LONG_AGO, JUST_NOW = NOW - timedelta(minutes=2), NOW - timedelta(seconds=10)


@pytest.mark.parametrize(
    ("left", "action", "reason", "words"),
    [
        (Remains(parts=("Deployment a",), pods=("p",)), "STOP", "Deleting", "Deployment a"),
        (Remains(parts=("Deployment a",), job=DONE), "STOP", "Deleting", "Deployment a"),
        (Remains(pods=("p", "q", "r", "s")), "WAIT", "Deleting", "p, q, r and 1 more"),
        (Remains(topics=("t",)), "PURGE", "Deleting", "tables"),
        (Remains(job=job()), "WAIT", "Deleting", "binance-purge"),
        (Remains(job=job(uid="older")), "RETRY", "Deleting", "older feed's"),
        (Remains(job=job("Complete", uid="older")), "RETRY", "Deleting", "older feed's"),
        (Remains(job=job("Complete", deletionTimestamp="2026-01-02T03:01:00Z")), "WAIT", "Deleting", "being deleted"),
        (Remains(job=job("Failed", ended=JUST_NOW)), "WAIT", "PurgeFailed", "backoff limit"),
        (Remains(job=job("Failed", ended=LONG_AGO)), "RETRY", "PurgeFailed", "made anew"),
        (Remains(job=DONE, topics=("t",)), "DROP", "Deleting", "t"),
        (Remains(job=DONE, unreadable="403"), "WAIT", "PurgeFailed", "403"),
        (Remains(job=DONE), "RELEASE", "Deleting", ""),
        (Remains(job=DONE, refused="not its own"), "ABANDON", "PurgeSkipped", "not its own"),
    ],
)
def test_the_next_step_of_a_feed_whose_data_goes(body, left, action, reason, words):
    found = step(deleted(body), left, NOW, LIMIT)
    assert (found.action.name, found.reason) == (action, reason)
    assert words in found.message


def test_a_feed_that_keeps_its_data_goes_at_once(body):
    left = Remains(parts=("Deployment a",), pods=("p",), topics=("t",))
    assert step(deleted(body, "Retain"), left, NOW, LIMIT).action is Action.RELEASE
    plain = deleted(body)
    del plain["spec"]["deletionPolicy"]
    assert step(plain, left, NOW, LIMIT).action is Action.RELEASE


def test_at_the_deadline_it_is_told_what_is_left_and_how_to_remove_it(body):
    left = Remains(parts=("Deployment a",), pods=("p",), job=job("Failed"), topics=("t",))
    assert step(deleted(body), left, ASKED + LIMIT - timedelta(seconds=1), LIMIT).action is not Action.ABANDON
    found = step(deleted(body), left, ASKED + LIMIT, LIMIT)
    assert (found.action, found.reason) == (Action.ABANDON, "PurgeUnfinished")
    for word in ("15 minutes", "Deployment a", "pod p", "tables", "KafkaTopic t", "python -m k2.jobs.purge --feed"):
        assert word in found.message
    after = step(deleted(body), Remains(job=DONE, topics=("t",)), ASKED + LIMIT, LIMIT).message
    assert "tables" not in after
    assert "KafkaTopic t" in after


def test_pods_that_ended_and_the_purges_own_are_not_waited_for():
    labels = {"app.kubernetes.io/component": "gold"}

    def pod(name, phase, **more):
        return {"kind": "Pod", "metadata": {"name": name, "labels": labels | more}, "status": {"phase": phase}}

    pods = [
        pod("driver", "Running"), pod("exec", "Pending"), pod("done", "Succeeded"), pod("dead", "Failed"),
        pod("own", "Running", **{"app.kubernetes.io/component": "purge"}),
    ]  # fmt: skip
    kinds = ("Deployment", "SparkApplication", "ConfigMap", "KafkaTopic")
    children = [{"kind": kind, "metadata": {"name": "x"}} for kind in kinds]
    found = remains(UID, [*children, job(uid="older"), DONE], pods)
    assert found == Remains(("Deployment x", "SparkApplication x"), ("driver", "exec"), DONE)
    older = job(uid="older")
    assert remains(UID, [older], []).job is older


def test_a_feed_is_alone_unless_another_of_its_exchange_stays(body):
    mine = deleted(body)
    assert deletion_plan.alone(mine, [mine, body("k", exchange="kraken")])
    assert not deletion_plan.alone(mine, [mine, body("other")])
    assert deletion_plan.alone(mine, [mine, deleted(body, name="other")])
    assert not deletion_plan.alone(mine, [mine, deleted(body, "Retain", "other")])


def test_the_job_runs_under_the_restricted_profile_and_knows_the_services(feed, settings):
    made = purge_job(feed(), settings(deletion_deadline="10m"), exchange=True)
    pod = made["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert made["metadata"]["name"] == "binance-purge"
    assert made["metadata"]["labels"]["k2.marketdata.io/feed"] == "binance"
    assert made["spec"]["template"]["metadata"]["labels"] == selector(feed(), "purge")
    assert made["spec"]["activeDeadlineSeconds"] == 600
    assert made["spec"]["ttlSecondsAfterFinished"] > 0
    assert (pod["restartPolicy"], pod["securityContext"]["runAsUser"]) == ("Never", 185)
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert container["command"] == ["python", "-m", "k2.jobs.purge"]
    assert container["args"] == ["--feed", "/etc/k2/feed.yaml", "--memory", "921m", "--exchange"]
    other = purge_job(feed(), settings(), exchange=False)["spec"]["template"]["spec"]["containers"][0]
    assert "--exchange" not in other["args"]
    told = {variable["name"] for variable in container["env"]}
    assert told >= {"K2_CATALOG_URI", "K2_CATALOG_PASSWORD", "K2_WAREHOUSE", "K2_CHECKPOINTS", "AWS_SECRET_ACCESS_KEY"}
    assert {volume["name"] for volume in pod["volumes"]} == {"feed", "tmp", "work"}
