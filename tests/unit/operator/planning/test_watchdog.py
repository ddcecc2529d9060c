"""What is remembered of an application that ended: the Spark operator tells an exit code, its driver tells why."""

from datetime import UTC, datetime

import pytest

from k2.operator.observed.objects import Application
from k2.operator.planning.watchdog import Watchdog

CREATED = datetime(2026, 1, 2, tzinfo=UTC)
CODE = "driver container failed with ExitCode: 1, Reason: Error"


def gold(state, attempts, message=""):
    return Application("gold", CREATED, state, message, attempts=attempts)


@pytest.fixture
def said(settings):
    watchdog = Watchdog(None, settings())  # nothing here asks the cluster
    return lambda found, **words: watchdog.told("feeds", found, words).message


def test_what_a_driver_said_stands_before_its_exit_code(said):
    assert said(gold("RUNNING", 1)) == ""
    assert said(gold("RUNNING", 1), gold="the catalog: no") == "the catalog: no"
    assert said(gold("FAILING", 1, CODE)) == "the catalog: no"
    assert said(gold("PENDING_RERUN", 1)) == "the catalog: no"
    assert said(gold("FAILING", 1, CODE), silver="the bucket: no") == "the catalog: no"


def test_a_later_attempt_that_left_no_words_is_told_by_its_exit_code(said):
    said(gold("FAILING", 1, CODE), gold="the catalog: no")
    assert said(gold("SUBMITTED", 2)) == "the catalog: no"
    assert said(gold("FAILING", 2, "ExitCode: 137, Reason: OOMKilled")) == "ExitCode: 137, Reason: OOMKilled"
    assert said(gold("RUNNING", 3), gold="the bucket: no") == "the bucket: no"
