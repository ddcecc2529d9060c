"""The process's side of the election, against a Lease whose answers and conflicts the test decides."""

import pytest

from k2.operator.api.cluster import Unavailable
from k2.operator.api.election import Election

SPEC = {"holderIdentity": "own", "leaseDurationSeconds": 12}


class Ended(BaseException):
    """Instead of the end of the process."""


class Store:
    """A Lease in an API server. `fault` happens within the next write."""

    def __init__(self) -> None:
        self.lease = None
        self.version = 0
        self.fault = None

    def put(self, spec):
        self.version += 1
        self.lease = {"metadata": {"name": "k2", "resourceVersion": str(self.version)}, "spec": spec}

    def send(self, method, where, body, timeout):
        if method == "GET":
            return (200, self.lease) if self.lease else (404, {})
        fault, self.fault = self.fault, None
        if fault is not None:
            fault()
        if method == "PUT" and body["metadata"]["resourceVersion"] != str(self.version):
            return 409, {}
        self.put(body["spec"])
        return 200, self.lease


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def own(store, monkeypatch):
    election = Election(store, "k2", "k2", "own")

    def end(reason):
        raise Ended(reason)

    monkeypatch.setattr(election, "_end", end)
    assert election.attempt()
    return election


def test_a_conflict_with_a_change_of_the_metadata_is_tried_again(store, own):
    store.fault = lambda: store.put(store.lease["spec"])
    assert not own.attempt()
    assert own.attempt()
    own.check()


def test_a_leader_that_finds_another_one_ends(store, own):
    store.fault = lambda: store.put(SPEC | {"holderIdentity": "other"})
    assert not own.attempt()
    with pytest.raises(Ended, match="another process has the lease"):
        own.attempt()


def test_an_answer_that_is_lost_is_no_renewal_and_no_loss(store, own):
    def lose():
        store.put(store.lease["spec"])
        raise Unavailable("timed out")

    store.fault = lose
    assert not own.attempt()
    assert own.error == "timed out"
    assert own.attempt()
    assert own.error == ""


def test_a_lease_that_was_deleted_is_made_again(store, own):
    store.lease = None
    assert own.attempt()
    assert store.lease["spec"]["holderIdentity"] == "own"


def test_a_released_lease_is_free_and_the_process_may_not_write(store, own):
    own.release()
    assert store.lease["spec"]["holderIdentity"] == ""
    with pytest.raises(Ended, match="not renewed"):
        own.check()
