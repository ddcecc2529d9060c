"""The last error of an application: the Spark operator reports an exit code, the driver a termination message."""

from datetime import UTC, datetime

import pytest

from k2.operator.observed.objects import Application
from k2.operator.planning.watchdog import Watchdog

CREATED = datetime(2026, 1, 2, tzinfo=UTC)
CODE = "driver container failed with ExitCode: 1, Reason: Error"


def gold(state, attempts, message=""):
    return Application("gold", CREATED, state, message, attempts=attempts)


@pytest.fixture
def last_error(settings):
    watchdog = Watchdog(settings())
    return lambda application, **words: watchdog.with_last_error("feeds", application, words).message


def test_a_drivers_termination_message_takes_precedence_over_its_exit_code(last_error):
    assert last_error(gold("RUNNING", 1)) == ""
    assert last_error(gold("RUNNING", 1), gold="the catalog: no") == "the catalog: no"
    assert last_error(gold("FAILING", 1, CODE)) == "the catalog: no"
    assert last_error(gold("PENDING_RERUN", 1)) == "the catalog: no"
    assert last_error(gold("FAILING", 1, CODE), silver="the bucket: no") == "the catalog: no"


def test_a_later_attempt_without_a_termination_message_is_reported_by_its_exit_code(last_error):
    last_error(gold("FAILING", 1, CODE), gold="the catalog: no")
    assert last_error(gold("SUBMITTED", 2)) == "the catalog: no"
    assert last_error(gold("FAILING", 2, "ExitCode: 137, Reason: OOMKilled")) == "ExitCode: 137, Reason: OOMKilled"
    assert last_error(gold("RUNNING", 3), gold="the bucket: no") == "the bucket: no"


def test_a_feed_that_is_created_again_has_no_error_of_the_one_before(settings):
    watchdog = Watchdog(settings())
    application = Application("spot-gold", CREATED, "FAILING", CODE, attempts=1)
    assert watchdog.with_last_error("feeds", application, {}).message == CODE
    watchdog.forget(("feeds", "spo"))
    watchdog.forget(("other", "spot"))
    running = Application("spot-gold", CREATED, "RUNNING", attempts=1)
    assert watchdog.with_last_error("feeds", running, {}).message == CODE
    watchdog.forget(("feeds", "spot"))
    assert watchdog.with_last_error("feeds", running, {}).message == ""
