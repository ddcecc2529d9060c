"""`python -m k2.jobs.purge --feed FILE`: permanently delete the data of a deleted feed, which must not be running.

Without `--exchange` only the feed's own rows are deleted: by topic from Bronze, Silver and the dead letters, by symbol
from Gold and the audit tables. With `--exchange`, for the last feed of an exchange, the exchange's own tables are
dropped and its rows are deleted from the shared ones, unless they hold rows that another feed retains: rows of another
topic, or of symbols that the feed does not have. Every channel is purged, whether the feed still records it or not.
Checkpoints are removed last, so an interrupted purge can be repeated.
"""

import argparse
import json
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from pathlib import Path
from typing import Any, Final

from pyspark.sql import SparkSession

from k2.common import logs
from k2.common.catalog.connection import CatalogType
from k2.common.platform import Platform
from k2.jobs import bootstrap
from k2.jobs.audit.pinned_snapshots import purged_key
from k2.jobs.commit.checkpoints import Checkpoint, path
from k2.jobs.commit.retry import retry_on_conflict
from k2.jobs.commit.snapshots import SnapshotHistory
from k2.jobs.spark.filesystem import FileSystem
from k2.jobs.stream import BRONZE, GOLD, SILVER, query_folder
from k2.schemas import tables
from k2.schemas.channels import CHANNELS, Channel
from k2.schemas.feed.model import ExchangeFeed
from k2.schemas.snapshots import DELETED, OFFSETS
from k2.schemas.tables import CATALOG, NAMESPACE, Table
from k2.schemas.topics import in_kafka

log = logs.get("purge")

_DROPPED: Final = "dropped.json"  # beside the checkpoints: the folders of tables that are being dropped
_RECENT: Final = timedelta(days=1)  # other feeds may still write to partitions of the last day, not to older ones


