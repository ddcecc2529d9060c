"""What every command of the jobs does first: reads its feeds, and gets a Spark session."""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from pyspark.sql import SparkSession

from k2.common.platform import Platform
from k2.common.validation_errors import InvalidSpec
from k2.jobs.spark.jvm import gateway, jars
from k2.jobs.spark.jvm.java import find
from k2.jobs.spark.session import session, settings, uses_s3
from k2.schemas.feed.model import ExchangeFeed, conflicts


def feeds_of(paths: Sequence[Path]) -> list[ExchangeFeed]:
    """The feeds in some files. Raises `InvalidSpec`, OSError."""
    feeds = [ExchangeFeed.from_yaml(path.read_bytes()) for path in paths]
    if problems := conflicts(feeds):
        raise InvalidSpec(problems)
    return feeds


def connect(platform: Platform, master: str, memory: str, conf: Mapping[str, str] | None = None) -> SparkSession:
    """Spark on these services: in the JVM that a cluster started, or in one with a heap of `memory` started here.

    Raises `NoJava`, `JarsUnavailable`, `JvmFailed`.
    """
    provided = gateway.provided()
    wanted = settings(platform, master=None if provided else master) | dict(conf or {})
    if not provided:
        java = find()
        sets = (jars.SPARK, jars.S3) if uses_s3(platform) else (jars.SPARK,)
        jars.ensure(java, sets=sets)
        options = [f"-Xmx{memory}", "-XX:+UseSerialGC", *java.trust_options]
        gateway.start(java, wanted, options=options, sets=sets)
    return session(wanted)


def add_jvm(parser: argparse.ArgumentParser) -> None:
    """The options of every command that may have to start a JVM."""
    parser.add_argument("--master", default="local[2]", help="used where no cluster has started the JVM")
    parser.add_argument("--memory", default="1g", help="of that JVM's heap")


def leave(code: int) -> NoReturn:
    """Ends the process at once: py4j's threads would keep a failed one alive."""
    sys.stdout.flush()
    os._exit(code)
