"""The topics that the offsets of a checkpoint belong to, by the ids that Kafka gave them.

A topic that was deleted and made again has its name but other records: offsets of the old one say nothing about it. Its
first records would be skipped, and others be taken for those that Bronze has. So the ids stand beside the offsets, and
a query that finds another topic stops. `k2 recover` accepts the other topic, whose records get another name in tables.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from k2.jobs.commit.checkpoints import STARTS, BrokenCheckpoint, Checkpoint
from k2.schemas import topics

_FILE: Final = "topics"  # JSON in the checkpoint's folder: id by topic
_ACCEPTED: Final = "accepted"  # JSON: the topics that were made again and accepted


class TopicReplaced(BrokenCheckpoint):
    """A topic is not the one that the offsets of the checkpoint belong to."""


class TopicIdentity:
    """The identity of the topics that one query reads. `look_up` returns their ids in Kafka."""

    def __init__(
        self, checkpoint: Checkpoint, subscribed: Sequence[str], look_up: Callable[[Sequence[str]], dict[str, str]]
    ) -> None:
        self._checkpoint = checkpoint
        self._topics = subscribed
        self._look_up = look_up
        self._recorded: dict[str, str] | None = None
        self._names: dict[str, str] = {}

    def begin(self) -> None:
        """Verify the topics by what the checkpoint says now, at the start of the query. Raises as `verify` does."""
        self._recorded = None
        self.verify()

    def verify(self) -> dict[str, str]:
        """Return the ids of the topics. Topics that the checkpoint does not know yet are added to it.

        Raises `TopicReplaced` if one is not the topic that the offsets belong to, and `BrokenCheckpoint` if the file
        with the ids cannot be read.
        """
        recorded = self.read() if self._recorded is None else self._recorded
        actual = self._look_up(self._topics)
        if problems := [_sentence(topic, recorded[topic], actual[topic]) for topic in replaced(recorded, actual)]:
            raise TopicReplaced("; ".join(problems))
        if new := actual.keys() - recorded.keys():
            recorded = recorded | {topic: actual[topic] for topic in new}
            self._checkpoint.write(_FILE, json.dumps(recorded))
        if self._recorded is None:
            self._names = {topic: topics.remade(topic, recorded[topic]) for topic in accepted(self._checkpoint)}
        self._recorded = recorded
        return actual

    def name(self, topic: str) -> str:
        """Return the name that tables have for a topic. Call `verify` before."""
        return self._names.get(topic, topic)

    @property
    def names(self) -> Mapping[str, str]:
        """The names that tables have for topics that were made again. Call `verify` before."""
        return self._names

    def find_replaced(self) -> dict[str, str]:
        """Return the ids in Kafka of the topics that are not those of the checkpoint. Raises `BrokenCheckpoint`."""
        actual = self._look_up(self._topics)
        return {topic: actual[topic] for topic in replaced(self.read(), actual)}

    def read(self) -> dict[str, str]:
        """Return the ids that the checkpoint has; empty before the first start. Raises `BrokenCheckpoint`."""
        text = self._checkpoint.read(_FILE)
        if text is None:
            return {}
        try:
            return {str(topic): str(topic_id) for topic, topic_id in json.loads(text).items()}
        except (ValueError, AttributeError) as error:
            raise BrokenCheckpoint(
                f"{self._checkpoint.folder}/{_FILE} cannot be read ({error}); restore the file from a backup; or "
                f"delete it if the topics {', '.join(self._topics)} were not made again since the last batch"
            ) from error


def accepted(checkpoint: Checkpoint) -> list[str]:
    """Return the topics of a checkpoint that were made again and accepted."""
    text = checkpoint.read(_ACCEPTED)
    return [] if text is None else [str(topic) for topic in json.loads(text)]


def accept(
    checkpoint: Checkpoint,
    ids: Mapping[str, str],
    topics_made_again: Iterable[str],
    starts: Mapping[str, Mapping[str, int]],
) -> None:
    """Write what a new checkpoint reads: the ids of its topics, which of them were made again, and where it begins.

    `STARTS` comes last: with it, everything is there.
    """
    checkpoint.write(_FILE, json.dumps(dict(ids)))
    checkpoint.write(_ACCEPTED, json.dumps(sorted(topics_made_again)))
    checkpoint.write(STARTS, json.dumps(starts))


def replaced(recorded: Mapping[str, str], actual: Mapping[str, str]) -> list[str]:
    """Return the topics that have another id than the recorded one, sorted."""
    return sorted(topic for topic, topic_id in actual.items() if recorded.get(topic, topic_id) != topic_id)


def _sentence(topic: str, recorded: str, actual: str) -> str:
    return (
        f"the topic {topic} was deleted and made again: its id is {actual}, and the offsets read so far belong to "
        f"{recorded}; bring the old topic back, or accept the new one: k2 recover"
    )