class Purge:
    """Deletes the data of one feed. `exchange`: it is the exchange's last feed, so its tables are dropped too."""

    def __init__(
        self,
        spark: SparkSession,
        platform: Platform,
        feed: ExchangeFeed,
        *,
        exchange: bool,
        channels: Iterable[Channel] = CHANNELS,
    ) -> None:
        self._spark = spark
        self._platform = platform
        self._feed = feed
        self._exchange = exchange
        self._channels = tuple(channels)
        self._files = FileSystem(spark)
        self._done: dict[str, Any] = {}
        self._topics: set[str] = set()

    def run(self) -> dict[str, Any]:
        """Delete the feed's data and return what was removed. Idempotent. Raises errors of Spark."""
        exchange = f"exchange = '{self._feed.exchange_spec.label}'"
        self._topics = self._find_topics()
        topics = _in_list("topic", sorted(self._topics))
        symbols = _in_list("symbol", (name.symbol for name in self._feed.names))
        own = [table for channel in self._channels for table in self._exchange_tables(channel)]
        whole = self._exchange and not self._has_other_feeds(own, topics, exchange, symbols)
        feed_rows = exchange if whole else f"{exchange} AND {symbols}"
        if whole:
            self._drop(own)
        else:
            for table in own:
                self._delete(table, topics, "bronze_timestamp")
        self._delete(tables.DEAD_LETTERS_TABLE, exchange if whole else topics, "dead_lettered_at")
        for channel in self._channels:
            self._delete_gold(channel.gold, feed_rows)
            for table in channel.derived:
                self._delete(table, feed_rows, "exchange_date")
        self._delete(tables.GAPS_TABLE, feed_rows)
        self._delete(tables.EVIDENCE_TABLE, exchange if whole else "")  # other feeds' gaps may rest on the same
        self._delete(tables.COMPLETENESS_TABLE, feed_rows)
        self._delete(tables.BATCHES_TABLE, exchange if whole else _in_list("query_id", self._queries()))
        folder = self._checkpoints
        if self._files.remove(folder):
            self._done["checkpoints"] = folder
        return self._done

    @property
    def _checkpoints(self) -> str:
        return f"{self._platform.checkpoints.rstrip('/')}/{self._feed.name}"

    def _find_topics(self) -> set[str]:
        """Return the names that tables have for the feed's topics: several if one was made again."""
        own = {self._feed.topic(channel) for channel in self._channels}
        written = {
            table.name: table for channel in self._channels for table in (*self._exchange_tables(channel), channel.gold)
        }
        named = {
            topic
            for table in written.values() if self._exists(table)
            for snapshot in SnapshotHistory(self._spark, table).snapshots()
            for topic in json.loads(snapshot.summary.get(OFFSETS, "{}"))
        }  # fmt: skip
        return own | {topic for topic in named if in_kafka(topic) in own}

    def _exchange_tables(self, channel: Channel) -> tuple[Table, Table]:
        return channel.bronze(self._feed.spec.exchange), channel.silver(self._feed.spec.exchange)

    def _has_other_feeds(self, own: Iterable[Table], topics: str, exchange: str, symbols: str) -> bool:
        """Whether the tables hold rows of other feeds, which their `deletionPolicy` retains."""
        filters = [(table, f"NOT {topics}") for table in own]
        filters += [(channel.gold, f"{exchange} AND NOT {symbols}") for channel in self._channels]
        for table, where in filters:
            if self._exists(table) and not self._spark.table(table.identifier).where(where).isEmpty():
                log.info("table has rows of other feeds, deleting only this feed's", table=table.name)
                return True
        return False

    def _drop(self, own: Iterable[Table]) -> None:
        """Drop tables with their files. A REST catalog chooses where these are, and forgets it with the table."""
        warehouse = self._platform.warehouse.rstrip("/")
        existing = [table for table in own if self._exists(table)]
        opened = [SnapshotHistory(self._spark, table).java_table() for table in existing]
        note = f"{self._checkpoints}/{_DROPPED}"
        noted = set(json.loads(self._files.read(note))) if self._files.exists(note) else set()
        places = noted | {str(table.location()) for table in opened}
        if places != noted:
            self._files.write(note, json.dumps(sorted(places)))
        remove = self._remover(opened)
        for table in existing:
            # Iceberg's PURGE reads the old metadata files one by one, which takes minutes in a bucket.
            self._spark.sql(f"DROP TABLE {table.identifier}")
            self._done[table.name] = "dropped"
        if self._platform.catalog_type is not CatalogType.REST:
            places |= {f"{warehouse}/{NAMESPACE}/{table.name}" for table in own}
        for place in sorted(places):
            if is_below(place, warehouse):
                remove(place)
            else:
                log.warning("files of a dropped table are not in the warehouse and remain", folder=place)

    def _remover(self, opened: Sequence[Any]) -> Callable[[str], object]:
        """Return what removes a table's folder.

        A REST catalog may own the folders of tables, and then answers only the clients that it configures itself.
        """
        if self._platform.catalog_type is not CatalogType.REST:
            return self._files.remove
        if not opened and self._exists(tables.DEAD_LETTERS_TABLE):  # an earlier purge has dropped the tables
            opened = [SnapshotHistory(self._spark, tables.DEAD_LETTERS_TABLE).java_table()]
        return opened[0].io().deletePrefix if opened else self._files.remove

    def _delete(self, table: Table, where: str, time: str = "") -> None:
        """Delete rows, the old ones first: only recent partitions can have conflicting commits of other writers."""
        if not where or not self._exists(table):
            return
        rows = self._spark.table(table.identifier).where(where).count()
        old = f"`{time}` < DATE '{datetime.now(UTC) - _RECENT:%Y-%m-%d}'" if time else ""
        for part in (f"{where} AND {old}", where) if old else (where,):
            retry_on_conflict(lambda part=part: self._spark.sql(f"DELETE FROM {table.identifier} WHERE {part}"))  # type: ignore[misc]  # noqa: S608 - names of our own
        self._mark_purged(table)
        if rows:
            self._done[table.name] = rows

    def _delete_gold(self, gold: Table, where: str) -> None:
        """Delete Gold rows and record their exchange, so that bars of other exchanges are not rebuilt."""
        if not self._exists(gold):
            return
        history, app = SnapshotHistory(self._spark, gold), self._spark.sparkContext.applicationId
        before = next((snapshot.id for snapshot in history.snapshots()), None)
        self._delete(gold, where, "exchange_date")
        own_deletes = [
            snapshot.id
            for snapshot in takewhile(lambda snapshot: snapshot.id != before, history.snapshots())
            if snapshot.operation in {"delete", "overwrite"} and snapshot.summary.get("spark.app.id") == app
        ]
        if own_deletes:
            properties = ", ".join(
                f"'{DELETED}{snapshot}' = '{self._feed.exchange_spec.label}'" for snapshot in own_deletes
            )
            statement = f"ALTER TABLE {gold.identifier} SET TBLPROPERTIES ({properties})"
            retry_on_conflict(lambda: self._spark.sql(statement))

    def _mark_purged(self, table: Table) -> None:
        """Invalidate what snapshots up to now record of the topics: a new one of the name restarts at offset 0."""
        now = datetime.now(UTC).timestamp()
        keys = map(purged_key, sorted(self._topics))
        properties = ", ".join(f"'{key}' = '{now:.3f}'" for key in keys)
        statement = f"ALTER TABLE {table.identifier} SET TBLPROPERTIES ({properties})"
        retry_on_conflict(lambda: self._spark.sql(statement))

    def _exists(self, table: Table) -> bool:
        return self._spark.catalog.tableExists(table.identifier)

    def _queries(self) -> list[str]:
        """Return the ids of the feed's queries, of those that have a checkpoint."""
        query_ids = []
        for folder in (query_folder(channel, layer) for channel in self._channels for layer in (BRONZE, SILVER, GOLD)):
            checkpoint = Checkpoint(self._files, path(self._platform.checkpoints, self._feed.name, folder))
            if self._files.exists(f"{checkpoint.folder}/metadata"):
                query_ids.append(checkpoint.query_id())
        return query_ids


