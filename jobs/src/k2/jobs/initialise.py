"""`python -m k2.jobs.initialise`: create the catalog's own tables and those that all feeds share.

Drivers create missing tables as well. But if several start together, PostgreSQL lets only one of them create a table,
and the others fail and restart. An installation therefore runs this command once, before the first feed.
"""

import argparse
from collections.abc import Iterable, Sequence

from pyspark.sql import SparkSession

from k2.common.platform import Platform
from k2.jobs import bootstrap
from k2.jobs.spark import tables
from k2.schemas.channels import CHANNELS, Channel, shared_tables
from k2.schemas.tables import CATALOG


def main(argv: Sequence[str] | None = None) -> int:
    """Initialise the catalog that the environment names; return the exit code."""
    return bootstrap.Command(
        name="k2.jobs.initialise",
        description="Create the tables that feeds share.",
        add_arguments=lambda _: None,
        work=_initialise,
        failure="the tables could not be created",
    ).run(argv)


def initialise(spark: SparkSession, channels: Iterable[Channel] = CHANNELS) -> None:
    """Create the catalog's own tables and the shared tables of `channels`. Raises `CatalogUnreachable`."""
    with bootstrap.reading_catalog():
        spark.sql(f"SHOW NAMESPACES IN {CATALOG}")  # creates the catalog's own tables
    tables.ensure(spark, shared_tables(channels))


def _initialise(arguments: argparse.Namespace, platform: Platform) -> int:
    with bootstrap.spark_session(platform, arguments) as spark:
        initialise(spark)
    return 0


if __name__ == "__main__":
    bootstrap.exit_process(main())
