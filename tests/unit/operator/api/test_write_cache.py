"""What was written is known until a watch tells of it, and no longer."""

import time

import pytest

from k2.operator.api.write_cache import Fresh
from k2.operator.desired.naming import FEED


def child(version: int) -> dict:
    about = {"name": "spot", "namespace": "k2", "resourceVersion": str(version), "labels": {FEED: "spot-feed"}}
    return {"kind": "Service", "metadata": about}


WHERE = ("Service", "k2", "spot")


@pytest.fixture
def fresh() -> Fresh:
    return Fresh()


def test_what_was_written_is_found_until_a_watch_tells_of_it(fresh):
    fresh.wrote(child(7))
    assert fresh.find(*WHERE) == child(7)
    fresh.told(child(7))
    assert fresh.find(*WHERE) is None


def test_news_from_before_the_write_are_no_news(fresh):
    fresh.wrote(child(7))
    fresh.told(child(6))
    assert fresh.find(*WHERE) == child(7)
    fresh.told(child(8))
    assert fresh.find(*WHERE) is None


def test_a_watch_may_be_faster_than_the_answer(fresh):
    fresh.told(child(7))
    fresh.wrote(child(7))
    assert fresh.over("k2", "spot-feed", []) == (child(7),)
    assert fresh.take("k2", "spot-feed")
    fresh.told(child(8))
    assert fresh.find(*WHERE) is None


def test_an_answer_older_than_what_a_watch_told_is_passed_over(fresh):
    fresh.told(child(8))
    fresh.wrote(child(7))
    assert fresh.find(*WHERE) is None
    assert not fresh.take("k2", "spot-feed")


def test_what_was_deleted_is_not_there_whoever_wrote_it(fresh):
    fresh.wrote(child(7))
    fresh.told(child(8), deleted=True)
    assert fresh.find(*WHERE) is None


def test_what_was_made_anew_outlives_the_news_of_its_deletion(fresh):
    fresh.wrote(child(9))
    fresh.told(child(8), deleted=True)
    assert fresh.find(*WHERE) == child(9)


def test_what_was_written_takes_the_place_of_what_was_seen_of_that_feed_only(fresh):
    old, other = child(6), {**child(3), "kind": "ConfigMap"}
    fresh.wrote(child(7))
    assert fresh.over("k2", "spot-feed", [other, old]) == (other, child(7))
    assert fresh.over("k2", "another", [other]) == (other,)
    fresh.told(child(7))
    assert fresh.over("k2", "spot-feed", [other, old]) == (other, old)


def test_a_watch_that_stays_silent_is_not_waited_for(fresh, monkeypatch):
    fresh.wrote(child(7))
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 301)
    assert fresh.find(*WHERE) is None


def test_only_what_others_did_is_news(fresh):
    assert fresh.told(child(6))
    fresh.wrote(child(7))
    assert not fresh.told(child(7))
    assert fresh.told(child(7))
    fresh.wrote(child(8))
    assert fresh.told(child(9))
    assert fresh.told(child(10), deleted=True)


def test_a_feed_is_looked_at_once_more_after_a_write(fresh):
    assert not fresh.take("k2", "spot-feed")
    fresh.wrote(child(7))
    assert not fresh.take("k2", "another")
    assert fresh.take("k2", "spot-feed")
    assert not fresh.take("k2", "spot-feed")
