"""The names that tables have for what Kafka holds."""

from k2.jobs.audit.offsets.kafka import current_names


def test_a_topic_that_was_never_made_again_has_one_name_and_no_id_is_asked_for():
    assert current_names(["a", "b", "a"], lambda _: {}["no"]) == {"a": "a", "b": "b"}


def test_a_topic_that_was_made_again_has_the_name_of_its_present_id():
    asked = []

    def look_up(topics):
        asked.extend(topics)
        return {"a": "y"}

    assert current_names(["a#x", "b", "a", "a#y"], look_up) == {"a": "a#y", "b": "b"}
    assert asked == ["a"]


def test_a_topic_of_which_nothing_is_committed_has_a_name_that_is_unknown_to_the_tables():
    assert current_names(["a#x"], lambda _: {"a": "z"}) == {"a": "a#z"}
