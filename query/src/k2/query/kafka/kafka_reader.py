"""Kafka's trades: which partitions there are, where they end, and their records, judged. Nothing else here asks Kafka.

Everything raises `Unavailable`, which names the service, where Kafka or the schema registry does not answer.
"""

import time
from collections.abc import Callable, Generator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import closing
from typing import Any, Final, Generic, NamedTuple, TypeVar
from uuid import uuid4

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from k2.common.platform import Platform
from k2.common.schema_registry import Registry, RegistryUnavailable, SchemaBook
from k2.query.errors import Unavailable
from k2.query.kafka.time_merge import Merging
from k2.query.kafka.validation import Judge, Row
from k2.schemas import topics
from k2.schemas.exchanges.spec import EXCHANGES

TIMEOUT: Final = 5.0
_STALLED: Final = 10.0  # seconds without a record that must be there
_MOST: Final = 5_000
_WAITING: Final = 2_000  # records of a partition that wait for those of others before no more are fetched
_UNHEARD_OF: Final = 10.0  # seconds for which a schema that the registry lacks is not asked for again
_STANDARD: Final = topics.trades("")
_LATEST: Final = OffsetSpec.latest()  # type: ignore[no-untyped-call]
_EARLIEST: Final = OffsetSpec.earliest()  # type: ignore[no-untyped-call]

T = TypeVar("T")

Place = tuple[str, int]  # topic and partition


class Told(NamedTuple, Generic[T]):
    """One record: where it stood, Kafka's time of it in milliseconds, and what it says."""

    place: Place
    offset: int
    timestamp: int
    verdict: T


class Frame(NamedTuple):
    """One frame that an ingest could not use; without its bytes where only their number is asked for."""

    exchange: str
    error: str
    reason: str
    size: int
    value: bytes


Judged = Told[Row | str]  # a trade, or the rule that it breaks
Judgement = Callable[[str, str, Message], T]  # of a record, by its topic and the label of its exchange


