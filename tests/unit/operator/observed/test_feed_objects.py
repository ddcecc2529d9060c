"""Lookups in a feed's objects, and the overlay of what a round has written."""

from k2.operator.observed.feed_objects import FeedObjects


def raw(kind, name, version=1):
    return {"kind": kind, "metadata": {"name": name, "resourceVersion": str(version)}}


OBJECTS = FeedObjects(
    children=(raw("Service", "a"), raw("ConfigMap", "a"), raw("KafkaTopic", "trades")),
    shared=(raw("KafkaTopic", "gaps"), raw("Service", "b")),
)


def test_a_child_is_found_by_kind_and_name():
    assert OBJECTS.find("ConfigMap", "a") == raw("ConfigMap", "a")
    assert OBJECTS.find("ConfigMap", "b") is None
    assert OBJECTS.of_kind("Service") == [raw("Service", "a")]


def test_a_topic_is_the_feeds_own_or_shared_and_nothing_else_is():
    assert OBJECTS.topic("trades") == raw("KafkaTopic", "trades")
    assert OBJECTS.topic("gaps") == raw("KafkaTopic", "gaps")
    assert OBJECTS.topic("b") is None
    assert OBJECTS.find("Service", "b") is None


def test_written_objects_replace_their_older_versions_and_new_ones_are_added():
    after = OBJECTS.with_written([raw("Service", "a", 2), raw("Deployment", "a")])
    assert after.find("Service", "a") == raw("Service", "a", 2)
    assert after.find("Deployment", "a") == raw("Deployment", "a")
    assert len(after.children) == 4
    assert after.shared == OBJECTS.shared
    assert OBJECTS.with_written([]) == OBJECTS
