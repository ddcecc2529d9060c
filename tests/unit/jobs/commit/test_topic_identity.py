"""Topics that were made again are distinguished from those that the offsets of a checkpoint belong to."""

import json

import pytest

from k2.jobs.commit.checkpoints import BrokenCheckpoint, Checkpoint
from k2.jobs.commit.topic_identity import TopicIdentity, TopicReplaced, accept


class Folder:
    """Files of a checkpoint in memory."""

    def __init__(self) -> None:
        self.files: dict[str, str] = {}

    def exists(self, path: str) -> bool:
        return path in self.files

    def read(self, path: str) -> str:
        return self.files[path]

    def write(self, path: str, text: str) -> None:
        self.files[path] = text


@pytest.fixture
def folder() -> Folder:
    return Folder()


def verify(folder: Folder, **in_kafka: str) -> dict[str, str]:
    """Verify, in a new process, the topics that are in Kafka."""
    checkpoint = Checkpoint(folder, "/c")
    return TopicIdentity(
        checkpoint, list(in_kafka), lambda topics: {t: in_kafka[t] for t in topics if in_kafka[t]}
    ).verify()


def test_the_first_ids_are_kept_with_the_offsets(folder: Folder):
    assert verify(folder, trades="x") == {"trades": "x"}
    assert json.loads(folder.files["/c/topics"]) == {"trades": "x"}
    assert verify(folder, trades="x") == {"trades": "x"}


def test_a_topic_with_another_id_is_refused_and_the_first_id_stays(folder: Folder):
    verify(folder, trades="x", gaps="g")
    for _ in range(2):
        with pytest.raises(
            TopicReplaced, match=r"topic trades was deleted and made again: its id is y, .* belong to x"
        ):
            verify(folder, trades="y", gaps="g")


def test_all_topics_that_were_replaced_are_named(folder: Folder):
    verify(folder, trades="x", gaps="g")
    with pytest.raises(TopicReplaced, match=r"topic gaps was .* topic trades was"):
        verify(folder, trades="y", gaps="h")


def test_a_topic_that_the_query_begins_to_read_is_added(folder: Folder):
    verify(folder, gaps="g")
    verify(folder, gaps="g", evidence="e")
    with pytest.raises(TopicReplaced, match="topic evidence"):
        verify(folder, gaps="g", evidence="f")


def test_a_topic_that_is_replaced_while_the_query_runs_is_refused(folder: Folder):
    in_kafka = {"trades": "x"}
    identity = TopicIdentity(Checkpoint(folder, "/c"), ["trades"], lambda _: dict(in_kafka))
    identity.verify()
    in_kafka["trades"] = "y"
    with pytest.raises(TopicReplaced):
        identity.verify()


def test_a_broker_without_ids_is_not_judged(folder: Folder):
    assert verify(folder, trades="") == {}
    assert folder.files == {}
    verify(folder, trades="x")
    assert verify(folder, trades="") == {}


@pytest.mark.parametrize("text", ["", "[1]", '{"trades": '])
def test_an_unreadable_file_is_not_taken_for_a_first_start(folder: Folder, text: str):
    folder.files["/c/topics"] = text
    with pytest.raises(BrokenCheckpoint, match="/c/topics cannot be read"):
        verify(folder, trades="x")


def test_a_topic_that_was_accepted_has_its_id_in_its_name(folder: Folder):
    checkpoint = Checkpoint(folder, "/c")
    accept(checkpoint, {"trades": "y", "gaps": "g"}, ["trades"], {})
    identity = TopicIdentity(checkpoint, ["trades", "gaps"], lambda _: {"trades": "y", "gaps": "g"})
    identity.begin()
    assert (identity.name("trades"), identity.name("gaps")) == ("trades#y", "gaps")
    assert identity.find_replaced() == {}


def test_a_start_reads_what_was_accepted_since_the_last_one(folder: Folder):
    verify(folder, trades="x")
    checkpoint = Checkpoint(folder, "/c")
    identity = TopicIdentity(checkpoint, ["trades"], lambda _: {"trades": "y"})
    with pytest.raises(TopicReplaced):
        identity.begin()
    assert identity.find_replaced() == {"trades": "y"}
    accept(checkpoint, {"trades": "y"}, ["trades"], {})
    identity.begin()
    assert identity.names == {"trades": "trades#y"}
