"""Gold: each trade once, no matter how often or how late it arrives."""

from datetime import timedelta

import pytest

from k2.jobs.layers import gold
from k2.schemas.channels import TRADES
from k2.schemas.records.trade import message_id
from tests.spark.builders import HOUR, Lake, consecutive, numbers, trade

pytestmark = pytest.mark.spark


def test_of_duplicates_in_a_batch_the_first_is_kept(lake: Lake):
    feed = lake.feed()
    again = trade(2, ingestion_timestamp=trade(2).ingestion_timestamp + 1)
    lake.arrive(feed, [trade(1), trade(2), again, trade(3)])
    lake.run(feed, "silver", "gold")
    assert numbers(lake.silver()) == [1, 2, 2, 3]
    assert numbers(lake.gold) == [1, 2, 3]
    rows = lake.gold.where("trade_id = '2'").selectExpr("unix_micros(ingestion_timestamp)").collect()
    assert rows[0][0] == trade(2).ingestion_timestamp


def test_a_duplicate_in_a_later_batch_is_dropped(lake: Lake):
    feed = lake.feed()
    lake.arrive(feed, consecutive(1, 5))
    lake.run(feed, "silver", "gold")
    lake.arrive(feed, consecutive(4, 8))
    lake.run(feed, "silver", "gold")
    assert numbers(lake.gold) == [1, 2, 3, 4, 5, 6, 7, 8]


def test_a_trade_two_hours_late_is_in_its_hour_once(lake: Lake):
    feed = lake.feed()
    late = trade(3, HOUR - timedelta(hours=2), ingestion_timestamp=trade(3).ingestion_timestamp)
    lake.arrive(feed, [trade(1), trade(2)])
    lake.run(feed, "silver", "gold")
    lake.arrive(feed, [late])
    lake.run(feed, "silver", "gold")
    lake.arrive(feed, [late, trade(4)])
    lake.run(feed, "silver", "gold")
    assert numbers(lake.gold) == [1, 2, 3, 4]
    assert lake.gold.where("trade_id = '3'").collect()[0]["exchange_hour"] == HOUR.hour - 2


def test_equal_trades_with_different_ids_are_all_kept(lake: Lake):
    feed = lake.feed()
    lake.arrive(feed, [trade(number, HOUR) for number in range(1, 11)])
    lake.run(feed, "silver", "gold")
    assert numbers(lake.gold) == list(range(1, 11))


def test_the_same_id_on_two_exchanges_is_two_trades(lake: Lake):
    binance, kraken = lake.feed(), lake.feed("kraken")
    lake.arrive(binance, [trade(1)])
    lake.arrive(kraken, [trade(1, exchange="kraken")])
    for feed in (binance, kraken):
        lake.run(feed, "silver", "gold")
    assert sorted(row["exchange"] for row in lake.gold.collect()) == ["BINANCE", "KRAKEN"]


def _files_read(lake: Lake, extent: gold.Extent) -> int:
    assert extent.id_ranges is not None
    rows = lake.gold.where(gold.in_id_ranges(extent.id_ranges, TRADES)).select("message_id")
    return int(rows._jdf.queryExecution().toRdd().getNumPartitions())


def test_new_ids_are_looked_up_in_no_file_and_known_ones_in_theirs(lake: Lake):
    feed = lake.feed()
    for first in (1, 11, 21):
        lake.arrive(feed, [trade(number, HOUR) for number in range(first, first + 10)])
        lake.run(feed, "silver", "gold")
    silver = lake.silver()
    assert _files_read(lake, gold.extent(silver.where("trade_id = '15'"), TRADES)) == 1
    assert _files_read(lake, gold.extent(silver.where("trade_id IN ('10', '11')"), TRADES)) > 0
    lake.arrive(feed, [trade(number, HOUR) for number in range(31, 41)])
    lake.run(feed, "silver")
    new = gold.extent(silver.where("cast(trade_id AS int) > 30"), TRADES)
    assert new.id_ranges == (gold.IdRange(*(str(message_id("BINANCE", "BTCUSDT", str(n))) for n in (31, 40))),)
    assert _files_read(lake, new) == 0
    lake.run(feed, "gold")
    assert numbers(lake.gold) == list(range(1, 41))


def test_ids_that_are_not_ordered_are_looked_up_everywhere(lake: Lake):
    feed = lake.feed()
    lake.arrive(feed, [trade("a", HOUR), trade(2**62, HOUR), trade(7, HOUR)])
    lake.run(feed, "silver", "gold")
    extent = gold.extent(lake.silver(), TRADES)
    assert (extent.id_ranges, extent.minutes) == (None, (int(HOUR.timestamp()) // 60,))
    lake.arrive(feed, [trade("a", HOUR), trade(2**62, HOUR), trade(7, HOUR), trade("b", HOUR)])
    lake.run(feed, "silver", "gold")
    assert sorted(row[0] for row in lake.gold.select("trade_id").collect()) == [str(2**62), "7", "a", "b"]


def test_the_extent_has_each_minute_and_the_ids_of_each_symbol(lake: Lake):
    feed = lake.feed()
    ether = {"symbol": "ETHUSDT", "base_asset": "ETH"}
    largest = 2**62 - 1
    trades = [
        trade(5),
        trade(1, HOUR + timedelta(minutes=3)),
        trade(largest, HOUR),
        trade(9, **ether),
        trade(8, **ether),
    ]
    lake.arrive(feed, trades)
    lake.run(feed, "silver")
    extent = gold.extent(lake.silver(), TRADES)
    start = int(HOUR.timestamp()) // 60
    assert sorted(extent.minutes) == [start, start + 3]
    assert extent.id_ranges is not None
    ends = sorted((one.first, one.last) for one in extent.id_ranges)
    bitcoin = [str(message_id("BINANCE", "BTCUSDT", str(number))) for number in (1, 5, largest)]
    others = [str(message_id("BINANCE", "ETHUSDT", str(number))) for number in (8, 9)]
    assert gold.extent(lake.silver(), TRADES, with_ids=False).id_ranges is None
    assert ends == sorted([(bitcoin[0], bitcoin[1]), (bitcoin[2], bitcoin[2]), (others[0], others[1])])
