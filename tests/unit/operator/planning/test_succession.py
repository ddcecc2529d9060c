"""When an ingest Deployment that has another name than before may be deleted."""

import copy

import pytest

from k2.operator.desired import children
from k2.operator.observed.feed_objects import FeedObjects
from k2.operator.observed.objects import Observed, Shard
from k2.operator.planning.plan import plan
from k2.operator.planning.watchdog import Watchdog
from tests.unit.operator.conftest import NOW

NEW, OLD = "binance-shard-0-0", "binance-ingest-0-0"
READY = {"observedGeneration": 1, "readyReplicas": 1}
RECEIVING = Shard("0", connected=True, states=(("flowing", 1), ("quiet", 1)), pod=f"{NEW}-6d4cf56db6-x2x9z")


def of(name, deployment, generation=1):
    live = copy.deepcopy(deployment)
    live["metadata"] |= {"name": name, "uid": name, "generation": generation}
    return live


@pytest.fixture
def deleted(feed, settings):
    """Return the names of what is deleted, of the old Deployment and the new one in a state."""

    def run(status=None, shards=(), *, generation=1, **spec):
        manifests = children(feed(**spec), settings())
        template = next(manifest for manifest in children(feed(), settings()) if manifest["kind"] == "Deployment")
        live = [of(OLD, template)]
        if status is not None:
            live.append(of(NEW, template, generation) | {"status": status})
        objects = FeedObjects(tuple(live))
        outcome = plan(feed(**spec), manifests, objects, {}, Observed(shards=shards), Watchdog(settings()), NOW)
        return [raw["metadata"]["name"] for raw in outcome.deletes]

    return run


def test_the_old_deployment_goes_when_the_new_one_receives(deleted):
    assert deleted(READY, (RECEIVING,)) == [OLD]


@pytest.mark.parametrize(
    ("status", "shards"),
    [
        pytest.param(None, (RECEIVING,), id="not created"),
        pytest.param({"observedGeneration": 1}, (RECEIVING,), id="not ready"),
        pytest.param(READY, (), id="silent"),
        pytest.param(READY, (Shard("0", connected=False, pod=RECEIVING.pod),), id="not connected"),
        pytest.param(READY, (Shard("0", connected=True, pod=f"{OLD}-6d4cf56db6-aaaaa"),), id="only the old one"),
        *(
            pytest.param(READY, (Shard("0", connected=True, states=((state, 1),), pod=RECEIVING.pod),), id=state)
            for state in ("wanted", "sent", "unanswered")
        ),
    ],
)
def test_it_stays_until_then(deleted, status, shards):
    assert deleted(status, shards) == []


def test_it_stays_while_the_new_one_is_being_changed(deleted):
    assert deleted(READY, (RECEIVING,), generation=2) == []


def test_a_suspended_feed_needs_neither(deleted):
    assert deleted(None, (), suspend=True) == [OLD]


def test_a_channel_that_is_removed_is_succeeded_by_none(feed, settings):
    both = [raw for raw in children(feed(channels=["trades", "quotes"]), settings()) if raw["kind"] == "Deployment"]
    live = FeedObjects(tuple(of(raw["metadata"]["name"], raw) for raw in both))
    outcome = plan(feed(), children(feed(), settings()), live, {}, Observed(), Watchdog(settings()), NOW)
    assert [raw["metadata"]["name"] for raw in outcome.deletes] == ["binance-quotes-0-0"]
    assert not any(raw["kind"] == "Deployment" for raw in outcome.applies)


def test_of_a_replica_too_many_there_is_nothing_to_wait_for(deleted, feed, settings):
    (one, other) = (raw for raw in children(feed(ingest={"redundancy": 2}), settings()) if raw["kind"] == "Deployment")
    live = FeedObjects((of(OLD, one), of("binance-ingest-0-1", other)))
    outcome = plan(feed(), children(feed(), settings()), live, {}, Observed(), Watchdog(settings()), NOW)
    assert [raw["metadata"]["name"] for raw in outcome.deletes] == ["binance-ingest-0-1"]
