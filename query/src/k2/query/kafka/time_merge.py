"""Records of several partitions, merged by Kafka's time of them.

A broker hands out one partition after the other, in large parts. Whoever remembers what was sent, in order to send
nothing twice, can only remember so much: what came at one time must be looked at at about one time.
"""

import heapq
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from k2.query.kafka.kafka_reader import Place, Told

P = TypeVar("P", bound="Told[Any]")


class Merging(Generic[P]):
    """Takes records as they come and gives them merged. Those of one place keep their order, whatever their times."""

    def __init__(self, places: "Iterable[Place]") -> None:
        self._waiting: dict[Place, deque[P]] = {place: deque() for place in places}
        self._open = set(self._waiting)

    def add(self, records: Iterable[P]) -> None:
        """More records, of any of the places."""
        for record in records:
            self._waiting[record.place].append(record)

    def end(self, places: "Iterable[Place]") -> None:
        """Nothing more comes of these places."""
        self._open.difference_update(places)

    def over(self, most: int) -> "set[Place]":
        """The places of which so many wait for the others, or more."""
        return {place for place, waiting in self._waiting.items() if len(waiting) >= most}

    def ready(self) -> list[P]:
        """What can be given: up to where a place has nothing, of which more may come."""
        if any(not self._waiting[place] for place in self._open):
            return []
        heads = [(waiting[0].timestamp, place) for place, waiting in self._waiting.items() if waiting]
        heapq.heapify(heads)
        found: list[P] = []
        while heads:
            _, place = heads[0]
            waiting = self._waiting[place]
            found.append(waiting.popleft())
            if waiting:
                heapq.heapreplace(heads, (waiting[0].timestamp, place))
            elif place in self._open:
                break
            else:
                heapq.heappop(heads)
        return found


def merged(records: Iterable[P]) -> list[P]:
    """The same of records that are all there."""
    found = list(records)
    merging: Merging[P] = Merging({record.place for record in found})
    merging.add(found)
    merging.end({record.place for record in found})
    return merging.ready()
