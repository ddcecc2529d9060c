"""Logs go to the current standard error and never stop the process."""

import errno
import io
import json
import sys

import pytest
import structlog

from k2.common import logs


class Full(io.StringIO):
    """A file on a full disk."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def log():
    logs.configure("json", "info")
    yield logs.get("part")
    structlog.reset_defaults()


def test_a_replaced_standard_error_is_followed(log, monkeypatch: pytest.MonkeyPatch):
    for number in range(2):
        stream = io.StringIO()
        monkeypatch.setattr(sys, "stderr", stream)
        log.info("said", number=number)
        event = json.loads(stream.getvalue())
        assert (event["component"], event["event"], event["number"]) == ("part", "said", number)


def test_a_full_disk_ends_the_line_and_not_the_process(log, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "stderr", Full())
    log.error("lost")
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    log.error("kept")
    assert [json.loads(line)["event"] for line in stream.getvalue().splitlines()] == ["kept"]


def test_a_logger_that_was_used_before_can_still_be_captured(log, capsys: pytest.CaptureFixture[str]):
    log.info("before")
    structlog.reset_defaults()
    with structlog.testing.capture_logs() as lines:
        log.info("after")
    assert [line["event"] for line in lines] == ["after"]
    assert "after" not in capsys.readouterr().err


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_traceback_has_no_local_variables(log, monkeypatch: pytest.MonkeyPatch, log_format: str):
    logs.configure(log_format, "info")
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    secret = "neddih"[::-1]
    log.error("failed", exc_info=_raised(secret))
    assert "ValueError: invalid literal" in stream.getvalue()
    assert "hidden" not in stream.getvalue()


def _raised(secret: str) -> Exception:
    try:
        int(secret[:3])
    except ValueError as error:
        return error
    raise AssertionError(secret)
