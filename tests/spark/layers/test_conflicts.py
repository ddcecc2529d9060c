"""One id, one trade: a second trade under a known id becomes a dead letter, wherever and whenever the two meet."""

import random
from datetime import datetime, timedelta
from typing import Any

import pytest
from pyspark.sql import functions as F  # noqa: N812 - Spark's own idiom

from k2.jobs.layers import conflicts
from k2.jobs.maintenance.runner import Maintenance
from k2.jobs.spark import tables as spark_tables
from k2.jobs.spark.local_frames import local_frame
from k2.schemas import tables
from k2.schemas.channels import TRADES
from k2.schemas.content import differences, same_time
from k2.schemas.records.trade import Side
from k2.schemas.values import to_micros
from tests.spark.builders import HOUR, Lake, Record, consecutive, numbers, trade

pytestmark = pytest.mark.spark

TOPIC = "market.crypto.trades.binance"
LATER = HOUR + timedelta(hours=1)
UNIT = 10**12


def _rejected(lake: Lake) -> list[tuple[int, int, str]]:
    """Return partition, offset and category of each dead letter."""
    rows = lake.dead.orderBy("partition", "offset").collect()
    return [(row["partition"], row["offset"], row["error_category"]) for row in rows]


def _messages(lake: Lake) -> list[str]:
    return [row["error_message"] for row in lake.dead.orderBy("partition", "offset").collect()]


def _balanced(lake: Lake) -> bool:
    return lake.bronze().count() == lake.silver().count() + lake.dead.count()


@pytest.mark.parametrize("batches", [1, 2])
def test_other_content_under_a_known_id_is_a_dead_letter(lake: Lake, batches: int):
    changes: list[tuple[dict[str, Any], str]] = [
        ({"price": 61_837_640_000_000_000}, "price 61837.64 instead of 61837.63"),
        ({"quantity": 2 * UNIT}, "quantity 2 instead of 0.02"),
        ({"side": Side.SELL}, "side SELL instead of BUY"),
        (
            {"timestamp": to_micros(HOUR) + 8_001_000},
            "time 2026-03-02T10:00:08.001000Z instead of 2026-03-02T10:00:08.000000Z",
        ),
        ({"price": UNIT, "side": Side.SELL}, "price 1 instead of 61837.63, side SELL instead of BUY"),
    ]
    copies = [trade(5 + index, **change) for index, (change, _) in enumerate(changes)]
    feed = lake.feed()
    lake.arrive(feed, [trade(4), *consecutive(5, 9)])
    if batches == 2:
        lake.run(feed, "silver")
    lake.arrive(feed, [*copies, trade(10)])
    lake.run(feed, "silver", "gold")
    assert _rejected(lake) == [(0, offset, "ID_CONFLICT") for offset in range(6, 11)]
    assert _messages(lake) == [
        f"message_id {copy.message_id} is known with other content: {what}; "
        f"the first copy is at {TOPIC}/0 offset {first}"
        for first, (copy, (_, what)) in enumerate(zip(copies, changes, strict=True), 1)
    ]
    values = [row["value"] for row in lake.dead.orderBy("offset").collect()]
    assert values == [lake.record(copy).value for copy in copies]
    assert numbers(lake.silver()) == numbers(lake.gold) == [4, 5, 6, 7, 8, 9, 10]
    assert _balanced(lake)


@pytest.mark.parametrize("batches", [1, 2])
def test_equal_copies_stay_duplicates(lake: Lake, batches: int):
    """Vendor data and the time of arrival never decide, and times only as far as the coarser source tells."""
    feed, at = lake.feed(), to_micros(HOUR) + 5_123_000
    lake.arrive(feed, [trade(5, timestamp=at + 456), trade(6, timestamp=at + 1)])
    if batches == 2:
        lake.run(feed, "silver")
    other = {"vendor_data": (("source", "backfill"),), "ingestion_timestamp": to_micros(LATER)}
    lake.arrive(feed, [trade(5, timestamp=at, **other), trade(6, timestamp=at + 2, **other)])
    lake.run(feed, "silver", "gold")
    assert _rejected(lake) == [(0, 3, "ID_CONFLICT")]
    assert numbers(lake.silver()) == [5, 5, 6]
    assert numbers(lake.gold) == [5, 6]


def test_every_copy_is_compared_with_the_first_valid_one(lake: Lake):
    feed = lake.feed()
    invalid = trade(5, price=-1)
    lake.arrive(feed, [invalid, trade(5, price=UNIT), trade(5, price=2 * UNIT), trade(5, price=UNIT)])
    lake.run(feed, "silver")
    lake.arrive(feed, [trade(5, price=2 * UNIT), trade(5, price=UNIT), trade(5, price=3 * UNIT)])
    lake.run(feed, "silver", "gold")
    rejected = [(0, 0, "NON_POSITIVE_PRICE"), *((0, offset, "ID_CONFLICT") for offset in (2, 4, 6))]
    assert _rejected(lake) == rejected
    assert all(message.endswith("/0 offset 1") for message in _messages(lake)[1:])
    assert [row["price"] for row in lake.gold.collect()] == [1]
    assert _balanced(lake)


def test_of_two_partitions_the_one_that_bronze_stored_first_has_the_first_copy(lake: Lake):
    """After an increase of the number of partitions a symbol may be in a lower one. One batch or two: the same."""
    stored: list[list[tuple[int, int, str]]] = []
    for exchange, batches in (("binance", 1), ("coinbase", 2)):
        feed = lake.feed(exchange)
        lake.stored_at = LATER
        lake.arrive(feed, [trade(5, exchange=exchange)], partition=3)
        if batches == 2:
            lake.run(feed, "silver")
        lake.stored_at = LATER + timedelta(seconds=10)
        lake.arrive(feed, [trade(5, exchange=exchange, price=UNIT), trade(5, exchange=exchange)], partition=1)
        lake.run(feed, "silver")
        rows = lake.dead.where(F.col("exchange") == exchange.upper()).collect()
        stored.append([(row["partition"], row["offset"], row["error_message"][-10:]) for row in rows])
    assert stored == [[(1, 0, "3 offset 0")]] * 2


