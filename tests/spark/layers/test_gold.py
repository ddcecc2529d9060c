"""Gold: each trade once, no matter how often or how late it arrives."""

from datetime import timedelta

import pytest

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