class Records:
    """The topics of one platform."""

    def __init__(self, platform: Platform) -> None:
        self._bootstrap = platform.kafka_bootstrap
        self._registry = Registry(platform.registry_url)
        self._admin: AdminClient | None = None
        self._books: dict[str, _Book] = {}

    def places(self, exchanges: Mapping[str, str]) -> dict[Place, str]:
        """Every partition of the trade topics that there are, with the label of its trades.

        These are the topics with K2's own names, and those in `exchanges`, which says the labels of their trades.
        """
        return self._places(_STANDARD, exchanges)

    def letters(self) -> dict[Place, str]:
        """Every partition with frames that an ingest could not use, with the label of its exchange."""
        return self._places(topics.deadletter(""), {})

    def ends(self, places: Mapping[Place, Any]) -> dict[Place, int]:
        """The offset after the last record of each."""
        return self._offsets(dict.fromkeys(places, _LATEST))

    def beginnings(self, places: Mapping[Place, Any]) -> dict[Place, int]:
        """The offset of the first record that Kafka still holds of each."""
        return self._offsets(dict.fromkeys(places, _EARLIEST))

    def since(self, places: Mapping[Place, Any], time: int) -> dict[Place, int]:
        """The offset of the first record of each that is not older, in milliseconds; a place without is left out."""
        found = self._offsets(dict.fromkeys(places, OffsetSpec.for_timestamp(time)))
        return {place: offset for place, offset in found.items() if offset >= 0}

    def reader(self, places: Mapping[Place, str]) -> "Reader[Row | str]":
        """Reads on and on; told later of more places."""
        return Reader(self._bootstrap, dict(places), self._judge)

    def between(
        self, starts: Mapping[Place, int], ends: Mapping[Place, int], places: Mapping[Place, str]
    ) -> Generator[list[Judged]]:
        """The trades from `starts` on that stand before `ends`, which must be there."""
        return self._read(starts, ends, places, self._judge)

    def merged(
        self, starts: Mapping[Place, int], ends: Mapping[Place, int], places: Mapping[Place, str]
    ) -> Generator[list[Judged]]:
        """The same, merged by Kafka's time: no partition runs ahead of the others."""
        return self._read(starts, ends, places, self._judge, merging=True)

    def frames(
        self,
        starts: Mapping[Place, int],
        ends: Mapping[Place, int],
        places: Mapping[Place, str],
        *,
        whole: bool = False,
    ) -> Generator[list[Told[Frame]]]:
        """The same of the frames that ingests could not use, with their bytes if they are asked for `whole`."""
        return self._read(starts, ends, places, _frame if whole else _counted)

    def _read(
        self,
        starts: Mapping[Place, int],
        ends: Mapping[Place, int],
        places: Mapping[Place, str],
        judge: Judgement[T],
        *,
        merging: bool = False,
    ) -> Generator[list[Told[T]]]:
        left = {place: ends[place] for place, start in starts.items() if start < ends[place]}
        if not left:
            return
        merge: Merging[Told[T]] | None = Merging(left) if merging else None
        with closing(Reader(self._bootstrap, dict(places), judge)) as reader:
            reader.add({place: starts[place] for place in left})
            heard = time.monotonic()
            while left:
                found = reader.poll(0.5)
                if found:
                    heard = time.monotonic()
                elif time.monotonic() - heard > _STALLED:
                    raise Unavailable(f"Kafka at {self._bootstrap} does not give back what it holds of {_named(left)}")
                found = [record for record in found if record.offset < ends[record.place]]
                left = {place: end for place, end in left.items() if reader.positions[place] < end}
                if merge is None:
                    yield found
                    continue
                merge.add(found)
                merge.end(place for place in ends if place not in left)
                yield merge.ready()
                reader.hold(merge.over(_WAITING) & left.keys())

    def _places(self, standard: str, labels: Mapping[str, str]) -> dict[Place, str]:
        found: dict[Place, str] = {}
        for name, topic in self._asked(lambda admin: admin.list_topics(timeout=TIMEOUT)).topics.items():
            facts = EXCHANGES.get(name.removeprefix(standard)) if name.startswith(standard) else None
            if label := labels.get(name) or (facts.label if facts else ""):
                found |= dict.fromkeys(((name, partition) for partition in topic.partitions), label)
        return found

    def _offsets(self, specs: Mapping[Place, OffsetSpec]) -> dict[Place, int]:
        wanted = {TopicPartition(*place): spec for place, spec in specs.items()}

        def told(admin: AdminClient) -> dict[Place, int]:
            answers = admin.list_offsets(wanted, request_timeout=TIMEOUT)
            return {(at.topic, at.partition): answer.result(2 * TIMEOUT).offset for at, answer in answers.items()}

        return self._asked(told) if wanted else {}

    def _asked(self, question: "Callable[[AdminClient], T]") -> "T":
        if self._admin is None:
            self._admin = AdminClient({"bootstrap.servers": self._bootstrap, "log_level": 0})
        try:
            return question(self._admin)
        except (KafkaException, TimeoutError) as error:
            raise _unavailable(self._bootstrap, error) from error

    def _judge(self, topic: str, label: str, message: Message) -> Row | str:
        book = self._books.get(topic)
        if book is None:
            book = self._books[topic] = _Book(self._registry, topic, label)
        return book.verdict(message)


