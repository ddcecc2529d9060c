"""Records count when Kafka says so; the broker is librdkafka's own, without a JVM. Real ones: tests/system."""

import asyncio
import gc
import hashlib
import time

import pytest

from k2.common.kafka_connection import KafkaConnection
from k2.ingest.exchanges.base import Gap
from k2.ingest.kafka.partitions import partition_of
from k2.ingest.kafka.publisher import CAPACITY, MAX_FRAME, KafkaUnreachable, Publisher, Topics
from k2.ingest.kafka.resume import KafkaUnreadable, Protocol, read
from k2.ingest.sequencing import gaps
from k2.ingest.sequencing.ledger import GapLedger
from k2.ingest.simulator.listings import pair_of
from k2.ingest.telemetry.stats import Stats
from k2.schemas.channels import TRADES
from k2.schemas.codecs import avro
from k2.schemas.codecs.avro import TradeEncoder
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.records.trade import Side, Trade

PAIR = pair_of(EXCHANGES["binance"], "BTCUSDT")
NUMBERED = Protocol("", has_sequence=True, record_ids="[0-9]+")


def trade(number: int, symbol: str = "BTCUSDT", source: str = "live") -> Trade:
    base = symbol.removesuffix("USDT")
    return Trade(
        str(number), symbol, "BINANCE", base, "USDT", number * 1000, 100, 1, Side.BUY, 1_700_000_000_000_000,
        (("source", source),),
    )  # fmt: skip


@pytest.fixture
def stats():
    return Stats(started_at=time.monotonic())


@pytest.fixture
def publisher(broker, names, stats):
    return Publisher(KafkaConnection(broker.bootstrap), TRADES, names, "spot", 7, stats)


async def test_a_trade_is_stored_as_the_contract_says_and_then_counted(broker, names, publisher, stats):
    publisher.send(trade(1))
    assert (publisher.in_flight, sum(stats.delivered.values())) == (1, 0)
    assert await publisher.close(10) == 0
    (message,) = broker.read(names.records)
    assert message.value() == TradeEncoder(7).encode(trade(1))
    assert message.key() == b"BTCUSDT"
    assert message.timestamp()[1] == 1_700_000_000_000
    assert stats.delivered == {"BTCUSDT": 1}
    assert sum(stats.delivery.counts) == 1


async def test_trades_of_one_symbol_keep_their_order(broker, names, publisher):
    for number in range(1, 3001):
        publisher.send(trade(number, ("BTCUSDT", "ETHUSDT", "SOLUSDT")[number % 3]))
    assert await publisher.close(10) == 0
    stored = [avro.decode(message.value()[5:]) for message in broker.read(names.records)]
    assert len(stored) == 3000
    for symbol in ("BTCUSDT", "ETHUSDT", "SOLUSDT"):
        ids = [int(record["trade_id"]) for record in stored if record["symbol"] == symbol]
        assert ids == sorted(ids)


async def test_an_awaited_trade_is_in_kafka_when_the_wait_ends(broker, names, publisher, stats):
    polling = asyncio.create_task(publisher.run())
    await asyncio.wait_for(publisher.send_acked(trade(5, source="backfill")), 10)
    polling.cancel()
    assert [avro.decode(m.value()[5:])["trade_id"] for m in broker.read(names.records)] == ["5"]
    assert stats.delivered == {"BTCUSDT": 1}


async def test_a_trade_after_a_pause_is_counted_as_soon_as_kafka_says_so(publisher, monkeypatch):
    monkeypatch.setattr("k2.ingest.kafka.publisher._IDLE_POLL", 30.0)
    polling = asyncio.create_task(publisher.run())
    await asyncio.sleep(0.1)
    await asyncio.wait_for(publisher.send_acked(trade(1)), 10)
    polling.cancel()


async def test_a_dead_letter_holds_the_frame_and_says_why(broker, names, publisher, stats):
    publisher.send_dead_letter(b"\xffnot json", "MALFORMED_FRAME", "because", "BTCUSDT")
    publisher.send_dead_letter(b"x", "INEXACT_VALUE", "r" * 5000)
    assert await publisher.close(10) == 0
    by_error = {dict(m.headers())["k2-error"]: m for m in broker.read(names.dead_letters)}
    record = by_error[b"MALFORMED_FRAME"]
    assert (record.value(), record.key()) == (b"\xffnot json", b"BTCUSDT")
    assert dict(record.headers()) == {
        "k2-error": b"MALFORMED_FRAME",
        "k2-reason": b"because",
        "k2-feed": b"spot",
    }
    assert len(dict(by_error[b"INEXACT_VALUE"].headers())["k2-reason"]) == 500
    assert stats.dead_letters == {"MALFORMED_FRAME": 1, "INEXACT_VALUE": 1}
    assert not stats.delivered


