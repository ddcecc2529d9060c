"""A write is visible until a watch reports the object, and no longer."""

import time

import pytest

from k2.operator.api.object_codec import pack
from k2.operator.api.write_cache import WriteCache
from k2.operator.desired.naming import FEED
from k2.operator.observed.feed_objects import FeedObjects


def child(version: int) -> dict:
    about = {"name": "spot", "namespace": "k2", "resourceVersion": str(version), "labels": {FEED: "spot-feed"}}
    return {"kind": "Service", "metadata": about}


WHERE = ("Service", "k2", "spot")


@pytest.fixture
def cache() -> WriteCache:
    return WriteCache()


def test_a_write_is_cached_until_it_is_observed(cache):
    cache.record(child(7))
    assert cache.find(*WHERE) == child(7)
    cache.observe(child(7))
    assert cache.find(*WHERE) is None


def test_an_event_from_before_the_write_does_not_replace_it(cache):
    cache.record(child(7))
    cache.observe(child(6))
    assert cache.find(*WHERE) == child(7)
    cache.observe(child(8))
    assert cache.find(*WHERE) is None


def test_a_watch_event_may_arrive_before_the_answer(cache):
    cache.observe(child(7))
    cache.record(child(7))
    assert cache.overlay("k2", "spot-feed", []) == (child(7),)
    cache.observe(child(8))
    assert cache.find(*WHERE) is None


def test_an_answer_older_than_an_observed_version_is_ignored(cache):
    cache.observe(child(8))
    cache.record(child(7))
    assert cache.find(*WHERE) is None


def test_a_deletion_evicts_the_write(cache):
    cache.record(child(7))
    cache.observe(child(8), deleted=True)
    assert cache.find(*WHERE) is None


def test_a_recreated_object_outlives_the_deletion_of_the_old_one(cache):
    cache.record(child(9))
    cache.observe(child(8), deleted=True)
    assert cache.find(*WHERE) == child(9)


def test_a_write_replaces_the_observed_object_of_that_feed_only(cache):
    old, other = child(6), {**child(3), "kind": "ConfigMap"}
    cache.record(child(7))
    assert cache.overlay("k2", "spot-feed", [other, old]) == (other, child(7))
    assert cache.overlay("k2", "another", [other]) == (other,)
    cache.observe(child(7))
    assert cache.overlay("k2", "spot-feed", [other, old]) == (other, old)


def test_a_write_that_is_never_observed_expires(cache, monkeypatch):
    cache.record(child(7))
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 301)
    assert cache.find(*WHERE) is None


def test_only_changes_by_others_are_reported_as_changes(cache):
    assert cache.observe(child(6))
    cache.record(child(7))
    assert not cache.observe(child(7))
    assert cache.observe(child(7))
    cache.record(child(8))
    assert cache.observe(child(9))
    assert cache.observe(child(10), deleted=True)


def test_a_feeds_objects_are_its_indexed_ones_with_the_written_ones_in_place(cache):
    pod, other_feed = {"kind": "Pod", "metadata": {"name": "p"}}, {"kind": "ExchangeFeed", "metadata": {"uid": "u"}}
    shared = {"kind": "KafkaTopic", "metadata": {"name": "gaps", "namespace": "k2"}}
    indices = {
        "children": {("k2", "spot-feed"): [pack(child(6))], ("k2", ""): [pack(shared)], ("k2", "another"): [b""]},
        "pods": {("k2", "spot-feed"): [pod]},
        "feeds": {"u": [other_feed]},
    }
    assert cache.feed_objects(("k2", "spot-feed"), indices) == FeedObjects(
        (child(6),), (pod,), (other_feed,), (shared,)
    )
    cache.record(child(7))
    assert cache.feed_objects(("k2", "spot-feed"), indices).children == (child(7),)
    assert cache.feed_objects(("k2", "missing"), {"children": {}, "pods": {}, "feeds": {}}) == FeedObjects()


def test_a_feed_has_the_status_that_was_written_last_unless_it_was_recreated(cache):
    metadata = {"name": "spot", "namespace": "k2", "uid": "one", "resourceVersion": "7"}
    feed = {"kind": "ExchangeFeed", "metadata": metadata}
    assert cache.newest(feed) == feed
    cache.record({**feed, "status": {"phase": "Running"}})
    assert cache.newest(feed) == {**feed, "status": {"phase": "Running"}}
    recreated = {**feed, "metadata": {**metadata, "uid": "two"}}
    assert cache.newest(recreated) == recreated
