"""`python -m k2.jobs.initialise`: create the catalog's own tables and those that all feeds share.

Drivers create missing tables as well. But if several start together, PostgreSQL lets only one of them create a table,
and the others fail and restart. An installation therefore runs this command once, before the first feed.

Exit codes: 0 all tables exist, 1 a table could not be created, 2 bad input or an altered table, 3 a required
service is unavailable.
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
from k2.jobs.audit.runner import CatalogUnreachable, error_reason
from k2.jobs.spark import tables
from k2.jobs.spark.jvm import gateway, jars
from k2.jobs.spark.jvm.java import JavaNotFound
from k2.schemas.tables import CATALOG, SHARED


def main(argv: Sequence[str]) -> int:
    """Initialise the catalog that the environment names; return the exit code."""
    arguments = _arguments(argv)
    try:
        platform = Platform.read()
        logs.configure(platform.log_format, platform.log_level)
        _run(platform, arguments)
    except (CatalogUnreachable, jars.JarsUnavailable) as error:
        code, message = 3, str(error)
    except (InvalidSpec, OSError, JavaNotFound, tables.TableDrifted) as error:
        code, message = 2, str(error)
    except (Py4JError, PySparkException, gateway.JvmFailed) as error:
        code, message = 1, f"the tables could not be created: {error_reason(error)}"
    else:
        return 0
    print(message, file=sys.stderr)
    return code


def _run(platform: Platform, arguments: argparse.Namespace) -> None:
    spark = bootstrap.connect(platform, arguments.master, arguments.memory)
    try:
        _check_catalog(spark)
        tables.ensure(spark, SHARED)
    finally:
        spark.stop()


def _check_catalog(spark: SparkSession) -> None:
    try:
        spark.sql(f"SHOW NAMESPACES IN {CATALOG}")  # creates the catalog's own tables
    except (Py4JError, PySparkException) as error:
        raise CatalogUnreachable(f"the catalog cannot be read: {error_reason(error)}") from error


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="k2.jobs.initialise", description="Create the tables that feeds share.")
    bootstrap.add_jvm_arguments(parser)
    return parser.parse_args(argv)


if __name__ == "__main__":
    bootstrap.exit_process(main(sys.argv[1:]))