async def test_of_a_frame_too_large_the_beginning_and_the_hash_are_kept(broker, names, publisher):
    frame = b"x" * (MAX_FRAME + 1)
    publisher.send_dead_letter(frame, "MALFORMED_FRAME", "too large")
    publisher.send_dead_letter(frame[1:], "WHOLE", "fits")
    assert await publisher.close(10) == 0
    by_error = {dict(m.headers())["k2-error"]: m for m in broker.read(names.dead_letters)}
    assert by_error[b"MALFORMED_FRAME"].value() == frame[:4096]
    reason = dict(by_error[b"MALFORMED_FRAME"].headers())["k2-reason"].decode()
    assert hashlib.sha256(frame).hexdigest() in reason
    assert f"{MAX_FRAME + 1} bytes" in reason
    assert by_error[b"WHOLE"].value() == frame[1:]


async def test_absent_topics_and_an_absent_broker_are_named(broker, names, stats):
    absent = Topics(names.records, "no.such.gaps", "no.such.letters")
    with pytest.raises(KafkaUnreachable, match=r"has no topic no\.such\.gaps, no\.such\.letters; create it first"):
        await Publisher(KafkaConnection(broker.bootstrap), TRADES, absent, "spot", 1, stats).check()
    await Publisher(KafkaConnection(broker.bootstrap), TRADES, names, "spot", 1, stats).check()
    with pytest.raises(KafkaUnreachable, match=r"Kafka at 127\.0\.0\.1:1:"):
        await Publisher(KafkaConnection("127.0.0.1:1"), TRADES, names, "spot", 1, stats).check(timeout=0.3)


async def test_what_a_lost_broker_did_not_acknowledge_is_reported_by_count(stats):
    lost = Publisher(KafkaConnection("127.0.0.1:1"), TRADES, Topics("t", "g", "d"), "spot", 1, stats)
    for number in range(10):
        lost.send(trade(number + 1))
    assert await lost.close(0.2) == 10
    assert not stats.delivered
    del lost
    gc.collect()


async def test_a_publisher_under_pressure_stops_the_socket_and_lets_it_go_on(publisher):
    assert not publisher.blocked
    publisher.memory_pressure = True
    waiting = asyncio.create_task(publisher.wait_unblocked())
    await asyncio.sleep(0.05)
    assert not waiting.done()
    publisher.memory_pressure = False
    publisher.poll()
    await asyncio.wait_for(waiting, 1)


async def test_the_socket_is_stopped_above_four_fifths_of_the_capacity_before_the_next_poll(publisher):
    publisher.sent = CAPACITY * 4 // 5
    assert not publisher.blocked
    publisher.sent += 1
    assert publisher.blocked
    publisher.acknowledged = 1
    assert not publisher.blocked


async def test_the_socket_stays_stopped_from_four_fifths_down_to_two_fifths_of_the_capacity(publisher):
    blocked = []
    for in_flight in (79_999, 80_000, 79_999, 40_001, 40_000, 79_999):
        publisher.sent = publisher.acknowledged + in_flight
        publisher.poll()
        blocked.append(publisher.blocked)
    assert blocked == [False, True, True, True, False, False]


async def test_every_poll_sorts_the_measured_times_into_their_bounds(publisher, stats, monkeypatch):
    sorted_values = []
    monkeypatch.setattr(Stats, "fold", lambda own: sorted_values.append(own))  # noqa: PLW0108 - bound to its object
    publisher.poll()
    assert sorted_values == [stats]


async def test_the_ledger_writes_each_state_of_a_gap_once(broker, names, publisher, stats):
    ledger = GapLedger("spot", "trades", "BINANCE", publisher, stats)
    gap = Gap(PAIR, 11, 14, 1, 2)
    opened = ledger.open(gap)
    assert (stats.gaps_open, stats.gaps_detected["BTCUSDT"], ledger.repairs.get_nowait()) == (1, 1, gap)
    closed = ledger.close(gap, gaps.GapState.REPAIRED, "rest")
    assert ledger.close(gap, gaps.GapState.REPAIRED, "rest") is None
    assert (stats.gaps_open, stats.gaps_repaired["BTCUSDT"], stats.gaps_unrecoverable["BTCUSDT"]) == (0, 1, 0)
    assert await publisher.close(10) == 0
    await asyncio.gather(opened, closed)
    events = [gaps.decode(message.value()) for message in broker.read(names.gaps)]
    assert [(event.state, event.resolution) for event in events] == [("open", ""), ("repaired", "rest")]
    assert len({event.gap_id for event in events}) == 1


