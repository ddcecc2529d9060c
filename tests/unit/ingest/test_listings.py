"""A symbol that its exchange lists again: nothing is lost, and no two trades share an id."""

import json
from collections import Counter
from types import SimpleNamespace

import pytest

from k2.common.kafka_connection import KafkaConnection
from k2.ingest.connection.session import Tuning
from k2.ingest.exchanges.base import Gap
from k2.ingest.kafka.resume import Protocol, read
from k2.ingest.simulator.faults import parse
from k2.schemas.channels import TRADES
from k2.schemas.codecs import avro
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.records.trade import message_id

FAST = Tuning(backoff_first=0.05, backoff_limit=0.1)
NUMBERED = Protocol("", has_sequence=True, record_ids="[0-9]+")
OPENED = 1_700_000_000_000
SYMBOLS = {"binance": "BTCUSDT", "kraken": "BTC/USD", "coinbase": "BTC-USD", "okx": "BTC-USDT"}


def frame(number: int, time: int, price: str = "1.5", raw_symbol: str = "BTCUSDT") -> bytes:
    """A trade of Binance; `time` is in milliseconds after the opening."""
    return json.dumps(
        {"data": {"e": "trade", "s": raw_symbol, "t": number, "p": price, "q": "2", "T": OPENED + time, "m": True}}
    ).encode()


def listing(record: dict) -> int:
    return int(record["vendor_data"].get("listing", "1"))


def stored_ids(ingest) -> Counter[tuple[int, int]]:
    """How often each (listing, id) is in Kafka."""
    records = ingest.stored()
    for record in records:
        arguments = (record["exchange"], record["symbol"], record["trade_id"], listing(record))
        assert record["message_id"] == message_id(*arguments)
    return Counter((listing(record), int(record["trade_id"])) for record in records)


@pytest.fixture
def ingest(shard):
    """A shard of Binance's BTCUSDT that is given its frames one by one."""
    return shard("binance", ["BTCUSDT"])


def feed(ingest, *frames: bytes) -> None:
    link = SimpleNamespace(adapter=ingest.adapter, unseen=set())
    for raw in frames:
        ingest.pipeline.handle(raw, OPENED * 1000 + 10_000_000, link)


@pytest.mark.parametrize("exchange", SYMBOLS)
async def test_a_reset_at_the_exchange_begins_the_next_listing(exchange, simulate, shard, eventually):
    simulator = await simulate(exchange, symbols=[SYMBOLS[exchange]], rate=300)
    ingest = shard(exchange, [SYMBOLS[exchange]], f"http://127.0.0.1:{simulator.port}")
    ingest.start(f"ws://127.0.0.1:{simulator.port}", tuning=FAST)
    await eventually(lambda: sum(ingest.stats.received.values()) > 50)
    simulator.inject(parse("reset"))
    await eventually(lambda: ingest.stats.errors["sequence_reset"] == 1)
    before = sum(ingest.stats.received.values())
    await eventually(lambda: sum(ingest.stats.received.values()) > before + 100)
    assert await ingest.stop() == 0
    assert (ingest.stats.gaps_detected, ingest.stats.dead_letters) == ({}, {})
    counted = stored_ids(ingest)
    first, newest = min(counted), max(counted)
    traded = [(trade.listing, trade.id) for trade in simulator.history.trades[SYMBOLS[exchange]]]
    assert newest[0] == 2
    assert counted == Counter(entry for entry in traded if first <= entry <= newest)


async def test_what_the_exchange_did_not_send_of_a_new_listing_is_fetched_under_it(simulate, shard, eventually):
    simulator = await simulate("binance", symbols=["BTCUSDT"], rate=300)
    ingest = shard("binance", ["BTCUSDT"], f"http://127.0.0.1:{simulator.port}")
    ingest.start(f"ws://127.0.0.1:{simulator.port}", tuning=FAST)
    await eventually(lambda: sum(ingest.stats.received.values()) > 50)
    simulator.inject(parse("reset"))
    simulator.inject(parse("drop=5"))
    await eventually(lambda: ingest.stats.gaps_repaired["BTCUSDT"] == 1)
    await eventually(lambda: ingest.stats.newest["BTCUSDT"].timestamp > 0)
    assert await ingest.stop() == 0
    counted = stored_ids(ingest)
    assert [number for number in range(1, max(counted)[1] + 1) if counted[2, number] != 1] == []
    opened, closed = ingest.gap_events()
    assert (opened.listing, opened.first_id, closed.state, closed.resolution) == (2, "1", "repaired", "rest")


async def test_ids_that_both_listings_have_are_all_stored(ingest):
    first = [frame(number, number) for number in range(10)]
    second = [frame(number, 5_000 + number, price=f"{1 + number % 2}.5") for number in range(10)]
    feed(ingest, *first, *second)
    assert await ingest.stop() == 0
    assert stored_ids(ingest) == Counter({(part, number): 1 for part in (1, 2) for number in range(10)})
    assert not ingest.stats.dead_letters
    assert sum(ingest.stats.received.values()) == sum(ingest.stats.delivered.values()) == 20


async def test_nothing_of_a_new_listing_is_sent_before_it_is_proved(ingest):
    feed(ingest, frame(1000, 0), frame(1, 10), frame(2, 11))
    assert ingest.publisher.sent == 1
    feed(ingest, frame(3, 12))
    assert ingest.publisher.sent == 4
    assert await ingest.stop() == 0
    assert sorted(stored_ids(ingest)) == [(1, 1000), (2, 1), (2, 2), (2, 3)]


