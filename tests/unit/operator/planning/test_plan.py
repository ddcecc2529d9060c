"""The plan of a round, from desired manifests and live objects."""

import copy
import json
from datetime import timedelta

import pytest

from k2.operator.desired import children
from k2.operator.desired.naming import SPEC_HASH
from k2.operator.desired.ownership import with_owner
from k2.operator.observed.feed_objects import FeedObjects
from k2.operator.observed.objects import Application, Layer, Observed, Rejection
from k2.operator.planning.plan import ROLLOUT, SPECS, plan, rolled_out
from k2.operator.planning.rollout import START_TIMEOUT
from k2.operator.planning.watchdog import Watchdog
from tests.unit.operator.conftest import NOW

GOLD = "binance-gold"


@pytest.fixture
def desired(feed, settings):
    return lambda **spec: children(feed(**spec), settings())


@pytest.fixture
def planned(feed, settings):
    def build(manifests, live=(), observed=None, watchdog=None, now=NOW, **spec):
        topics = {raw["metadata"]["name"]: raw for raw in live if raw["kind"] == "KafkaTopic"}
        watchdog = watchdog or Watchdog(settings())
        return plan(feed(**spec), manifests, FeedObjects(tuple(live)), topics, observed or Observed(), watchdog, now)

    return build


def names(manifests):
    return {f"{manifest['kind']}/{manifest['metadata']['name']}" for manifest in manifests}


def as_live(manifests):
    answers = copy.deepcopy(list(manifests))
    for number, raw in enumerate(answers):
        raw["metadata"]["uid"] = str(number)
    return answers


def running(manifest, state="RUNNING"):
    """What is observed of an application that runs a manifest's spec."""
    spec_hash = manifest["metadata"]["annotations"][SPEC_HASH]
    application = Application(GOLD, NOW, state, submitted_at=NOW, spec_hash=spec_hash)
    return Observed(applications={GOLD: application}, layers={"gold": Layer("RUNNING")})


def find(manifests, name=GOLD):
    return next(manifest for manifest in manifests if manifest["metadata"]["name"] == name)


def rollout_state(manifest):
    return json.loads(manifest["metadata"]["annotations"][ROLLOUT])


def test_of_a_new_feed_everything_is_applied_in_order_and_of_an_unchanged_one_nothing(desired, planned):
    manifests = desired()
    first = planned(manifests)
    assert [manifest["metadata"]["name"] for manifest in first.applies] == [
        manifest["metadata"]["name"] for manifest in manifests
    ]
    observed = Observed(
        applications={
            manifest["metadata"]["name"]: Application(
                manifest["metadata"]["name"], NOW, "SUBMITTED", spec_hash=manifest["metadata"]["annotations"][SPEC_HASH]
            )
            for manifest in first.applies
            if manifest["kind"] == "SparkApplication"
        }
    )
    second = planned(manifests, as_live(first.applies), observed)
    assert (second.applies, second.recreations, second.deletes) == ((), (), ())


@pytest.mark.parametrize("stored", [1, None])
def test_a_topic_keeps_its_replicas_whatever_new_topics_get(feed, settings, planned, stored):
    manifests = [raw for raw in children(feed(), settings(kafka_replicas=3)) if raw["kind"] == "KafkaTopic"]
    assert all(raw["spec"]["replicas"] == 3 for raw in manifests)
    first, *others = as_live(manifests)
    del first["spec"]["replicas"]
    if stored is not None:
        first["spec"]["replicas"] = stored
    assert planned(manifests, [first, *others]).applies == ()
    first["spec"]["config"]["retention.ms"] = "1"
    (applied,) = planned(manifests, [first, *others]).applies
    assert applied["spec"].get("replicas") == stored
    assert applied["spec"]["config"]["retention.ms"] == manifests[0]["spec"]["config"]["retention.ms"]


def test_a_changed_child_is_applied_and_one_that_is_not_desired_is_deleted(desired, planned):
    live = as_live(manifest for manifest in desired(ingest={"redundancy": 2}) if manifest["kind"] != "SparkApplication")
    manifests = [manifest for manifest in desired() if manifest["kind"] != "SparkApplication"]
    find(live, "binance")["spec"]["clusterIP"] = "10.0.0.1"
    outcome = planned(manifests, live)
    assert names(outcome.applies) == {"Service/binance", "ConfigMap/binance-feed"}
    assert names(outcome.deletes) == {"Deployment/binance-shard-0-1"}


