"""Hybrid queries: Gold up to its newest commit and the rest from a real broker, each trade once."""

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlparse

import pytest

from k2.query.engine import Engine
from k2.query.errors import BadQuery, Unavailable
from k2.query.execution import top_n
from k2.query.iceberg import tables
from k2.query.kafka.kafka_offsets import Frontier
from k2.query.kafka.tail import Tail
from k2.query.sql.record_sql import RecordFilter
from k2.schemas.channels import TRADES
from k2.schemas.tables import GOLD
from k2.schemas.values import to_micros
from tests.spark.builders import HOUR, consecutive, trade
from tests.system.lab import TOPIC, Lab

pytestmark = pytest.mark.system

MODES = pytest.mark.parametrize("live", [False, True], ids=["once", "live"])


@pytest.fixture(params=[False, True], ids=["once", "live"])
def engine(request: pytest.FixtureRequest, lab: Lab) -> Iterator[Engine]:
    with closing(Engine(lab.platform, live=request.param)) as opened:
        yield opened


def ids(engine: Engine, **query) -> list[str]:
    return engine.trades(hybrid=True, **query).column("trade_id").to_pylist()


def texts(first: int, last: int) -> list[str]:
    return [str(number) for number in range(first, last + 1)]


def at(**offsets: int) -> Frontier:
    return Frontier({TOPIC: {int(name[1:]): offset for name, offset in offsets.items()}}, {TOPIC: "BINANCE"})


def test_what_gold_does_not_hold_comes_from_kafka(lab: Lab, engine: Engine):
    lab.send(*consecutive(1, 9))
    assert ids(engine) == texts(1, 9)
    lab.commit(consecutive(1, 5), {0: 5})
    assert ids(engine) == texts(1, 9)
    lab.send(*consecutive(10, 12), partition=1)
    lab.send(*consecutive(13, 13))
    assert ids(engine) == texts(1, 13)
    assert ids(engine, limit=2) == ["12", "13"]
    assert ids(engine, start=HOUR, limit=2) == ["1", "2"]
    lab.commit(consecutive(6, 13), {0: 10, 1: 3})
    assert ids(engine) == texts(1, 13)


def test_a_duplicate_trade_is_returned_once(lab: Lab, engine: Engine):
    """A redundant connection, and a backfill that gives the time in other precision."""
    lab.commit(consecutive(1, 5), {0: 5})
    lab.send(*consecutive(1, 8), *consecutive(6, 8))
    again = trade(5, HOUR + timedelta(seconds=5, milliseconds=1), vendor_data=(("source", "backfill"),))
    lab.send(again, partition=1)
    assert ids(engine) == texts(1, 8)
    assert ids(engine, start=HOUR + timedelta(seconds=5, microseconds=1)) == texts(6, 8)


