"""Where the tail begins in each partition, and when Kafka no longer holds what follows Gold."""

from collections.abc import Mapping
from typing import Any

import pytest

from k2.common.platform import Platform
from k2.query.errors import Unavailable
from k2.query.kafka.kafka_offsets import Frontier
from k2.query.kafka.tail import Tail
from k2.schemas.channels import TRADES

ONE, TWO = ("trades", 0), ("trades", 1)


class Offsets:
    """A stand-in for the reader: the first offset that Kafka holds of each partition."""

    def __init__(self, first: Mapping[tuple[str, int], int]) -> None:
        self.first = first
        self.asked: list[tuple[str, int]] = []

    def beginning_offsets(self, partitions: Mapping[tuple[str, int], Any]) -> dict[tuple[str, int], int]:
        self.asked += partitions
        return {each: self.first[each] for each in partitions}


def starts(first, ends, consumed, floors=None) -> tuple[dict[tuple[str, int], int], list[tuple[str, int]]]:
    """Return the tail's first offsets and the partitions whose first offset Kafka was asked for."""
    tail = Tail(Platform(), TRADES)
    kafka = Offsets(first)
    tail._kafka = kafka  # type: ignore[assignment]
    return tail._starts(Frontier({"trades": consumed}), ends, floors or {}), kafka.asked


def test_the_tail_begins_where_gold_ends_or_at_kafkas_first_offset():
    assert starts({ONE: 2, TWO: 3}, {ONE: 9, TWO: 9}, {0: 5}) == ({ONE: 5, TWO: 3}, [ONE, TWO])
    assert starts({ONE: 5}, {ONE: 9}, {0: 5}) == ({ONE: 5}, [ONE])


@pytest.mark.parametrize("first", [6, 9])
def test_records_after_gold_that_kafka_deleted_make_the_tail_unavailable(first):
    with pytest.raises(Unavailable, match=f"partition 0 holds offsets {first} to 9, Gold ends before 5"):
        starts({ONE: first}, {ONE: 9}, {0: 5})


def test_gold_beyond_the_end_of_kafka_makes_the_tail_unavailable():
    with pytest.raises(Unavailable, match="partition 0 holds offsets 9 to 9, Gold ends before 10"):
        starts({}, {ONE: 9}, {0: 10})


def test_kafka_is_not_asked_for_the_first_offset_of_a_partition_that_gold_holds_completely():
    assert starts({}, {ONE: 9}, {0: 9}) == ({ONE: 9}, [])
    assert starts({}, {ONE: 0}, {}) == ({ONE: 0}, [])
    assert starts({}, {ONE: 0}, {0: 0}) == ({ONE: 0}, [])


def test_a_single_record_that_gold_does_not_hold_belongs_to_the_tail():
    assert starts({ONE: 0}, {ONE: 1}, {}) == ({ONE: 0}, [ONE])
    assert starts({ONE: 0}, {ONE: 1}, {0: 0}) == ({ONE: 0}, [ONE])


def test_records_that_are_in_memory_may_be_deleted_in_kafka():
    assert starts({ONE: 8}, {ONE: 9}, {0: 5}, {ONE: 5}) == ({ONE: 5}, [])
    assert starts({ONE: 8}, {ONE: 9}, {0: 5}, {ONE: 4}) == ({ONE: 5}, [])
    with pytest.raises(Unavailable, match="partition 0 holds offsets 8 to 9, Gold ends before 5"):
        starts({ONE: 8}, {ONE: 9}, {0: 5}, {ONE: 6})


def test_a_partition_that_gold_has_nothing_of_begins_at_kafkas_first_offset_even_if_it_is_in_memory():
    assert starts({ONE: 3}, {ONE: 9}, {}, {ONE: 0}) == ({ONE: 3}, [ONE])
