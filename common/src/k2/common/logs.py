"""Structured logs: JSON for machines, colours for people. One line an event, on standard error."""

import logging
import sys
from contextlib import suppress
from typing import Any, TextIO, cast

import structlog


class _StandardError:
    """Standard error as it is at the moment. A disk that is full of logs must not end what they tell of."""

    def write(self, text: str) -> None:
        with suppress(OSError):
            sys.stderr.write(text)

    def flush(self) -> None:
        with suppress(OSError):
            sys.stderr.flush()


def configure(log_format: str = "json", level: str = "info", **context: Any) -> None:
    """Set logging up for this process; `context` stands in every line."""
    renderer: Any = structlog.processors.JSONRenderer() if log_format == "json" else structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.WriteLoggerFactory(file=cast("TextIO", _StandardError())),
        # a cached logger would keep the set-up of its first line, whatever is configured or captured later
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.bind_contextvars(**context)


def get(component: str) -> structlog.typing.FilteringBoundLogger:
    """The logger of one component."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger(component=component)
    return logger
