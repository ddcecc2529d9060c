"""Rows of Gold that another engine deleted with delete files are not in query results."""

from contextlib import closing
from datetime import timedelta

import pytest

from k2.query.engine import Engine
from k2.schemas.tables import GOLD, GOLD_TABLE
from tests.spark.builders import HOUR, Lake, consecutive

pytestmark = pytest.mark.spark


def test_rows_deleted_by_delete_files_are_not_returned(lake: Lake):
    feed = lake.feed()
    lake.arrive(feed, consecutive(1, 5))
    lake.run(feed, "silver", "gold")
    gold = GOLD_TABLE.identifier
    lake.spark.sql(f"ALTER TABLE {gold} SET TBLPROPERTIES ('write.delete.mode' = 'merge-on-read')")
    with closing(Engine(lake.platform)) as engine:
        before = engine.snapshot_id()
        assert engine.trades(start=HOUR).num_rows == 5
        lake.spark.sql(f"DELETE FROM {gold} WHERE trade_id = '3'")
        assert lake.spark.table(f"{gold}.delete_files").count() == 1
        assert engine.trades(start=HOUR).column("trade_id").to_pylist() == ["1", "2", "4", "5"]
        assert engine.trades(start=HOUR, end=HOUR + timedelta(seconds=4), limit=2).num_rows == 2
        assert engine.sql(f"SELECT count(*) AS n FROM {GOLD}").to_pylist() == [{"n": 4}]
        assert engine.trades(start=HOUR, as_of=before).num_rows == 5
