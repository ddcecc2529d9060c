"""The topics that the offsets of a checkpoint belong to, by the ids that Kafka gave them.

A topic that was deleted and made again has its name but other records: offsets of the old one say nothing about it. Its
first records would be skipped, and others be taken for those that Bronze has. So the ids stand beside the offsets, and
a query that finds another topic stops.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from k2.jobs.commit.checkpoints import BrokenCheckpoint, Checkpoint

_FILE: Final = "topics"  # JSON in the checkpoint's folder: id by topic


class TopicReplaced(BrokenCheckpoint):
    """A topic is not the one that the offsets of the checkpoint belong to."""


class TopicIdentity:
    """The identity of the topics that one query reads. `look_up` returns their ids in Kafka."""

    def __init__(
        self, checkpoint: Checkpoint, topics: Sequence[str], look_up: Callable[[Sequence[str]], dict[str, str]]
    ) -> None:
        self._checkpoint = checkpoint
        self._topics = topics
        self._look_up = look_up
        self._recorded: dict[str, str] | None = None

    def verify(self) -> dict[str, str]:
        """Return the ids of the topics. Topics that the checkpoint does not know yet are added to it.

        Raises `TopicReplaced` if one is not the topic that the offsets belong to, and `BrokenCheckpoint` if the file
        with the ids cannot be read.
        """
        recorded = self._read() if self._recorded is None else self._recorded
        actual = self._look_up(self._topics)
        if problems := [_sentence(topic, recorded[topic], actual[topic]) for topic in replaced(recorded, actual)]:
            raise TopicReplaced("; ".join(problems))
        if new := actual.keys() - recorded.keys():
            recorded = recorded | {topic: actual[topic] for topic in new}
            self._checkpoint.write(_FILE, json.dumps(recorded))
        self._recorded = recorded
        return actual

    def _read(self) -> dict[str, str]:
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


def replaced(recorded: Mapping[str, str], actual: Mapping[str, str]) -> list[str]:
    """Return the topics that have another id than the recorded one, sorted."""
    return sorted(topic for topic, topic_id in actual.items() if recorded.get(topic, topic_id) != topic_id)


def _sentence(topic: str, recorded: str, actual: str) -> str:
    return (
        f"the topic {topic} was deleted and made again: its id is {actual}, and the offsets read so far belong to "
        f"{recorded}; bring the old topic back, or continue with the new one as the runbook broken-checkpoint says"
    )
