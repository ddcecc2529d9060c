"""Kafka's newest trades, judged by Silver's rules: what Gold will hold soon, and does not hold yet.

A command reads them once. A server keeps a consumer running in a thread and the newest trades in memory, so that a
question costs one round trip to Kafka, which says where its partitions end at the time of the question.
"""

import threading
import time
from collections.abc import Mapping
from itertools import chain
from typing import TYPE_CHECKING, Final

from k2.common.platform import Platform
from k2.query.errors import Unavailable
from k2.query.kafka import trade_buffer
from k2.query.kafka.kafka_offsets import Frontier
from k2.query.kafka.kafka_reader import Judged, Place, Records
from k2.query.kafka.trade_buffer import Held, View
from k2.query.kafka.validation import Row
from k2.query.sql.trade_sql import Wanted

if TYPE_CHECKING:
    from pyarrow import Table

HELD: Final = 200_000  # trades in memory, half a kilobyte each
_PATIENCE: Final = 30.0  # seconds until what Kafka has must have been read
_PAUSE: Final = 0.5  # seconds before a follower that failed begins anew
_POLL: Final = 0.1


class Tail:
    """The trades of one platform's Kafka from some frontier of Gold on. With `live`, close it.

    Several threads may use one.
    """

    def __init__(self, platform: Platform, *, live: bool = False, most: int = HELD) -> None:
        self._records = Records(platform)
        self._follower = _Follower(self._records, most) if live else None

    def rows(self, frontier: Frontier, wanted: Wanted) -> "Table":
        """Every valid trade that is wanted, from the frontier up to where Kafka ends now: Gold's twelve columns.

        A trade that came twice is here once: the first one. Raises `Unavailable` where Kafka or the registry is away,
        or where Kafka has lost what Gold does not hold; there is no answer that leaves the tail out.
        """
        labels = self._records.places(frontier.exchanges)
        ends = self._records.ends(labels)
        if self._follower is None:
            return trade_buffer.first_of_each(self._read(self._starts(frontier, ends, {}), ends, labels, wanted))
        starts = self._starts(frontier, ends, self._follower.floors)
        newest, floors = self._follower.reach(starts, ends, labels)
        until = {place: min(floors[place], end) for place, end in ends.items()}
        older = self._read(starts, until, labels, wanted)

        import pyarrow as pa

        return trade_buffer.first_of_each(pa.concat_tables([older, newest.rows(starts, wanted)]))

    def close(self) -> None:
        """Ends the thread, where there is one."""
        if self._follower is not None:
            self._follower.close()

    def _starts(self, frontier: Frontier, ends: Mapping[Place, int], floors: Mapping[Place, int]) -> dict[Place, int]:
        """Where the tail begins in each place: where Gold ends, or with all that Kafka has of what Gold never took.

        What stands at `floors` or after is in memory, and Kafka need not have it any more.
        """
        known = {place: offset for place in ends if (offset := frontier.offset(*place)) is not None}
        behind = [
            place
            for place, end in ends.items()
            if known.get(place, 0) < end and not known.get(place, -1) >= floors.get(place, end)
        ]
        first = self._records.beginnings(dict.fromkeys(behind))
        for (topic, partition), offset in known.items():
            place = (topic, partition)
            if offset > ends[place] or offset < first.get(place, 0):
                raise Unavailable(
                    f"Kafka no longer holds what follows Gold in {topic}: partition {partition} goes from "
                    f"{first.get(place, ends[place])} to {ends[place]}, and Gold ends before {offset}"
                )
        return {place: known.get(place, first.get(place, 0)) for place in ends}

    def _read(
        self, starts: Mapping[Place, int], ends: Mapping[Place, int], labels: Mapping[Place, str], wanted: Wanted
    ) -> "Table":
        batches = self._records.between(starts, ends, labels)
        rows = (record.verdict for record in chain.from_iterable(batches))
        return trade_buffer.table([row for row in rows if isinstance(row, Row) and trade_buffer.matching(wanted, row)])


class _Follower:
    """A thread that reads on and on, and what it holds."""

    def __init__(self, records: Records, most: int) -> None:
        self._records = records
        self._most = most
        self._changed = threading.Condition()
        self._held = Held(most)
        self._added: dict[Place, int] = {}
        self._labels: dict[Place, str] = {}
        self._positions: dict[Place, int] = {}
        self._failed: Unavailable | None = None
        self._closed = False
        self._thread: threading.Thread | None = None

    @property
    def floors(self) -> dict[Place, int]:
        """From where on everything of a place is held."""
        with self._changed:
            return dict(self._held.floors)

    def reach(
        self, starts: Mapping[Place, int], ends: Mapping[Place, int], labels: Mapping[Place, str]
    ) -> tuple[View, dict[Place, int]]:
        """What is held, and from where on that is everything, once all before `ends` has been read.

        Places that are new to it begin at `starts`.
        """
        deadline = time.monotonic() + _PATIENCE
        with self._changed:
            self._failed = None
            while True:
                self._begin({place: start for place, start in starts.items() if place not in self._positions}, labels)
                if all(self._positions[place] >= end for place, end in ends.items()):
                    return self._held.view(), dict(self._held.floors)
                if not self._changed.wait(deadline - time.monotonic()):
                    raise Unavailable(f"Kafka has more than could be read within {_PATIENCE:.0f} s; ask again")
                if self._failed is not None:
                    raise self._failed
                if self._closed:
                    raise Unavailable("the server stops")

    def close(self) -> None:
        """Ends the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _begin(self, starts: Mapping[Place, int], labels: Mapping[Place, str]) -> None:
        if not starts:
            return
        self._added |= starts
        self._positions |= starts
        self._labels |= labels
        self._held.begin(starts)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="k2-tail", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while not self._closed:
            try:
                self._follow()
            except Unavailable as error:
                self._forget(error)
                time.sleep(_PAUSE)

    def _follow(self) -> None:
        reader = self._records.reader({})
        try:
            while not self._closed:
                with self._changed:
                    if not self._added and not reader.positions:
                        self._changed.wait()
                    added, self._added = self._added, {}
                    labels = dict(self._labels) if added else {}
                if added:
                    reader.add(added, labels)
                self._take(reader.poll(_POLL), reader.positions)
        finally:
            reader.close()

    def _take(self, records: list[Judged], positions: Mapping[Place, int]) -> None:
        with self._changed:
            self._held.add(records)
            self._positions |= positions
            self._changed.notify_all()

    def _forget(self, error: Unavailable) -> None:
        """Begins anew: the next question says from where."""
        with self._changed:
            self._failed = error
            self._held = Held(self._most)
            self._added, self._positions = {}, {}
            self._changed.notify_all()
