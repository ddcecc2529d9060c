"""Records of several partitions come out by time, and those of one partition in their own order."""

import random

from k2.query.kafka.kafka_reader import Place, Told
from k2.query.kafka.time_merge import Merging, merged

A: Place = ("trades", 0)
B: Place = ("trades", 1)


def told(place: Place, *times: int, first: int = 0) -> list[Told[str]]:
    return [Told(place, first + number, time, "") for number, time in enumerate(times)]


def times(found: list[Told[str]]) -> list[int]:
    return [record.timestamp for record in found]


def test_nothing_comes_before_what_another_partition_may_still_bring() -> None:
    merging: Merging[Told[str]] = Merging([A, B])
    merging.add(told(A, 1, 2, 5))
    assert merging.ready() == []
    assert merging.over(3) == {A}
    merging.add(told(B, 3))
    assert times(merging.ready()) == [1, 2, 3]
    assert merging.over(3) == set()
    merging.add(told(B, 4, 6, first=1))
    assert times(merging.ready()) == [4, 5]
    merging.end([A])
    assert times(merging.ready()) == [6]
    assert merging.ready() == []


def test_a_partition_keeps_its_order_where_its_times_do_not() -> None:
    found = merged([*told(A, 5, 1, 9), *told(B, 2, 3, 8)])
    assert [(record.place[1], record.offset) for record in found] == [(1, 0), (1, 1), (0, 0), (0, 1), (1, 2), (0, 2)]


def test_everything_comes_once_however_it_is_handed_in() -> None:
    chance = random.Random(7)
    places: list[Place] = [("trades", number) for number in range(5)]
    every = {
        place: told(place, *sorted(chance.randrange(1_000) for _ in range(chance.randrange(200)))) for place in places
    }
    merging: Merging[Told[str]] = Merging(places)
    found = merging.ready()
    left = {place: list(records) for place, records in every.items()}
    while left:
        place = chance.choice(list(left))
        count = chance.randrange(1, 40)
        merging.add(left[place][:count])
        del left[place][:count]
        if not left[place]:
            merging.end([place])
            del left[place]
        found += merging.ready()
    assert times(found) == sorted(record.timestamp for records in every.values() for record in records)
    assert sorted(found) == sorted(record for records in every.values() for record in records)


def test_of_nothing_there_is_nothing() -> None:
    assert merged([]) == []
    assert Merging([]).ready() == []
