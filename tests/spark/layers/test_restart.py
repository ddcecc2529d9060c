"""Restarts: no duplicates, no loss, and invalid checkpoints and tables are rejected."""

import os
import re
import shutil
from pathlib import Path

import pytest
from pyspark.errors import StreamingQueryException
from pyspark.sql import SparkSession

from k2.jobs.commit.checkpoints import BrokenCheckpoint
from k2.jobs.commit.snapshots import SnapshotHistory
from k2.jobs.spark import tables as spark_tables
from k2.jobs.stream import CheckpointInUse, failure_reason
from k2.schemas import tables
from k2.schemas.channels import TRADES, exchange_tables
from tests.spark.builders import Lake, Record, consecutive, numbers

pytestmark = pytest.mark.spark


def _delete_newest_commit(lake: Lake, feed, layer: str) -> None:
    """Delete the newest commit file, as if the driver was killed between the table's commit and the checkpoint's."""
    commits = [path for path in (lake.checkpoint(feed, layer) / "commits").iterdir() if path.name.isdigit()]
    newest = max(commits, key=lambda path: int(path.name))
    newest.unlink()
    (newest.parent / f".{newest.name}.crc").unlink(missing_ok=True)


@pytest.mark.parametrize("layer", ["silver", "gold"])
def test_a_driver_killed_between_commit_and_checkpoint_writes_no_duplicates(lake: Lake, layer: str):
    feed = lake.feed()
    for first in (1, 6):
        lake.arrive(feed, [*consecutive(first, first + 4), Record(b"bad")])
        lake.run(feed, "silver", "gold")
    before = len(lake.snapshots(tables.GOLD_TABLE)), len(lake.snapshots(TRADES.silver("binance")))
    _delete_newest_commit(lake, feed, layer)
    lake.run(feed, layer)
    assert (len(lake.snapshots(tables.GOLD_TABLE)), len(lake.snapshots(TRADES.silver("binance")))) == before
    assert numbers(lake.silver()) == numbers(lake.gold) == list(range(1, 11))
    assert lake.dead.count() == 2
    lake.arrive(feed, consecutive(11, 12))
    lake.run(feed, "silver", "gold")
    assert numbers(lake.gold) == list(range(1, 13))


def test_a_driver_killed_between_trades_and_dead_letters_writes_only_the_dead_letters(lake: Lake):
    feed = lake.feed()
    lake.arrive(feed, [*consecutive(1, 3), Record(b"bad")])
    lake.run(feed, "silver")
    _delete_newest_commit(lake, feed, "silver")
    assert len(lake.snapshots(tables.DEAD_LETTERS_TABLE)) == 1
    lake.sql("DROP TABLE {}", tables.DEAD_LETTERS_TABLE)
    spark_tables.ensure(lake.spark, [tables.DEAD_LETTERS_TABLE])
    lake.run(feed, "silver")
    assert numbers(lake.silver()) == [1, 2, 3]
    assert [row["offset"] for row in lake.dead.collect()] == [3]


@pytest.mark.parametrize("layer", ["silver", "gold"])
def test_a_checkpoint_older_than_its_table_is_rejected(lake: Lake, layer: str):
    feed = lake.feed()
    lake.arrive(feed, consecutive(1, 3))
    lake.run(feed, "silver", "gold")
    checkpoint = lake.checkpoint(feed, layer)
    older = shutil.copytree(checkpoint, checkpoint.with_name("older"))
    lake.arrive(feed, consecutive(4, 6))
    lake.run(feed, "silver", "gold")
    lake.arrive(feed, consecutive(7, 9))
    lake.run(feed, *(["silver"] if layer == "gold" else []))
    shutil.rmtree(checkpoint)
    older.rename(checkpoint)
    with pytest.raises(StreamingQueryException, match="restored from an older copy"):
        lake.run(feed, layer)


def test_a_missing_metadata_file_is_reported(lake: Lake):
    feed = lake.feed()
    lake.arrive(feed, consecutive(1, 2))
    lake.run(feed, "silver")
    (lake.checkpoint(feed, "silver") / "metadata").unlink()
    with pytest.raises(BrokenCheckpoint, match=re.escape(f"{lake.checkpoint(feed, 'silver')}/metadata is missing")):
        lake.run(feed, "silver")
    assert numbers(lake.silver()) == [1, 2]


def test_truncated_offsets_are_reported(lake: Lake):
    feed = lake.feed()
    lake.arrive(feed, consecutive(1, 2))
    lake.run(feed, "silver")
    offsets = lake.checkpoint(feed, "silver") / "offsets" / "0"
    (offsets.parent / ".0.crc").unlink(missing_ok=True)
    offsets.write_text(offsets.read_text().splitlines()[0] + "\n")
    with pytest.raises(BrokenCheckpoint, match="offsets/0 or metadata cannot be read"):
        lake.run(feed, "silver")


def test_a_checkpoint_is_used_by_one_process_at_a_time(lake: Lake):
    feed = lake.feed()
    with lake.stream(feed, "silver") as running:
        running.start()
        with pytest.raises(CheckpointInUse, match="stop it first"):
            lake.run(feed, "silver")


def test_a_manually_altered_table_is_rejected_with_the_difference(lake: Lake):
    lake.feed()
    silver = TRADES.silver("binance")
    lake.sql("ALTER TABLE {} DROP COLUMN side", silver)
    lake.sql("ALTER TABLE {} ADD COLUMN note string", silver)
    lake.sql("ALTER TABLE {} ALTER COLUMN schema_id TYPE bigint", silver)
    with pytest.raises(spark_tables.TableDrifted) as error:
        spark_tables.ensure(lake.spark, exchange_tables("binance"))
    message = str(error.value)
    for part in ("side string is missing", "note string is not in the spec", "schema_id is bigint, not int"):
        assert part in message


def test_processes_started_from_a_driver_do_not_inherit_its_jvm(spark: SparkSession):
    assert spark.version
    assert not [name for name in os.environ if name.startswith("PYSPARK_GATEWAY")]


def test_a_batch_that_java_fails_names_its_error_however_long_the_stack_trace_is(lake: Lake):
    feed = lake.feed()
    lake.arrive(feed, consecutive(1, 2))
    place = Path(SnapshotHistory(lake.spark, TRADES.silver("binance")).java_table().location().removeprefix("file:"))
    shutil.rmtree(place / "data", ignore_errors=True)  # the table is empty
    (place / "data").write_text("no folder, so that nothing can be written into it")
    with lake.stream(feed, "silver") as stream:
        with pytest.raises(StreamingQueryException):
            stream.drain()
        assert stream.query is not None
        reason = failure_reason(stream.query)
    (place / "data").unlink()
    assert "StackOverflowError" not in reason
    assert reason.startswith("ParentNotDirectoryException"), reason
