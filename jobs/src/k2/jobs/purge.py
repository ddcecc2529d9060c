"""`python -m k2.jobs.purge --feed FILE`: removes what a deleted feed has left, for ever. Nothing of the feed may run.

Without `--exchange` only the feed's own rows go: by its topic from Bronze, Silver and the dead letters, by its symbols
from Gold and the audit's tables. With `--exchange`, which is for the last feed of an exchange, the exchange's own
tables are dropped and its rows leave the shared ones; but not if they hold what another feed has left on purpose: rows
of another topic, or of symbols that the feed has not. Checkpoints go last, so that a purge that was interrupted is
simply run again. Exit codes: 0 done, 1 a step failed, 2 bad input, 3 a needed service could not be reached.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from pathlib import Path
from typing import Any, Final

from pyspark.sql import SparkSession

from k2.common import logs
from k2.common.platform import Platform
from k2.common.validation_errors import InvalidSpec
from k2.jobs import bootstrap
from k2.jobs.audit.pinned_snapshots import purged_key
from k2.jobs.audit.runner import CatalogUnreachable, reason
from k2.jobs.commit import retry
from k2.jobs.commit.appender import TableLog
from k2.jobs.commit.checkpoints import Checkpoint, path
from k2.jobs.commit.retry import until_won
from k2.jobs.spark.filesystem import Files
from k2.jobs.spark.jvm import gateway, jars
from k2.jobs.spark.jvm.java import NoJava
from k2.jobs.stream import BRONZE, GOLD, SILVER
from k2.schemas import tables
from k2.schemas.bars import DELETED
from k2.schemas.feed.model import ExchangeFeed
from k2.schemas.tables import CATALOG, NAMESPACE, Table

log = logs.get("purge")

_CLOCKS: Final = timedelta(days=1)  # rows of the last day may still be joined by others; older ones stay as they are


class Purge:
    """Removes one feed's data. `exchange`: the feed is its exchange's last, so the exchange's tables go too."""

    def __init__(self, spark: SparkSession, platform: Platform, feed: ExchangeFeed, *, exchange: bool) -> None:
        self._spark = spark
        self._platform = platform
        self._feed = feed
        self._exchange = exchange
        self._files = Files(spark)
        self._done: dict[str, Any] = {}

    def run(self) -> dict[str, Any]:
        """Removes what is there and tells it; a second run finds nothing. Raises what Spark raises."""
        own = [tables.bronze(self._feed.spec.exchange), tables.silver(self._feed.spec.exchange)]
        topic, exchange = f"topic = '{self._feed.topic}'", f"exchange = '{self._feed.facts.label}'"
        symbols = _one_of("symbol", (pair.symbol for pair in self._feed.pairs))
        whole = self._exchange and not self._others(own, topic, exchange, symbols)
        judged = exchange if whole else f"{exchange} AND {symbols}"
        for table in own:
            if whole:
                self._drop(table)
            else:
                self._delete(table, topic, "bronze_timestamp")
        self._delete(tables.DEAD_LETTERS_TABLE, exchange if whole else topic, "dlq_timestamp")
        self._delete_gold(judged)
        self._delete(tables.BARS_TABLE, judged, "start")
        self._delete(tables.GAPS_TABLE, judged)
        self._delete(tables.COMPLETENESS_TABLE, judged)
        self._delete(tables.BATCHES_TABLE, exchange if whole else _one_of("query_id", self._queries()))
        folder = f"{self._platform.checkpoints.rstrip('/')}/{self._feed.name}"
        if self._files.remove(folder):
            self._done["checkpoints"] = folder
        return self._done

    def _others(self, own: Iterable[Table], topic: str, exchange: str, symbols: str) -> bool:
        """Whether rows are there that a feed which is gone has left, as its own `deletionPolicy` promised."""
        asked = [*((table, f"NOT {topic}") for table in own), (tables.GOLD_TABLE, f"{exchange} AND NOT {symbols}")]
        for table, where in asked:
            if self._there(table) and not self._spark.table(table.identifier).where(where).isEmpty():
                log.info("other feeds' rows are there, so only this feed's go", table=table.name)
                return True
        return False

    def _drop(self, table: Table) -> None:
        if self._there(table):
            # Iceberg's own purge asks for every old metadata file one by one, which takes minutes in a bucket.
            self._spark.sql(f"DROP TABLE {table.identifier}")
            self._done[table.name] = "dropped"
        self._files.remove(f"{self._platform.warehouse.rstrip('/')}/{NAMESPACE}/{table.name}")

    def _delete(self, table: Table, where: str, time: str = "") -> None:
        """Deletes rows, the older ones first: only where others still write can a commit be in the way."""
        if not where or not self._there(table):
            return
        rows = self._spark.table(table.identifier).where(where).count()
        border = f"`{time}` < TIMESTAMP '{datetime.now(UTC) - _CLOCKS:%Y-%m-%d 00:00:00}'" if time else ""
        for part in (f"{where} AND {border}", where) if border else (where,):
            until_won(lambda part=part: self._spark.sql(f"DELETE FROM {table.identifier} WHERE {part}"))  # type: ignore[misc]  # noqa: S608 - names of our own
        self._forget(table)
        if rows:
            self._done[table.name] = rows

    def _delete_gold(self, where: str) -> None:
        """Notes whose rows went, so that no other exchange's bars are rebuilt for them."""
        if not self._there(tables.GOLD_TABLE):
            return
        log, app = TableLog(self._spark, tables.GOLD_TABLE), self._spark.sparkContext.applicationId
        before = next((snapshot.id for snapshot in log.snapshots()), None)
        self._delete(tables.GOLD_TABLE, where, "timestamp")
        ours = [
            snapshot.id
            for snapshot in takewhile(lambda snapshot: snapshot.id != before, log.snapshots())
            if snapshot.operation in {"delete", "overwrite"} and snapshot.summary.get("spark.app.id") == app
        ]
        if ours:
            told = ", ".join(f"'{DELETED}{snapshot}' = '{self._feed.facts.label}'" for snapshot in ours)
            statement = f"ALTER TABLE {tables.GOLD_TABLE.identifier} SET TBLPROPERTIES ({told})"
            until_won(lambda: self._spark.sql(statement))

    def _forget(self, table: Table) -> None:
        """What snapshots up to now say of the feed's topic is void: a topic of this name begins again with offset 0."""
        key, now = purged_key(self._feed.topic), datetime.now(UTC).timestamp()
        statement = f"ALTER TABLE {table.identifier} SET TBLPROPERTIES ('{key}' = '{now:.3f}')"
        until_won(lambda: self._spark.sql(statement))

    def _there(self, table: Table) -> bool:
        return self._spark.catalog.tableExists(table.identifier)

    def _queries(self) -> list[str]:
        """The feed's queries, as far as their checkpoints are there."""
        found = []
        for layer in (BRONZE, SILVER, GOLD):
            checkpoint = Checkpoint(self._files, path(self._platform.checkpoints, self._feed.name, layer))
            if self._files.exists(f"{checkpoint.folder}/metadata"):
                found.append(checkpoint.query_id())
        return found


