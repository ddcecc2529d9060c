"""The frame of all commands of the jobs: arguments, settings, the connection to Spark, errors and exit codes.

A command has only its arguments and its work. Exit codes: 0 done, 1 the work failed, 2 bad input, 3 a required service
is unavailable. An error is one line on stderr, which is also the termination message of a pod.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

from pyspark.sql import SparkSession

from k2.common import logs, tracing
from k2.common.platform import Platform
from k2.common.schema_registry import RegistryUnavailable
from k2.common.validation_errors import InvalidSpec
from k2.jobs.commit import retry
from k2.jobs.spark.jvm import gateway, jars, trust_store
from k2.jobs.spark.jvm.java import JavaNotFound, find_java
from k2.jobs.spark.session import credentials, session, settings, uses_s3
from k2.jobs.spark.tables import TableDrifted
from k2.jobs.telemetry import error_summary
from k2.schemas.feed.model import ExchangeFeed, conflicts
from k2.schemas.formats import OtherFormat

log = logs.get("jobs")


class CatalogUnreachable(ConnectionError):
    """The catalog cannot be read."""


_UNAVAILABLE: Final = (CatalogUnreachable, RegistryUnavailable, jars.JarsUnavailable)
_INPUT_ERRORS: Final = (InvalidSpec, OSError, JavaNotFound, TableDrifted, OtherFormat)


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One command: what it accepts and what it does."""

    name: str
    description: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    work: Callable[[argparse.Namespace, Platform], int]  # returns the exit code
    failure: str = ""  # what has not been done if the work fails; precedes the reason
    work_errors: tuple[type[Exception], ...] = ()  # its own errors, beside those of Spark
    input_errors: tuple[type[Exception], ...] = ()
    # Called with the exit code and the message after a failure; with it, an unexpected error is one too.
    report_failure: Callable[[argparse.Namespace, int, str], None] | None = None

    def run(self, argv: Sequence[str] | None = None) -> int:
        """Do the work with the arguments `argv`, by default those of the process; return the exit code."""
        arguments = self._parser().parse_args(argv)
        input_errors: tuple[type[Exception], ...] = (*_INPUT_ERRORS, *self.input_errors)
        work_errors: tuple[type[Exception], ...] = (gateway.JvmFailed, *self.work_errors)
        try:
            platform = Platform.read()
            logs.configure(platform.log_format, platform.log_level)
            tracing.configure("jobs")
            return self.work(arguments, platform)
        except _UNAVAILABLE as error:
            code, message = 3, str(error)
        except input_errors as error:
            code, message = 2, str(error)
        except work_errors as error:
            code, message = 1, self._failed(str(error))
        except retry.ERRORS as error:  # errors of Spark and Java, such as an unreachable bucket
            code, message = 1, self._failed(error_summary.summarize(error_summary.full_text(error)))
        except Exception as error:
            if self.report_failure is None:
                raise
            log.debug("unexpected error", exc_info=True)
            code, message = 1, self._failed(f"{type(error).__name__}: {error_summary.first_line(error)}")
        if self.report_failure is not None:
            self.report_failure(arguments, code, message)
        print(message, file=sys.stderr)
        error_summary.write_termination_message(message)
        return code

    def _failed(self, reason: str) -> str:
        return f"{self.failure}: {reason}" if self.failure else reason

    def _parser(self) -> argparse.ArgumentParser:
        parser = argparse.ArgumentParser(prog=self.name, description=self.description)
        self.add_arguments(parser)
        parser.add_argument(
            "--master", default="local[2]", help="Spark master; ignored in a JVM that a cluster started"
        )
        parser.add_argument("--memory", default="1g", help="heap size of a JVM that the command starts")
        return parser


def add_feeds(parser: argparse.ArgumentParser) -> None:
    """Add the option of a command that works for several feeds."""
    parser.add_argument(
        "--feed", type=Path, action="append", required=True, help="ExchangeFeed manifest (YAML); repeatable"
    )


def read_feeds(paths: Sequence[Path]) -> list[ExchangeFeed]:
    """Return the feeds in some YAML files. Raises `InvalidSpec`, OSError."""
    feeds = [ExchangeFeed.from_yaml(path.read_bytes()) for path in paths]
    if problems := conflicts(feeds):
        raise InvalidSpec(problems)
    return feeds


def connect(platform: Platform, master: str, memory: str, conf: Mapping[str, str] | None = None) -> SparkSession:
    """Return a Spark session for these services, in the cluster's JVM or in a new one with a heap of `memory`.

    Raises `JavaNotFound`, `JarsUnavailable`, `JvmFailed`.
    """
    provided = gateway.is_provided()
    spark_conf = settings(platform, master=None if provided else master) | dict(conf or {})
    trusted = _trust(platform.ca_files) if platform.ca_files else {}
    if provided:
        gateway.set_properties(trusted)  # before the JVM's first connection over TLS
    else:
        java = find_java()
        sets = (jars.SPARK, jars.S3) if uses_s3(platform) else (jars.SPARK,)
        jars.ensure(java, sets=sets)
        options = [f"-Xmx{memory}", "-XX:+UseSerialGC", *([] if trusted else java.trust_options)]
        options += [f"-D{name}={value}" for name, value in trusted.items()]
        on_command_line = {key: value for key, value in spark_conf.items() if key not in credentials(spark_conf)}
        gateway.start(java, on_command_line, options=options, sets=sets)
    return session(spark_conf)


def _trust(files: Sequence[str]) -> dict[str, str]:
    """Write a trust store for the JVM of this process, and return the properties by which it takes that."""
    target = Path(tempfile.mkdtemp(prefix="k2-trust-")) / "ca.p12"
    trust_store.write(target, files)
    return trust_store.properties(target)


@contextmanager
def spark_session(
    platform: Platform, arguments: argparse.Namespace, conf: Mapping[str, str] | None = None
) -> Iterator[SparkSession]:
    """Yield a session as `connect` returns it, for the arguments of a command; stop it afterwards."""
    spark = connect(platform, arguments.master, arguments.memory, conf)
    try:
        yield spark
    finally:
        spark.stop()


@contextmanager
def reading_catalog() -> Iterator[None]:
    """Raise `CatalogUnreachable` for an error of Spark: use for the first access to the catalog."""
    try:
        yield
    except retry.ERRORS as error:
        raise CatalogUnreachable(f"the catalog cannot be read: {error_summary.first_line(error)}") from error


def exit_process(code: int) -> NoReturn:
    """Exit at once: threads of py4j would keep a failed process alive."""
    tracing.shutdown()
    sys.stdout.flush()
    os._exit(code)
