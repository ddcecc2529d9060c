"""Structured logging: JSON or coloured text, one line per event, on standard error."""

import logging
import sys
from contextlib import suppress
from typing import Any, TextIO, cast

import structlog

from k2.common import tracing


class _StandardError:
    """Write to the current `sys.stderr` and ignore OS errors: a full disk must not stop the process that logs."""

    def write(self, text: str) -> None:
        with suppress(OSError):
            sys.stderr.write(text)

    def flush(self) -> None:
        with suppress(OSError):
            sys.stderr.flush()


def configure(log_format: str = "json", level: str = "info", **context: Any) -> None:
    """Configure logging for this process; every line carries `context`."""
    console = structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
    )
    renderer: Any = structlog.processors.JSONRenderer() if log_format == "json" else console
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            _add_trace,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.WriteLoggerFactory(file=cast("TextIO", _StandardError())),
        # A cached logger would ignore later calls of `configure` and tests that capture the output.
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.bind_contextvars(**context)


def _add_trace(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Name the trace that a line belongs to, if there is one."""
    event.update(tracing.log_fields())
    return event


def get(component: str) -> structlog.typing.FilteringBoundLogger:
    """Return the logger of one component."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger(component=component)
    return logger