def is_below(place: str, warehouse: str) -> bool:
    """Whether a folder is in the warehouse, and not the warehouse itself. Both are URLs or paths."""
    folder, root = (re.sub("^file:/+", "/", text).rstrip("/") for text in (place, warehouse))
    return folder.startswith(f"{root}/") and ".." not in folder.split("/")


def _in_list(column: str, values: Iterable[str]) -> str:
    items = ", ".join(f"'{value}'" for value in values)
    return f"{column} IN ({items})" if items else ""


def main(argv: Sequence[str] | None = None) -> int:
    """Purge one feed; return the exit code."""
    return bootstrap.Command(
        name="k2.jobs.purge",
        description="Delete the data of a deleted feed.",
        add_arguments=_add_arguments,
        work=_purge,
        failure="the purge failed; run it again",
        work_errors=(ValueError, KeyError),  # a checkpoint that cannot be read
    ).run(argv)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--feed", type=Path, required=True, help="ExchangeFeed manifest (YAML)")
    parser.add_argument(
        "--exchange", action="store_true", help="also drop the exchange's tables; only if it has no other feed"
    )


def _purge(arguments: argparse.Namespace, platform: Platform) -> int:
    (feed,) = bootstrap.read_feeds([arguments.feed])
    with bootstrap.spark_session(platform, arguments) as spark:
        with bootstrap.reading_catalog():
            spark.sql(f"CREATE NAMESPACE IF NOT EXISTS {CATALOG}.{NAMESPACE}")  # missing if no feed has run yet
        removed = Purge(spark, platform, feed, exchange=arguments.exchange).run()
    print(json.dumps({"feed": feed.name, "removed": removed}, indent=2))
    return 0


if __name__ == "__main__":
    bootstrap.exit_process(main())
