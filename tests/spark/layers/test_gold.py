"""Gold: each trade once, for ever, however often and however late it came."""

from datetime import timedelta

import pytest

from tests.spark.builders import HOUR, Lake, consecutive, numbers, trade

pytestmark = pytest.mark.spark


def test_a_trade_that_comes_twice_in_one_batch_is_there_once_and_the_first_stays(lake: Lake):
    feed = lake.feed()
    again = trade(2, ingestion_timestamp=trade(2).ingestion_timestamp + 1)
    lake.arrive(feed, [trade(1), trade(2), again, trade(3)])
    lake.run(feed, "silver", "gold")
    assert numbers(lake.silver()) == [1, 2, 2, 3]
    assert numbers(lake.gold) == [1, 2, 3]
    kept = lake.gold.where("trade_id = '2'").selectExpr("unix_micros(ingestion_timestamp)").collect()
    assert kept[0][0] == trade(2).ingestion_timestamp


def test_a_trade_that_comes_again_in_a_later_batch_is_there_once(lake: Lake):
    feed = lake.feed()
    lake.arrive(feed, consecutive(1, 5))
    lake.run(feed, "silver", "gold")
    lake.arrive(feed, consecutive(4, 8))
    lake.run(feed, "silver", "gold")
    assert numbers(lake.gold) == [1, 2, 3, 4, 5, 6, 7, 8]


def test_a_trade_two_hours_late_still_lands_in_its_hour_and_once(lake: Lake):
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


def test_equal_trades_with_different_ids_all_stay(lake: Lake):
    feed = lake.feed()
    lake.arrive(feed, [trade(number, HOUR) for number in range(1, 11)])
    lake.run(feed, "silver", "gold")
    assert numbers(lake.gold) == list(range(1, 11))


def test_the_same_id_of_two_exchanges_is_two_trades(lake: Lake):
    binance, kraken = lake.feed(), lake.feed("kraken")
    lake.arrive(binance, [trade(1)])
    lake.arrive(kraken, [trade(1, exchange="kraken")])
    for feed in (binance, kraken):
        lake.run(feed, "silver", "gold")
    assert sorted(row["exchange"] for row in lake.gold.collect()) == ["BINANCE", "KRAKEN"]
