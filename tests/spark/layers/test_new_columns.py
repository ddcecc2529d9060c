"""A nullable column that a newer spec adds reaches tables that exist; other differences are refused."""

from dataclasses import replace

import pytest

from k2.jobs.commit.appender import Appender
from k2.jobs.commit.snapshots import SnapshotHistory
from k2.jobs.spark import tables as spark_tables
from k2.schemas.channels import TRADES
from k2.schemas.tables import GOLD_TABLE, Column, Table
from tests.spark.builders import Lake, trade

pytestmark = pytest.mark.spark


def _with(column: Column) -> Table:
    return replace(GOLD_TABLE, columns=(*GOLD_TABLE.columns, column))


def test_a_nullable_column_is_added_to_a_table_that_lacks_it(lake: Lake):
    feed = lake.feed()
    lake.arrive(feed, [trade(1)])
    lake.run(feed, "silver", "gold")
    newer = _with(Column("venue_fee", "decimal(18,8)", "the exchange's fee", nullable=True))
    spark_tables.ensure(lake.spark, [newer])
    spark_tables.ensure(lake.spark, [newer])  # the second finds nothing to do

    written = lake.spark.table(newer.identifier).drop("venue_fee").selectExpr("* EXCEPT (trade_id)", "'2' AS trade_id")
    Appender(lake.spark, newer, "query").append(written, 1, {})
    rows = lake.spark.table(newer.identifier).select("trade_id", "venue_fee").collect()
    assert sorted((row["trade_id"], row["venue_fee"]) for row in rows) == [("1", None), ("2", None)]
    (field,) = [field for field in lake.spark.table(newer.identifier).schema if field.name == "venue_fee"]
    assert (field.dataType.simpleString(), field.nullable) == ("decimal(18,8)", True)


def test_a_column_that_is_not_nullable_is_not_added(lake: Lake):
    lake.feed()
    with pytest.raises(spark_tables.TableDrifted, match="venue_fee string is missing"):
        spark_tables.ensure(lake.spark, [_with(Column("venue_fee", "string", "the exchange's fee"))])
    assert "venue_fee" not in lake.spark.table(GOLD_TABLE.identifier).columns


def test_an_existing_table_gets_the_properties_that_it_lacks_and_keeps_those_that_it_has(lake: Lake):
    lake.feed()
    silver = TRADES.silver("binance")
    lake.sql("ALTER TABLE {} UNSET TBLPROPERTIES ('write.metadata.compression-codec')", silver)
    lake.sql("ALTER TABLE {} SET TBLPROPERTIES ('write.metadata.previous-versions-max' = '7')", silver)
    history = SnapshotHistory(lake.spark, silver)
    assert "write.metadata.compression-codec" not in history.properties()
    spark_tables.ensure(lake.spark, [silver])
    properties = history.properties()
    assert properties["write.metadata.compression-codec"] == "gzip"
    assert properties["write.metadata.previous-versions-max"] == "7"
    current = history.java_table().operations().current
    location = str(current().metadataFileLocation())
    assert location.endswith(".gz.metadata.json")
    spark_tables.ensure(lake.spark, [silver])
    assert str(current().metadataFileLocation()) == location  # nothing is written when nothing is lacking
