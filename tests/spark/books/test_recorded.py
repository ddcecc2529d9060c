"""Recorded frames of Binance through the adapters, Bronze, Silver and Gold: the books and quotes of the exchange."""

from contextlib import closing
from pathlib import Path

import pytest

from k2.common.schema_registry import Registry
from k2.query.book.reader import BookQuery
from k2.query.engine import Engine
from k2.schemas import topics
from k2.schemas.channels import BOOK, QUOTES
from k2.schemas.values import from_micros
from tests.recorded_books import COUNTS, recording
from tests.spark.books.lake import books
from tests.spark.builders import Lake, Record
from tests.unit.query.book.test_recorded import check, values

pytestmark = [pytest.mark.spark, pytest.mark.slow]


def test_the_recorded_books_and_quotes_are_in_gold_and_are_read_at_random_instants(lake: Lake, captures: Path):
    filled = books(lake)
    recordings = [recording(captures, symbol) for symbol in COUNTS]
    for channel in (BOOK, QUOTES):
        schema_id = Registry(lake.platform.registry).register(
            topics.subject(filled.feed.topic(channel)), channel.schema
        )
        for partition, recorded in enumerate(recordings):
            records = [
                Record(value, recorded.symbol, from_micros(arrived))
                for arrived, value in values(channel, recorded, schema_id)
            ]
            filled.arrive(*records, channel=channel, partition=partition)
    filled.run()
    assert lake.dead.isEmpty()
    with closing(Engine(lake.platform)) as engine:
        for recorded in recordings:
            where = f"WHERE symbol = '{recorded.symbol}'"
            time = "coalesce(timestamp, ingestion_timestamp) AS time"
            messages = engine.sql(f"SELECT *, {time} FROM {BOOK.gold.name} {where}")
            check(recorded, messages, engine.sql(f"SELECT * FROM {QUOTES.gold.name} {where}"))
            instants = recorded.instants(5, seed=2)
            for instant, (bids, asks) in zip(instants, recorded.books(instants), strict=True):
                (book,) = engine.books_reader(BookQuery.at(recorded.symbol, None, instant)).read_all().to_pylist()
                for side, levels in (("bids", bids), ("asks", asks)):
                    assert {level["price"]: level["quantity"] for level in book[side]} == levels
    assert [str(each) for each in filled.audit().findings] == []
