"""Formatting of invalid values and of problems with environment variables."""

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2.common.platform import Platform
from k2.common.validation_errors import ABSENT, InvalidSpec, Problem, format_value


@given(
    st.text(max_size=300)
    | st.recursive(st.text() | st.integers(), lambda x: st.lists(x) | st.dictionaries(st.text(), x))
)
def test_any_value_is_formatted_short_and_on_one_line(value):
    text = format_value(value)
    assert "\n" not in text
    assert len(text) < 2000


def test_credentials_in_a_value_are_redacted():
    assert format_value("wss://bob:hunter2@host/x") == '"wss://***@host/x"'
    assert "hunter2" not in format_value({"url": "wss://bob:hunter2@host"})


def test_a_problem_without_path_or_value_still_reads_as_a_sentence():
    assert str(Problem("", 1, "must be 2")) == "1 is not allowed: must be 2"
    assert str(Problem("a.b", ABSENT, "this field is required")) == "a.b: this field is required"


def test_the_platform_is_read_from_the_environment(monkeypatch):
    monkeypatch.setenv("K2_KAFKA_BOOTSTRAP", "kafka:9092")
    monkeypatch.setenv("K2_CATALOG_PASSWORD", "hunter2")
    platform = Platform()
    assert platform.kafka_bootstrap == "kafka:9092"
    assert platform.registry_url == "http://127.0.0.1:8081"
    assert "hunter2" not in repr(platform)


def test_an_invalid_variable_is_reported_with_its_name_and_what_is_allowed(monkeypatch):
    monkeypatch.setenv("K2_LOG_LEVEL", "loud")
    monkeypatch.setenv("K2_REGISTRY_URL", "registry:8081")
    with pytest.raises(InvalidSpec) as raised:
        Platform.read()
    assert [str(problem) for problem in raised.value.problems] == [
        'K2_REGISTRY_URL: "registry:8081" is not allowed: must be a URL that begins with http:// or https://',
        "K2_LOG_LEVEL: \"loud\" is not allowed: must be 'debug', 'info', 'warning' or 'error'",
    ]
    assert Platform.read(registry_url="https://registry", log_level="info").registry_url == "https://registry"


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_log_line_carries_its_component_and_context(monkeypatch, log_format):
    import structlog

    from k2.common import logs

    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    try:
        logs.configure(log_format, "info", feed="binance-spot")
        logs.get("session").info("connected", symbols=2)
        logs.get("session").debug("not shown")
    finally:
        structlog.reset_defaults()
        structlog.contextvars.clear_contextvars()
    line = stream.getvalue().strip()
    assert "\n" not in line
    if log_format == "json":
        event = json.loads(line)
        assert (event["event"], event["component"], event["feed"], event["symbols"]) == (
            "connected",
            "session",
            "binance-spot",
            2,
        )
        assert event["timestamp"].endswith("Z")
    else:
        assert "connected" in line
