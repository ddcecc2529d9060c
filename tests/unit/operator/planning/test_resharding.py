"""By which numbers of shards symbols are spread while the number changes."""

import copy
from dataclasses import replace

import pytest

from k2.operator.desired import children
from k2.operator.observed.feed_objects import FeedObjects
from k2.operator.observed.objects import Observed, Shard
from k2.operator.planning.resharding import live_counts, next_counts

SYMBOLS = [f"COIN{number}USDT" for number in range(20)]
READY = {"observedGeneration": 1, "readyReplicas": 1}


@pytest.fixture
def step(feed, settings):
    """Return the next counts of a feed whose pods have taken up both numbers, but for what is changed."""

    def run(live, target, *, changed=None, missing=(), status=READY, suspend=False, channels=("trades",)):
        own = feed(symbols=SYMBOLS, suspend=suspend, channels=list(channels))
        deployments = [raw for raw in children(own, settings(), counts=live) if raw["kind"] == "Deployment"]
        objects = [copy.deepcopy(raw) | {"status": status} for raw in deployments]
        for raw in objects:
            raw["metadata"]["generation"] = 1
        reports = {
            raw["metadata"]["name"]: Shard(
                "0", connected=True, states=(("flowing", 2),), pod=f"{raw['metadata']['name']}-6d4c-x2x9z", counts=live
            )
            for raw in objects
        }
        for name, changes in (changed or {}).items():
            reports[name] = replace(reports[name], **changes)
        shards = tuple(report for name, report in reports.items() if name not in missing)
        return next_counts(own, live, target, FeedObjects(tuple(objects)), Observed(shards=shards))

    return run


def test_a_feed_that_is_new_or_suspended_has_its_number_at_once(step):
    assert step((), 3) == (3,)
    assert step((2,), 3, suspend=True) == (3,)


def test_both_numbers_are_carried_until_the_new_one_has_taken_over(step):
    assert step((2,), 2) == (2,)
    assert step((2,), 3) == (2, 3)
    assert step((2, 3), 3) == (3,)
    assert step((3, 2), 2) == (2,)


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param({"missing": ["binance-shard-2-0"]}, id="the new pod says nothing"),
        pytest.param({"missing": ["binance-shard-0-0"]}, id="a pod that stays says nothing"),
        pytest.param({"changed": {"binance-shard-0-0": {"counts": (2,)}}}, id="has not read the file"),
        pytest.param({"changed": {"binance-shard-2-0": {"connected": False}}}, id="not connected"),
        pytest.param({"changed": {"binance-shard-2-0": {"states": (("sent", 1),)}}}, id="not subscribed"),
        pytest.param({"status": {"observedGeneration": 1}}, id="not ready"),
    ],
)
def test_until_then_nothing_is_given_up(step, trouble):
    assert step((2, 3), 3, **trouble) == (2, 3)


def test_the_number_changes_when_every_channel_has_taken_over(step):
    both = ("trades", "quotes")
    assert step((2, 3), 3, channels=both) == (3,)
    assert step((2, 3), 3, channels=both, missing=["binance-quotes-2-0"]) == (2, 3)
    assert step((3, 2), 2, channels=both, changed={"binance-quotes-2-0": {"open_gaps": 1}}) == (3, 2)


def test_a_pod_that_leaves_closes_its_gaps_first(step):
    leaving = {"binance-shard-2-0": {"open_gaps": 1}}
    assert step((3, 2), 2, changed=leaving) == (3, 2)
    assert step((2, 3), 3, changed=leaving) == (3,)


def test_a_pod_for_which_nothing_is_listed_holds_up_nothing(step):
    nothing = {"binance-shard-2-0": {"connected": False, "states": ()}}
    assert step((2, 3), 3, changed=nothing) == (3,)


@pytest.mark.parametrize("target", [2, 4])
def test_another_wish_first_goes_back_to_what_carries_everything(step, target):
    assert step((2, 3), target) == (2,)


@pytest.mark.parametrize(
    ("data", "counts"),
    [({"shards.json": '{"counts":[2,3]}'}, (2, 3)), ({"shards.json": '{"counts":[0]}'}, ()), ({}, ())],
)
def test_the_numbers_are_in_the_config_map(feed, data, counts):
    config = {"kind": "ConfigMap", "metadata": {"name": "binance-feed"}, "data": data}
    assert live_counts(feed(), FeedObjects((config,))) == counts
    assert live_counts(feed(), FeedObjects()) == ()


@pytest.mark.parametrize("channels", [["trades"], ["quotes"], ["trades", "quotes"]])
def test_without_a_config_map_the_deployments_say_the_number(feed, settings, channels):
    own = feed(symbols=SYMBOLS, channels=channels, ingest={"shards": "auto", "autoscale": {"min": 3}})
    live = FeedObjects(tuple(raw for raw in children(own, settings()) if raw["kind"] == "Deployment"))
    assert live_counts(own, live) == (3,)


def test_while_the_number_changes_each_symbol_has_a_pod_of_either(feed, settings):
    own = feed(symbols=SYMBOLS)
    names = {raw["metadata"]["name"] for raw in children(own, settings(), counts=(2, 3)) if raw["kind"] == "Deployment"}
    assert names == {f"binance-shard-{shard}-0" for shard in range(3)}
    for before in range(2):
        assert set(own.shard(before, counts=(2,))) <= set(own.shard(before, counts=(2, 3)))
    assert own.shard(2, counts=(2, 3)) == own.shard(2, counts=(3,)) != ()
