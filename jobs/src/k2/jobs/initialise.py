"""`python -m k2.jobs.initialise`: the catalog's own tables, and those that all feeds share.

Drivers make what is missing as well. But PostgreSQL lets only one of several that start together make a table, and the
others fail and start anew; so whoever installs a platform runs this once, before the first feed.

Exit codes: 0 everything is there, 1 it could not be made, 2 bad input or an altered table, 3 a needed service could not
be reached.
"""

import argparse
import sys
from collections.abc import Sequence

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from k2.common import logs
from k2.common.platform import Platform
from k2.common.validation_errors import InvalidSpec
from k2.jobs import bootstrap
from k2.jobs.audit.runner import CatalogUnreachable, reason
from k2.jobs.spark import tables
from k2.jobs.spark.jvm import gateway, jars
from k2.jobs.spark.jvm.java import NoJava
from k2.schemas.tables import CATALOG, SHARED


def main(words: Sequence[str]) -> int:
    """Initialises the environment's catalog."""
    arguments = _arguments(words)
    try:
        platform = Platform.read()
        logs.configure(platform.log_format, platform.log_level)
        _run(platform, arguments)
    except (CatalogUnreachable, jars.JarsUnavailable) as error:
        code, told = 3, str(error)
    except (InvalidSpec, OSError, NoJava, tables.TableDrifted) as error:
        code, told = 2, str(error)
    except (Py4JError, PySparkException, gateway.JvmFailed) as error:
        code, told = 1, f"the tables could not be made: {reason(error)}"
    else:
        return 0
    print(told, file=sys.stderr)
    return code


def _run(platform: Platform, arguments: argparse.Namespace) -> None:
    spark = bootstrap.connect(platform, arguments.master, arguments.memory)
    try:
        _reach(spark)
        tables.ensure(spark, SHARED)
    finally:
        spark.stop()


def _reach(spark: SparkSession) -> None:
    try:
        spark.sql(f"SHOW NAMESPACES IN {CATALOG}")  # makes the catalog's own tables
    except (Py4JError, PySparkException) as error:
        raise CatalogUnreachable(f"the catalog cannot be read: {reason(error)}") from error


def _arguments(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="k2.jobs.initialise", description="Makes the tables that feeds share.")
    bootstrap.add_jvm(parser)
    return parser.parse_args(words)


if __name__ == "__main__":
    bootstrap.leave(main(sys.argv[1:]))