def test_an_application_of_a_deleted_feed_of_the_same_name_is_deleted_and_not_taken_over(body, desired, planned):
    own = [with_owner(manifest, body()) for manifest in desired()]
    assert not planned(own, as_live(own)).deletes
    before = body()
    before["metadata"] = before["metadata"] | {"uid": "before"}
    live = as_live(with_owner(manifest, before) for manifest in desired())
    round_ = planned(own, live)
    applications = {f"SparkApplication/binance-{layer}" for layer in ("bronze", "silver", "gold")}
    assert names(round_.deletes) == applications
    assert not names(round_.applies) & applications
    assert "Deployment/binance-shard-0-0" in names(round_.applies)
    left = [raw for raw in live if raw["kind"] != "SparkApplication"]
    assert applications <= names(planned(own, left).applies)


def test_a_topic_whose_read_was_rejected_is_not_applied(desired, planned):
    trades = "market.crypto.trades.binance"
    rejection = Rejection("get", "kafkatopics", trades, 403, "forbidden")
    topics = {
        name for name in names(planned(desired(), (), Observed(rejections=(rejection,))).applies) if "Topic" in name
    }
    assert topics == {
        f"KafkaTopic/market.crypto.{kind}.binance" for kind in ("gaps", "evidence", "instruments", "deadletter")
    }


def test_a_healthy_application_is_suspended_with_its_old_spec_before_the_new_one_is_applied(desired, feed):
    old, new = find(desired()), find(desired(layers={"gold": {"trigger": "90s"}}))
    observed = running(old)
    live, _ = rolled_out(feed(), old, None, Observed(), NOW)
    live, _ = rolled_out(feed(), old, live, observed, NOW)
    stopping, message = rolled_out(feed(), new, live, observed, NOW)
    assert stopping["spec"] == {**old["spec"], "suspend": True}
    assert message == ""
    stopped = running(old, "SUSPENDED")
    starting, _ = rolled_out(feed(), new, stopping, stopped, NOW)
    assert starting["spec"] == {**new["spec"], "suspend": False}
    assert set(json.loads(starting["metadata"]["annotations"][SPECS])) == {
        old["metadata"]["annotations"][SPEC_HASH],
        new["metadata"]["annotations"][SPEC_HASH],
    }


def test_a_spec_that_does_not_become_healthy_is_replaced_by_the_stable_one_with_the_reason(desired, feed):
    old, new = find(desired()), find(desired(layers={"gold": {"trigger": "90s"}}))
    live, _ = rolled_out(feed(), old, None, Observed(), NOW)
    for manifest, observed in ((old, running(old)), (new, running(old)), (new, running(old, "SUSPENDED"))):
        live, _ = rolled_out(feed(), manifest, live, observed, NOW)
    later = NOW + START_TIMEOUT + timedelta(seconds=1)
    rolled_back, message = rolled_out(feed(), new, live, running(new, "FAILED"), later)
    assert rolled_back["spec"] == old["spec"]
    assert "the last stable spec runs" in message
    assert rollout_state(rolled_back)["refused"] == new["metadata"]["annotations"][SPEC_HASH]


def test_a_stuck_application_is_recreated_once_and_its_rollout_state_survives(desired, planned, settings):
    manifests = [find(desired())]
    watchdog = Watchdog(settings(rerun_stuck_after="5m", rerun_cool_down="30m"))
    (first,) = planned(manifests, watchdog=watchdog).applies
    (live,) = as_live([first])
    stuck = running(first, "PENDING_RERUN")
    assert planned(manifests, [live], stuck, watchdog).recreations == ()
    due = NOW + timedelta(minutes=5)
    (recreation,) = planned(manifests, [live], stuck, watchdog, due).recreations
    assert recreation.live is live
    assert "was in PENDING_RERUN for 5m" in recreation.message
    assert planned(manifests, [live], stuck, watchdog, due).recreations, "a deletion that failed is retried"
    watchdog.deleted(recreation)
    (again,) = planned(manifests, (), Observed(), watchdog, due).applies
    assert rollout_state(again)["trying"] == rollout_state(first)["trying"]
    recreated = {**live, "metadata": {**live["metadata"], "uid": "another"}}
    planned(manifests, [recreated], stuck, watchdog, due)
    outcome = planned(manifests, [recreated], stuck, watchdog, due + timedelta(minutes=6))
    assert (outcome.recreations, outcome.stuck) == ((), {GOLD})