def test_a_batch_that_is_repeated_gives_the_same_rows(lake: Lake):
    """Killed between Silver's commit and the dead letters', its own rows are no earlier copies."""
    feed = lake.feed()
    lake.arrive(feed, consecutive(1, 3))
    lake.run(feed, "silver", "gold")
    lake.arrive(feed, [trade(4), trade(3, price=UNIT), trade(4, price=UNIT), trade(5)])
    lake.run(feed, "silver")
    expected = _messages(lake), numbers(lake.silver())
    assert [row[1] for row in _rejected(lake)] == [4, 5]
    lake.sql("DROP TABLE {}", tables.DEAD_LETTERS_TABLE)
    spark_tables.ensure(lake.spark, [tables.DEAD_LETTERS_TABLE])
    newest = max((lake.checkpoint(feed, "silver") / "commits").glob("[0-9]*"), key=lambda file: int(file.name))
    newest.unlink()
    (newest.parent / f".{newest.name}.crc").unlink(missing_ok=True)
    lake.run(feed, "silver", "gold")
    assert (_messages(lake), numbers(lake.silver())) == expected
    assert _balanced(lake)


def test_after_silvers_retention_gold_still_knows_the_first_copy(lake: Lake):
    feed = lake.feed()
    lake.arrive(feed, [trade(5), trade(6)])
    lake.run(feed, "silver", "gold")
    now = HOUR + timedelta(days=40)
    report = Maintenance(lake.spark, lake.platform, [feed]).run(now=now, orphans=False)
    assert report["errors"] == []
    assert lake.silver().count() == 0
    late = {"ingestion_timestamp": to_micros(now)}
    lake.arrive(feed, [trade(5, price=UNIT, **late), trade(6, **late), trade(7, now)])
    lake.run(feed, "silver", "gold")
    assert _rejected(lake) == [(0, 2, "ID_CONFLICT")]
    assert _messages(lake)[0].endswith("the first copy is at gold_crypto_trades of 2026-03-02, hour 10")
    assert numbers(lake.silver()) == [6, 7]
    assert numbers(lake.gold) == [5, 6, 7]


def test_copies_of_another_exchange_or_beside_the_batch_are_none(lake: Lake):
    """The search reads what may hold copies; a batch of other ids, times and exchanges has none."""
    for exchange in ("binance", "coinbase"):
        feed = lake.feed(exchange)
        lake.arrive(feed, [trade(number, exchange=exchange, price=number * UNIT) for number in (1, 2, 3)])
        lake.run(feed, "silver")
    lake.arrive(lake.feed("binance"), [trade(4), Record(b"bad")])
    lake.run(lake.feed("binance"), "silver")
    assert _rejected(lake) == [(0, 4, "MALFORMED_HEADER")]


def test_more_conflicts_than_fit_the_driver_are_found(lake: Lake, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(conflicts, "SMALL_BATCH", 3)
    feed = lake.feed()
    lake.arrive(feed, consecutive(1, 6))
    lake.run(feed, "silver")
    lake.arrive(feed, [trade(number, price=UNIT) for number in range(1, 7)])
    lake.run(feed, "silver", "gold")
    assert len(_rejected(lake)) == 6
    assert numbers(lake.silver()) == numbers(lake.gold) == [1, 2, 3, 4, 5, 6]


def _moments(chance: random.Random, start: datetime) -> tuple[int, int]:
    base = to_micros(start) + chance.choice([0, 999, 1_000, 5_000_000, chance.randrange(10_000_000)])
    return base, base + chance.choice([0, 0, 1, -1, 999, -999, 1_000, -1_000, 456, 1_000_000, -base % 1_000])


def test_spark_and_python_agree_on_what_is_the_same(lake: Lake):
    chance = random.Random(7)
    lake.feed()
    pairs = []
    for number in range(600):
        prices, sides = (chance.choice(["1.000000000001", "1.0", "2"]) for _ in range(2)), "BUY SELL".split()
        first, second = _moments(chance, HOUR)
        one, other = ({"price": price, "quantity": "1", "side": chance.choice(sides)} for price in prices)
        pairs.append((number, (first, one), (second, other)))
    rows = [
        {"message_id": f"{number:04}", "rank": rank, "topic": "t", "partition": 0, "offset": rank, "place": "here",
         "time": copy[0], **{f"content_{name}": value for name, value in copy[1].items()}}
        for number, *copies in pairs for rank, copy in enumerate(copies)
    ]  # fmt: skip
    kinds = "content_price decimal(38,12), content_quantity decimal(38,12), content_side string"
    ddl = "message_id string, rank int, stored_at timestamp, topic string, partition int, offset bigint, place string"
    rejected = conflicts.among(local_frame(lake.spark, rows, f"{ddl}, time bigint, {kinds}"), TRADES)
    explained = [row["conflict"] for row in rejected.collect()]
    in_spark = {int(text.split()[1]) for text in explained}
    in_python = {
        number
        for number, (first, one), (second, other) in pairs
        if differences(TRADES.content, _numbers(one), _numbers(other), (first, second))
    }
    assert in_spark == in_python
    assert 100 < len(in_python) < 590
    assert any(same_time(first[0], second[0]) and first[0] != second[0] for _, first, second in pairs)


def _numbers(record: dict[str, str]) -> dict[str, object]:
    return {name: value if name == "side" else float(value) for name, value in record.items()}