async def test_a_single_trade_out_of_order_begins_no_listing(ingest):
    feed(ingest, frame(1000, 0), frame(7, 10), frame(1001, 11), frame(8, 12), frame(1002, 13), frame(9, 14))
    feed(ingest, frame(1003, 15))
    assert await ingest.stop() == 0
    assert sorted(stored_ids(ingest)) == [(1, number) for number in (7, 8, 9, 1000, 1001, 1002, 1003)]
    assert ingest.stats.duplicates["BTCUSDT"] == 3


async def test_a_stray_trade_before_a_new_listing_does_not_hide_its_beginning(ingest):
    feed(ingest, frame(1000, 0), frame(400, 5), *(frame(number, 10 + number) for number in range(1, 5)))
    assert await ingest.stop() == 0
    assert sorted(stored_ids(ingest)) == [(1, 400), (1, 1000), (2, 1), (2, 2), (2, 3), (2, 4)]


async def test_the_last_trades_of_the_old_listing_over_a_slower_connection_do_not_disprove_the_new_one(ingest):
    feed(ingest, frame(1000, 0), frame(1, 10), frame(2, 11), frame(1001, 5), frame(3, 12), frame(1002, 6), frame(4, 13))
    assert await ingest.stop() == 0
    assert sorted(stored_ids(ingest)) == [(1, 1000), (1, 1001), (1, 1002), (2, 1), (2, 2), (2, 3), (2, 4)]
    assert not ingest.stats.gaps_detected


async def test_a_known_id_with_a_later_time_is_a_conflict_once_the_sequence_goes_on(ingest):
    feed(ingest, *(frame(number, number) for number in range(10)), frame(3, 50), frame(10, 51))
    assert await ingest.stop() == 0
    assert ingest.dead_letters() == [(frame(3, 50), "ID_CONFLICT")]
    assert sorted(stored_ids(ingest)) == [(1, number) for number in range(11)]


async def test_what_is_undecided_at_the_end_is_a_dead_letter_and_fetched_by_the_next_process(ingest, shard):
    feed(ingest, frame(1000, 0), frame(1, 10), frame(2, 11))
    assert ingest.pipeline.give_up_suspended() == 2
    assert await ingest.stop() == 0
    assert ingest.dead_letters() == [(frame(1, 10), "ID_CONFLICT"), (frame(2, 11), "ID_CONFLICT")]
    later = shard("binance", ["BTCUSDT"])
    state = read(
        KafkaConnection(ingest.broker.bootstrap), channel=TRADES, records=ingest.names.records, gaps=ingest.names.gaps,
        feed="spot",
        pairs=ingest.pairs, schemas={1: avro.text()}, protocol=NUMBERED,
    )  # fmt: skip
    later.tracker.resume(ingest.pairs[0], state.positions["BTCUSDT"])
    feed(later, frame(3, 12), frame(4, 13), frame(5, 14))
    pair, since = ingest.pairs[0], OPENED * 1000
    assert later.ledger.repairs.get_nowait() == Gap(pair, 1, 2, since, since + 12_000, listing=2)
    await later.stop()


async def test_a_dead_letter_within_the_proof_loses_no_trade(ingest):
    feed(ingest, frame(1000, 0), frame(1, 10), frame(2, 11, price="NaN"), frame(3, 12), frame(4, 13))
    assert await ingest.stop() == 0
    assert sorted(stored_ids(ingest)) == [(1, 1000), (2, 1), (2, 3), (2, 4)]
    assert [error for _, error in ingest.dead_letters()] == ["INEXACT_VALUE"]


async def test_a_dead_letter_of_the_old_listing_is_none_of_the_new_one(ingest):
    feed(ingest, frame(1000, 0), frame(1, 10), frame(1001, 11, price="NaN"), frame(2, 12), frame(3, 13), frame(4, 14))
    assert await ingest.stop() == 0
    assert sorted(stored_ids(ingest)) == [(1, 1000), (2, 1), (2, 2), (2, 3), (2, 4)]
    assert not ingest.stats.gaps_detected


async def test_a_later_process_goes_on_in_the_listing(ingest, broker, names, shard):
    feed(ingest, frame(1000, 0), *(frame(number, 10 + number) for number in range(1, 8)))
    assert await ingest.stop() == 0
    state = read(
        KafkaConnection(broker.bootstrap), channel=TRADES, records=names.records, gaps=names.gaps, feed="spot",
        pairs=ingest.pairs,
        schemas={1: avro.text()}, protocol=NUMBERED,
    )  # fmt: skip
    position = state.positions["BTCUSDT"]
    assert (position.record_id, position.listing) == ("7", 2)
    later = shard("binance", ["BTCUSDT"])
    later.tracker.resume(ingest.pairs[0], position)
    feed(later, frame(8, 30))
    assert await later.stop() == 0
    assert (2, 8) in stored_ids(later)


async def test_each_symbol_has_its_own_listing(shard):
    ingest = shard("binance", ["BTCUSDT", "ETHUSDT"])
    feed(ingest, frame(1000, 0), frame(1000, 0, raw_symbol="ETHUSDT"))
    for number in (1, 2, 3):
        feed(ingest, frame(number, 10 + number), frame(1000 + number, 10 + number, raw_symbol="ETHUSDT"))
    assert await ingest.stop() == 0
    by_symbol = {(record["symbol"], listing(record)) for record in ingest.stored()}
    assert by_symbol == {("BTCUSDT", 1), ("BTCUSDT", 2), ("ETHUSDT", 1)}


def test_the_constant_of_the_test_names_every_exchange_with_ids():
    assert set(SYMBOLS) == {name for name, spec in EXCHANGES.items() if spec.sequence == "consecutive"}