def test_invalid_records_are_not_returned(lab: Lab, engine: Engine):
    lab.commit([trade(1)], {0: 1})
    lab.send(trade(1), trade(2), trade(3, price=-1), trade(4))
    lab.put(b"\x00garbage", "BTCUSDT", to_micros(HOUR) // 1000)
    lab.send(trade(5))
    assert ids(engine) == ["1", "2", "4", "5"]


def test_rows_of_gold_and_tail_have_the_same_form(lab: Lab, engine: Engine):
    vendor = (("source", "live"), ("buyer_order_id", '"7"\n'), ("é", "\x1f"))
    lab.commit([trade(1, vendor_data=vendor[:1])], {0: 1})
    lab.send(trade(1), trade(2, price=1, quantity=10**38 - 1, vendor_data=vendor))
    first, second = engine.trades(hybrid=True).to_pylist()
    assert first.keys() == second.keys()
    assert {key: type(value) for key, value in first.items()} == {key: type(value) for key, value in second.items()}
    assert (str(second["price"]), str(second["quantity"])) == ("1E-12", "9" * 26 + "." + "9" * 12)
    assert second["timestamp"] == HOUR + timedelta(seconds=2)
    assert second["vendor_data"] == '{"buyer_order_id":"\\"7\\"\\n","é":"\\u001F","source":"live"}'
    assert engine.trades(hybrid=True).schema == engine.trades().schema


def test_bars_include_the_tail(lab: Lab, engine: Engine):
    lab.commit(consecutive(1, 5), {0: 5})
    lab.send(*consecutive(1, 70))
    bars = engine.ohlcv(symbol="BTCUSDT", hybrid=True).to_pylist()
    assert [bar["trade_count"] for bar in bars] == [59, 11]


def test_filters_apply_to_the_tail(lab: Lab, engine: Engine):
    lab.send(*consecutive(1, 5), trade(6, symbol="ETHUSDT", base_asset="ETH"))
    assert ids(engine, symbol="ethusdt") == ["6"]
    assert ids(engine, exchange="kraken") == []
    assert ids(engine, start=HOUR + timedelta(seconds=2), end=HOUR + timedelta(seconds=4)) == ["2", "3"]


def test_a_few_trades_are_read_from_few_files(lab: Lab, engine: Engine, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(top_n, "_FIRST_READ_ROWS", 1)
    hours = [[trade(10 * hour + n, HOUR + timedelta(hours=hour, seconds=n)) for n in range(10)] for hour in range(3)]
    for hour, rows in enumerate(hours):
        lab.commit(rows, {0: 10 * (hour + 1)})
    lab.send(*(row for rows in hours for row in rows), trade(30, HOUR + timedelta(hours=2, seconds=30)))
    plan = engine.catalog.load_table(tables.identifier(GOLD)).scan().plan_files()
    oldest, _, newest = sorted(
        (Path(urlparse(task.file.file_path).path) for task in plan), key=lambda path: path.parent
    )
    oldest.rename(oldest.with_suffix(".away"))
    assert ids(engine, limit=3) == ["28", "29", "30"]
    assert ids(engine, limit=3, end=HOUR + timedelta(hours=2, seconds=5)) == ["22", "23", "24"]
    with pytest.raises(Unavailable):
        ids(engine)
    oldest.with_suffix(".away").rename(oldest)
    newest.rename(newest.with_suffix(".away"))
    assert ids(engine, start=HOUR, end=HOUR + timedelta(hours=1, minutes=59), limit=11) == texts(0, 10)


def test_a_symbol_that_only_kafka_has_is_not_unknown(lab: Lab, engine: Engine):
    lab.commit([trade(1)], {0: 1})
    lab.send(trade(1), trade(6, symbol="ETHUSDT", base_asset="ETH"))
    assert ids(engine, symbol="ETHUSDT", end=HOUR) == []
    with pytest.raises(BadQuery, match="no trade of"):
        ids(engine, symbol="SOLUSDT")


def test_a_hybrid_query_rejects_as_of(lab: Lab, engine: Engine):
    with pytest.raises(BadQuery, match="as of now"):
        engine.trades(hybrid=True, as_of=HOUR)


def test_a_custom_topic_is_found_by_its_commits(lab: Lab, engine: Engine):
    lab.create("own")
    lab.commit([trade(1)], {0: 1}, topic="own")
    lab.send(trade(1), trade(2), topic="own")
    assert ids(engine) == ["1", "2"]


def test_records_that_kafka_deleted_before_gold_read_them_are_an_error(lab: Lab, engine: Engine):
    from confluent_kafka import TopicPartition

    lab.commit(consecutive(1, 2), {0: 2})
    lab.send(*consecutive(1, 9))
    place = TopicPartition(TOPIC, 0, 4)
    lab.admin.delete_records([place])[place].result(30)
    with pytest.raises(Unavailable, match=f"Kafka no longer holds what follows Gold in {TOPIC}"):
        ids(engine)
    lab.commit(consecutive(3, 4), {0: 4})
    assert ids(engine) == texts(1, 9)


@MODES
def test_without_kafka_or_registry_a_hybrid_query_fails(lab: Lab, live: bool):
    lab.send(trade(1))
    for away in ({"kafka_bootstrap": "127.0.0.1:1"}, {"registry_url": "http://127.0.0.1:1"}):
        with closing(Engine(lab.platform.model_copy(update=away), live=live)) as engine:
            with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1"):
                ids(engine)
            assert engine.trades().num_rows == 0  # Gold itself needs neither


def test_evicted_trades_are_read_from_kafka_again(lab: Lab):
    lab.send(*consecutive(1, 4_500))
    with closing(Tail(lab.platform, TRADES, live=True, max_records=2_000)) as tail:
        for begins in (0, 1_000, 3_500, 4_400):
            rows = tail.rows(at(p0=begins), RecordFilter())
            assert rows.column("trade_id").to_pylist() == texts(begins + 1, 4_500)
        assert tail._follower._buffer._count <= 2_000


def test_a_server_answers_from_memory_in_milliseconds(lab: Lab):
    lab.send(*consecutive(1, 20_000))
    with closing(Tail(lab.platform, TRADES, live=True)) as tail:
        tail.rows(at(p0=0), RecordFilter())
        taken = []
        for number in range(50):
            lab.send(trade(20_001 + number))
            began = time.perf_counter()
            rows = tail.rows(at(p0=19_000), RecordFilter(symbol="BTCUSDT"))
            taken.append(time.perf_counter() - began)
            assert rows.num_rows == 1_001 + number
    assert min(taken) < 0.05  # the slowest depend on the load of the machine


def test_no_query_during_commits_misses_or_duplicates_a_trade(lab: Lab, engine: Engine):
    sent, ended = [0], threading.Event()

    def market() -> None:
        for number in range(1, 1_500, 3):
            lab.send(*consecutive(number, number + 2), partition=number % 2)
            sent[0] = number + 2
        ended.set()

    running = threading.Thread(target=market)
    running.start()
    try:
        taken = 0
        while not ended.is_set() or taken < sent[0]:
            before = sent[0]
            trade_ids = ids(engine)
            assert len(trade_ids) == len(set(trade_ids))
            assert set(trade_ids) >= set(texts(1, before))
            if before > taken:
                rounds = range(1, before, 3)
                offsets = {side: 3 * sum(1 for number in rounds if number % 2 == side) for side in (0, 1)}
                lab.commit(consecutive(taken + 1, before), offsets)
                taken = before
    finally:
        running.join()
