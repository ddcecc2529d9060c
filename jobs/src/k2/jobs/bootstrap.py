"""Start-up steps that all commands of the jobs share: read feeds, connect to Spark, exit."""

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
from k2.jobs.spark.jvm.java import find_java
from k2.jobs.spark.session import session, settings, uses_s3
from k2.schemas.feed.model import ExchangeFeed, conflicts


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
    if not provided:
        java = find_java()
        sets = (jars.SPARK, jars.S3) if uses_s3(platform) else (jars.SPARK,)
        jars.ensure(java, sets=sets)
        options = [f"-Xmx{memory}", "-XX:+UseSerialGC", *java.trust_options]
        gateway.start(java, spark_conf, options=options, sets=sets)
    return session(spark_conf)


def add_jvm_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of a command that may have to start a JVM."""
    parser.add_argument("--master", default="local[2]", help="Spark master; ignored in a JVM that a cluster started")
    parser.add_argument("--memory", default="1g", help="heap size of a JVM that the command starts")


def exit_process(code: int) -> NoReturn:
    """Exit at once: threads of py4j would keep a failed process alive."""
    sys.stdout.flush()
    os._exit(code)
