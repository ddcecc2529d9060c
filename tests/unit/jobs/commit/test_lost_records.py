"""Which records Kafka deleted before a query read them, and where the query goes on."""

from k2.jobs.commit import lost_records

POSITION = {"a": {"0": 5, "1": 9, "2": 0}, "b": {"0": 3}}


def test_nothing_is_lost_while_kafka_has_the_next_offset():
    first = {"a": {"0": 5, "1": 0, "2": 0, "3": 7}, "b": {"0": 3}}
    assert lost_records.find(POSITION, first) == {}
    assert lost_records.find({}, first) == {}
    assert lost_records.find(POSITION, {}) == {}


def test_what_lies_between_the_next_offset_and_the_first_one_is_lost():
    lost = lost_records.find(POSITION, {"a": {"0": 6, "1": 12, "2": 0}, "b": {"0": 3}})
    assert lost == {"a": {"0": (5, 5), "1": (9, 11)}}
    text = "Kafka deleted offsets 5 to 5 of a/0; offsets 9 to 11 of a/1 before they were read"
    assert lost_records.sentence(lost).startswith(text)


def test_a_recovered_query_goes_on_behind_what_is_lost_and_repeats_nothing():
    first = {"a": {"0": 7, "1": 2, "2": 0, "3": 4}, "b": {"0": 3}, "c": {"0": 1}}
    assert lost_records.starts(POSITION, first) == {
        "a": {"0": 7, "1": 9, "2": 0, "3": 4}, "b": {"0": 3}, "c": {"0": 1},
    }  # fmt: skip


def test_losses_are_added_to_those_on_record():
    once = lost_records.properties({"a": {"0": (5, 6)}}, {"other": "1"})
    twice = lost_records.properties({"a": {"0": (9, 9), "1": (0, 1)}}, once)
    assert lost_records.from_properties({**once, **twice, "other": "1"}) == {
        ("a", 0): [(5, 6), (9, 9)],
        ("a", 1): [(0, 1)],
    }


def test_a_loss_that_is_on_record_is_not_added_again():
    lost = {"a": {"0": (5, 6)}}
    once = lost_records.properties(lost, {})
    assert lost_records.properties(lost, once) == once


def test_a_topic_with_a_slash_free_name_and_its_id_is_read_back():
    lost = {"market.crypto.trades.binance#x_y-z": {"12": (1, 2)}}
    stored = lost_records.properties(lost, {})
    assert lost_records.from_properties(stored) == {("market.crypto.trades.binance#x_y-z", 12): [(1, 2)]}