def _one_of(column: str, values: Iterable[str]) -> str:
    words = ", ".join(f"'{value}'" for value in values)
    return f"{column} IN ({words})" if words else ""


def main(words: Sequence[str]) -> int:
    """Purges one feed."""
    arguments = _arguments(words)
    try:
        platform = Platform.read()
        logs.configure(platform.log_format, platform.log_level)
        (feed,) = bootstrap.feeds_of([arguments.feed])
        done = _run(platform, feed, arguments)
    except jars.JarsUnavailable as error:
        code, told = 3, str(error)
    except CatalogUnreachable as error:
        code, told = 3, str(error)
    except (InvalidSpec, OSError, NoJava) as error:
        code, told = 2, str(error)
    except (*retry.ERRORS, gateway.JvmFailed, ValueError, KeyError) as error:
        code, told = 1, f"the purge could not be finished; run it again: {reason(error)}"
    else:
        print(json.dumps({"feed": feed.name, "removed": done}, indent=2))
        return 0
    print(told, file=sys.stderr)
    return code


def _run(platform: Platform, feed: ExchangeFeed, arguments: argparse.Namespace) -> dict[str, Any]:
    spark = bootstrap.connect(platform, arguments.master, arguments.memory)
    try:
        try:
            spark.sql(f"CREATE NAMESPACE IF NOT EXISTS {CATALOG}.{NAMESPACE}")  # a feed may never have run
        except retry.ERRORS as error:
            raise CatalogUnreachable(f"the catalog cannot be read: {reason(error)}") from error
        return Purge(spark, platform, feed, exchange=arguments.exchange).run()
    finally:
        spark.stop()


def _arguments(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="k2.jobs.purge", description="Removes what a deleted feed has left.")
    parser.add_argument("--feed", type=Path, required=True, help="the ExchangeFeed in YAML")
    parser.add_argument("--exchange", action="store_true", help="the exchange has no other feed: drop its tables")
    bootstrap.add_jvm(parser)
    return parser.parse_args(words)


if __name__ == "__main__":
    bootstrap.leave(main(sys.argv[1:]))