async def test_a_gap_given_up_is_counted_apart(publisher, stats):
    ledger = GapLedger("spot", "trades", "BINANCE", publisher, stats)
    gap = Gap(PAIR, 11, 14, 1, 2)
    ledger.open(gap)
    ledger.close(gap, gaps.GapState.UNRECOVERABLE, "backfill is disabled")
    assert (stats.gaps_repaired["BTCUSDT"], stats.gaps_unrecoverable["BTCUSDT"]) == (0, 1)
    await publisher.close(10)


def resumed(broker, names, pairs):
    return read(
        KafkaConnection(broker.bootstrap), channel=TRADES, records=names.records, gaps=names.gaps,
        feed="spot", pairs=pairs,
        schemas={7: avro.text()}, protocol=NUMBERED,
    )  # fmt: skip


async def test_a_later_process_finds_the_newest_trade_of_each_symbol(broker, names, publisher):
    pairs = [pair_of(EXCHANGES["binance"], raw_symbol) for raw_symbol in ("BTCUSDT", "ETHUSDT", "SOLUSDT")]
    for number in range(1, 2501):
        publisher.send(trade(number))
    publisher.send(trade(77, "ETHUSDT"))
    publisher.send(trade(9, source="backfill"))  # written last, but not how far the feed came
    assert await publisher.close(10) == 0
    broker.put(names.records, "BTCUSDT", b"garbage")
    positions = resumed(broker, names, pairs).positions
    assert {symbol: (p.record_id, p.timestamp) for symbol, p in positions.items()} == {
        "BTCUSDT": ("2500", 2_500_000),
        "ETHUSDT": ("77", 77_000),
    }


async def test_a_later_process_goes_on_in_the_newest_listing_whatever_was_repaired_of_the_one_before(
    broker, names, publisher
):
    publisher.send(trade(2500))
    publisher.send(trade(3).in_listing(2))
    publisher.send(trade(2400, source="backfill"))
    publisher.send(trade(2, source="backfill").in_listing(2))
    assert await publisher.close(10) == 0
    position = resumed(broker, names, [PAIR]).positions["BTCUSDT"]
    assert (position.record_id, position.listing) == ("3", 2)


async def test_a_later_process_finds_the_gaps_that_are_still_open(broker, names, publisher, stats):
    # librdkafka's broker makes four partitions of every topic; the gap topic has one, which is read.
    symbol = next(s for s in ("BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT", "ADAUSDT") if not partition_of(s.encode(), 4))
    pair = pair_of(EXCHANGES["binance"], symbol)
    ledger = GapLedger("spot", "trades", "BINANCE", publisher, stats)
    left, done = Gap(pair, 1, 2, 0, 1), Gap(pair, 5, 6, 0, 1)
    ledger.open(left)
    ledger.open(done)
    ledger.close(done, gaps.GapState.REPAIRED, "rest")
    GapLedger("another", "trades", "BINANCE", publisher, stats).open(Gap(pair, 8, 9, 0, 1))
    assert await publisher.close(10) == 0
    broker.put(names.gaps, symbol, b'{"gap_id":"\xff"}')
    open_gaps = resumed(broker, names, [pair]).gaps
    assert [gaps.gap_from_event(event, pair) for event in open_gaps if event.feed == "spot"] == [left]
    assert len(open_gaps) == 1


def test_nothing_in_kafka_is_nothing_to_go_on_from(broker, names):
    state = resumed(broker, names, [PAIR])
    assert (dict(state.positions), list(state.gaps)) == ({}, [])


def test_a_broker_that_cannot_be_read_is_named(names, monkeypatch):
    monkeypatch.setattr("k2.ingest.kafka.resume.READ_TIMEOUT", 0.3)
    with pytest.raises(KafkaUnreadable, match=r"Kafka at 127\.0\.0\.1:1:"):
        read(
            KafkaConnection("127.0.0.1:1"),
            channel=TRADES, records=names.records, gaps=names.gaps, feed="f", pairs=[PAIR],
            schemas={},
            protocol=NUMBERED,
        )  # fmt: skip
