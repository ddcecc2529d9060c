"""Trades with ids far from their sequence: none decides about the others, and what is true of them is stored."""

import asyncio
import json
from types import SimpleNamespace

import pytest

from k2.common.kafka_connection import KafkaConnection
from k2.ingest.exchanges.base import Gap, Heartbeat
from k2.ingest.kafka.resume import Protocol, read
from k2.schemas.channels import TRADES
from k2.schemas.codecs import avro

OPENED = 1_700_000_000_000
FIRST = 5_000_000_000
FAR = 10**15
NUMBERED = Protocol("", has_sequence=True, record_ids="[0-9]+")


def frame(number: int, at: int, time: int | None = None, price: str = "1.5") -> bytes:
    """A trade of Binance, `at` milliseconds after the opening; `time` is what the exchange says instead."""
    shown = OPENED + at if time is None else time
    return json.dumps(
        {"data": {"e": "trade", "s": "BTCUSDT", "t": number, "p": price, "q": "2", "T": shown, "m": True}}
    ).encode()


@pytest.fixture
def ingest(shard):
    """A shard of Binance's BTCUSDT that is given its frames one by one."""
    return shard("binance", ["BTCUSDT"])


async def feed(ingest, *frames: bytes) -> None:
    link = SimpleNamespace(adapter=ingest.adapter, unseen=set())
    acknowledging = asyncio.create_task(ingest.publisher.run())
    for index, raw in enumerate(frames):
        ingest.pipeline.handle(raw, OPENED * 1000 + index * 1000, link)
        await asyncio.wait_for(ingest.pipeline.settle(), 30)
    acknowledging.cancel()


def stored_ids(ingest) -> list[int]:
    return sorted(int(record["trade_id"]) for record in ingest.stored())


@pytest.mark.parametrize("time", [None, OPENED * 10, 0])
async def test_a_single_id_far_ahead_is_a_dead_letter_and_the_sequence_goes_on(ingest, time):
    stray = frame(FAR, 1, time)
    await feed(ingest, frame(FIRST, 0), stray, frame(FIRST + 1, 2), frame(FIRST + 2, 3))
    assert await ingest.stop() == 0
    assert stored_ids(ingest) == [FIRST, FIRST + 1, FIRST + 2]
    assert ingest.dead_letters() == [(stray, "IMPLAUSIBLE_ID")]
    assert ingest.stats.errors["implausible_id"] == 1
    assert not ingest.gap_events()


async def test_the_trade_that_had_a_wrong_id_is_missing_under_its_true_one(ingest):
    await feed(ingest, frame(FIRST, 0), frame(FAR, 1), frame(FIRST + 2, 2))
    gap = ingest.ledger.repairs.get_nowait()
    assert (gap.first_id, gap.last_id) == (FIRST + 1, FIRST + 1)


async def test_a_jump_is_one_gap_that_kafka_knows_before_any_trade_behind_it(ingest):
    await feed(ingest, frame(FIRST - 1, 0), frame(FIRST, 0), frame(FAR, 1), frame(FAR + 1, 2))
    assert ingest.publisher.sent == 2
    await feed(ingest, frame(FAR + 2, 3), frame(FAR + 3, 4))
    assert await ingest.stop() == 0
    assert stored_ids(ingest) == [FIRST - 1, FIRST, *range(FAR, FAR + 4)]
    (event,) = ingest.gap_events()
    assert (event.state, event.first_id, event.last_id) == ("open", str(FIRST + 1), str(FAR - 1))
    assert ingest.stats.errors["sequence_jump"] == 1
    assert not ingest.stats.dead_letters


async def test_a_process_that_dies_within_a_jump_leaves_it_to_the_next(ingest, shard):
    """What was held back is gone with the process; nothing in Kafka hides it."""
    await feed(ingest, frame(FIRST, 0), frame(FAR, 1), frame(FAR + 1, 2))
    assert await ingest.stop() == 0
    state = read(
        KafkaConnection(ingest.broker.bootstrap), channel=TRADES, records=ingest.names.records, gaps=ingest.names.gaps,
        feed="spot",
        pairs=ingest.pairs, schemas={1: avro.text()}, protocol=NUMBERED,
    )  # fmt: skip
    later = shard("binance", ["BTCUSDT"])
    later.tracker.resume(ingest.pairs[0], state.positions["BTCUSDT"])
    await feed(later, *(frame(FAR + number, number) for number in (2, 3, 4)))
    since = OPENED * 1000
    assert later.ledger.repairs.get_nowait() == Gap(ingest.pairs[0], FIRST + 1, FAR + 1, since, since + 2000)


async def test_what_was_held_back_at_a_stop_is_a_dead_letter(ingest):
    await feed(ingest, frame(FIRST, 0), frame(FAR, 1))
    assert ingest.pipeline.give_up_suspended() == 1
    assert await ingest.stop() == 0
    assert [raw for raw, _ in ingest.dead_letters()] == [frame(FAR, 1)]


async def test_a_slower_connection_does_not_disprove_a_jump(ingest):
    await feed(ingest, frame(FIRST, 0), frame(FAR, 9), frame(FIRST + 1, 1), frame(FAR + 1, 10), frame(FAR + 2, 11))
    assert await ingest.stop() == 0
    assert stored_ids(ingest) == [FIRST, FIRST + 1, FAR, FAR + 1, FAR + 2]
    assert not ingest.stats.dead_letters


async def test_a_newest_id_far_ahead_is_counted_and_opens_no_gap(ingest):
    await feed(ingest, frame(FIRST, 0))
    link = SimpleNamespace(adapter=ingest.adapter, unseen=set())
    ingest.pipeline.handle_snapshot([Heartbeat("BTCUSDT", FAR)], b"", OPENED * 1000 + 5, link)
    await feed(ingest, frame(FIRST + 1, 9))
    assert not ingest.stats.gaps_detected
    assert ingest.stats.errors["implausible_id"] == 1


async def test_a_gap_before_a_trade_from_the_future_is_no_older_and_no_newer_than_it_is(ingest):
    await feed(ingest, frame(FIRST, 0), frame(FIRST + 2, 1, OPENED * 100), frame(FIRST + 4, 2, 0), frame(FIRST + 6, 3))
    opened = OPENED * 1000
    for _ in range(3):
        gap = ingest.ledger.repairs.get_nowait()
        assert opened - 60_000_000 <= gap.since <= gap.until <= opened + 10_000_000
    assert await ingest.stop() == 0
    assert len(ingest.stored()) == 4
