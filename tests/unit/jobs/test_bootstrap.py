"""The frame of the commands: exit codes, one-line messages and the termination message."""

import pytest
from py4j.protocol import Py4JError

from k2.common.schema_registry import RegistryUnavailable
from k2.common.validation_errors import InvalidSpec
from k2.jobs import bootstrap
from k2.jobs.spark.jvm.gateway import JvmFailed
from k2.jobs.spark.jvm.jars import JarsUnavailable
from k2.jobs.spark.jvm.java import JavaNotFound
from k2.jobs.spark.tables import TableDrifted
from k2.jobs.telemetry import error_summary
from k2.schemas.formats import OtherFormat


def command(work, **changes):
    fields = {"name": "k2.jobs.sample", "description": "A sample.", "add_arguments": lambda _: None, "work": work}
    return bootstrap.Command(**(fields | changes))


@pytest.fixture
def messages(monkeypatch):
    """The termination messages."""
    written = []
    monkeypatch.setattr(error_summary, "write_termination_message", written.append)
    return written


def failing(error):
    def work(arguments, platform):
        raise error

    return work


@pytest.mark.parametrize("code", [0, 1])
def test_the_exit_code_of_finished_work_is_its_own(code, messages, capsys):
    assert command(lambda *_: code).run([]) == code
    assert (messages, capsys.readouterr().err) == ([], "")


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (bootstrap.CatalogUnreachable("no catalog"), 3, "no catalog"),
        (JarsUnavailable("no jars"), 3, "no jars"),
        (RegistryUnavailable("no registry"), 3, "no registry"),
        (InvalidSpec(["a problem"]), 2, "a problem"),
        (FileNotFoundError("no file"), 2, "no file"),
        (JavaNotFound("no Java"), 2, "no Java"),
        (TableDrifted("a new column"), 2, "a new column"),
        (OtherFormat("the topic old", 1), 2, str(OtherFormat("the topic old", 1))),
        (IndexError("own input"), 2, "own input"),
        (JvmFailed("no JVM"), 1, "it failed: no JVM"),
        (KeyError("own work"), 1, "it failed: 'own work'"),
        (
            Py4JError("An error\nCaused by: org.postgresql.util.PSQLException: refused\n\tat java"),
            1,
            "it failed: the catalog: PSQLException: refused",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_an_error_is_an_exit_code_and_one_line(error, code, message, messages, capsys):
    own = {"failure": "it failed", "work_errors": (KeyError,), "input_errors": (IndexError,)}
    assert command(failing(error), **own).run([]) == code
    assert capsys.readouterr().err == f"{message}\n"
    assert messages == [message]


def test_without_a_failure_text_the_message_is_the_reason(messages):
    assert command(failing(JvmFailed("no JVM"))).run([]) == 1
    assert messages == ["no JVM"]


def test_an_unexpected_error_is_not_caught():
    with pytest.raises(ZeroDivisionError):
        command(failing(ZeroDivisionError())).run([])


def test_each_command_accepts_its_own_arguments_and_those_of_the_jvm():
    accepted = []

    def work(arguments, platform):
        accepted.append(arguments)
        return 0

    command(work, add_arguments=bootstrap.add_feeds).run(["--feed", "a.yaml", "--feed", "b.yaml", "--memory", "2g"])
    (arguments,) = accepted
    assert ([path.name for path in arguments.feed], arguments.memory) == (["a.yaml", "b.yaml"], "2g")
    assert arguments.master == "local[2]"


def test_an_error_of_the_first_access_names_the_catalog():
    with pytest.raises(bootstrap.CatalogUnreachable, match=r"^the catalog cannot be read: refused$"):  # noqa: SIM117
        with bootstrap.reading_catalog():
            raise Py4JError("An error occurred while calling o1.sql.\n: refused\n\tat java")


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (bootstrap.CatalogUnreachable("no catalog"), 3, "no catalog"),
        (JvmFailed("no JVM"), 1, "it failed: no JVM"),
        (ZeroDivisionError("a defect"), 1, "it failed: ZeroDivisionError: a defect"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_a_command_that_reports_its_failures_reports_unexpected_ones_too(error, code, message, messages, capsys):
    reported = []

    def report_failure(_, *failure):
        reported.append(failure)

    assert command(failing(error), failure="it failed", report_failure=report_failure).run([]) == code
    assert reported == [(code, message)]
    assert capsys.readouterr().err == f"{message}\n"