class Reader(Generic[T]):
    """A consumer of some partitions that belongs to no group and commits nothing. One thread may use it."""

    def __init__(self, bootstrap: str, places: dict[Place, str], judge: Judgement[T]) -> None:
        self._bootstrap = bootstrap
        self._labels = places
        self._judge = judge
        self.positions: dict[Place, int] = {}  # the next offset of each place
        self._held: AbstractSet[Place] = frozenset()
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": f"k2-query-{uuid4()}",
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                "enable.partition.eof": True,  # a partition may end in something that is no record
                "fetch.queue.backoff.ms": 20,
                "queued.min.messages": 10_000,
                "queued.max.messages.kbytes": 16_384,
                "log_level": 0,
            }
        )

    def add(self, starts: Mapping[Place, int], labels: Mapping[Place, str] | None = None) -> None:
        """Reads these places too, each from an offset."""
        self._labels |= labels or {}
        self.positions |= starts
        try:
            self._consumer.incremental_assign([TopicPartition(*place, offset) for place, offset in starts.items()])
        except KafkaException as error:
            raise _unavailable(self._bootstrap, error) from error

    def hold(self, places: AbstractSet[Place]) -> None:
        """Fetches nothing of these places until it is told otherwise, and of all others again."""
        try:
            self._consumer.pause([TopicPartition(*place) for place in places - self._held])
            self._consumer.resume([TopicPartition(*place) for place in self._held - places])
        except KafkaException as error:
            raise _unavailable(self._bootstrap, error) from error
        self._held = places

    def poll(self, timeout: float) -> list[Told[T]]:
        """What has come, as soon as there is something."""
        first = self._consumer.poll(timeout)
        if first is None:
            return []
        found = []
        for message in (first, *self._consumer.consume(_MOST, timeout=0)):
            if message.topic() is None:
                continue  # a broker went away or came back; who must know asks for offsets
            place = (str(message.topic()), int(message.partition() or 0))
            if (error := message.error()) is None:
                verdict = self._judge(place[0], self._labels[place], message)
                offset = int(message.offset() or 0)
                found.append(Told(place, offset, message.timestamp()[1], verdict))
                self.positions[place] = offset + 1
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
                self.positions[place] = max(self.positions[place], int(message.offset() or 0))
            else:
                raise _unavailable(self._bootstrap, KafkaException(error))
        return found

    def close(self) -> None:
        """Lets go of the connections."""
        self._consumer.close()


class _Book:
    """The judge of one topic, and the schemas that it knows. A record of another schema makes it ask the registry."""

    def __init__(self, registry: Registry, topic: str, label: str) -> None:
        self._schemas = SchemaBook(registry, topics.subject(topic))
        self._label = label
        self._judge = Judge({}, label)
        self._unheard_of: dict[bytes, float] = {}

    def verdict(self, message: Message) -> Row | str:
        value, key = message.value(), message.key()
        if not self._judge.knows(value):
            self._learn(bytes(value or b"")[:5])
        return self._judge.verdict(value, _bytes(key), message.timestamp()[1] * 1000)

    def _learn(self, header: bytes) -> None:
        now = time.monotonic()
        if now < self._unheard_of.get(header, 0.0):
            return
        try:
            self._judge = Judge(self._schemas.schemas(), self._label)
        except RegistryUnavailable as error:
            raise Unavailable(" ".join(str(error).split())[:300]) from error
        if len(self._unheard_of) > _MOST:
            self._unheard_of.clear()
        self._unheard_of[header] = now + _UNHEARD_OF


def _frame(_topic: str, label: str, message: Message) -> Frame:
    headers = message.headers()
    pairs = headers.items() if isinstance(headers, dict) else headers or ()
    told = {name: value.decode(errors="replace") for name, value in pairs if isinstance(value, bytes)}
    value = _bytes(message.value()) or b""
    error, reason = told.get(topics.DEAD_LETTER_ERROR, ""), told.get(topics.DEAD_LETTER_REASON, "")
    return Frame(label, error, reason, len(value), value)


def _counted(topic: str, label: str, message: Message) -> Frame:
    return _frame(topic, label, message)._replace(value=b"")


def _bytes(key: str | bytes | None) -> bytes | None:
    return key.encode() if isinstance(key, str) else key


def _named(places: Mapping[Place, Any]) -> str:
    return ", ".join(sorted({topic for topic, _ in places}))


def _unavailable(bootstrap: str, error: Exception) -> Unavailable:
    found = error.args[0] if error.args else error
    why = found.str() if isinstance(found, KafkaError) else str(found) or "no answer in time"
    return Unavailable(f"Kafka at {bootstrap} cannot be read: {' '.join(why.split())[:300]}")
