"""A change restarts one replica of a shard at a time."""

import copy

import pytest

from k2.operator.desired import children
from k2.operator.observed.feed_objects import FeedObjects
from k2.operator.observed.objects import Observed
from k2.operator.planning.plan import plan
from k2.operator.planning.watchdog import Watchdog
from tests.unit.operator.conftest import NOW

UP = {"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1}
FIRST, SECOND = "binance-shard-0-0", "binance-shard-0-1"


@pytest.fixture
def applied(feed, settings):
    """Return the Deployments that a round applies: one replica has been changed, or both are to be."""

    def run(first, second, *, changed=(), redundancy=2, **spec):
        manifests = children(feed(ingest={"redundancy": redundancy}, **spec), settings(ingest_image="k2/ingest:next"))
        before = children(feed(ingest={"redundancy": redundancy}), settings())
        live = []
        for old, new in zip(before, manifests, strict=True):
            name = old["metadata"]["name"]
            raw = copy.deepcopy(new if name in changed else old)
            if raw["kind"] == "Deployment":
                raw["metadata"] |= {"uid": name, "generation": 1}
                raw["status"] = {FIRST: first, SECOND: second}[name]
                live.append(raw)
        observed, watchdog = Observed(), Watchdog(settings())
        outcome = plan(feed(**spec), manifests, FeedObjects(tuple(live)), {}, observed, watchdog, NOW)
        return [raw["metadata"]["name"] for raw in outcome.applies if raw["kind"] == "Deployment"]

    return run


def test_of_two_the_first_one_is_changed_and_then_the_other(applied):
    assert applied(UP, UP) == [FIRST]
    assert applied(UP, UP, changed=[FIRST]) == [SECOND]


@pytest.mark.parametrize(
    "first",
    [
        pytest.param({}, id="not observed"),
        pytest.param(UP | {"observedGeneration": 0}, id="an older generation"),
        pytest.param(UP | {"updatedReplicas": 0}, id="the old pod is still ready"),
        pytest.param(UP | {"readyReplicas": 0}, id="the new pod is not ready"),
        pytest.param(UP | {"replicas": 2}, id="the old pod is left"),
    ],
)
def test_the_other_waits_until_the_first_one_is_up(applied, first):
    assert applied(first, UP, changed=[FIRST]) == []


def test_replicas_that_are_not_up_do_not_wait_for_each_other(applied):
    assert applied({}, {}) == [FIRST, SECOND]
    assert applied({}, UP) == [FIRST]


def test_a_feed_that_is_suspended_does_not_wait(applied):
    assert applied(UP, UP, suspend=True) == [FIRST, SECOND]


def test_a_single_replica_waits_for_nothing(applied):
    assert applied(UP, UP, redundancy=1) == [FIRST]


def test_channels_do_not_wait_for_each_other(feed, settings):
    own = feed(channels=["trades", "quotes"])
    live = [copy.deepcopy(raw) for raw in children(own, settings()) if raw["kind"] == "Deployment"]
    for raw in live:
        raw["metadata"] |= {"generation": 1}
        raw["status"] = UP
    manifests = children(own, settings(ingest_image="k2/ingest:next"))
    outcome = plan(own, manifests, FeedObjects(tuple(live)), {}, Observed(), Watchdog(settings()), NOW)
    names = [raw["metadata"]["name"] for raw in outcome.applies if raw["kind"] == "Deployment"]
    assert names == [FIRST, "binance-quotes-0-0"]
