"""One shard against the simulated exchange, over real sockets, into a broker that speaks Kafka's protocol."""

import pytest
import structlog

from k2.ingest.connection.session import AllSymbolsRefused, AttemptsExhausted, Tuning
from k2.ingest.simulator.faults import parse

FAST = {"backoff_first": 0.05, "backoff_limit": 0.1}


def url(simulator) -> str:
    return f"ws://127.0.0.1:{simulator.port}"


def rest(simulator) -> str:
    return f"http://127.0.0.1:{simulator.port}"


def expected(simulator, raw_symbol: str, first: int) -> set[str]:
    """What the exchange traded from an id on."""
    return {str(trade.id) for trade in simulator.history.trades[raw_symbol] if trade.id >= first}


async def complete(shard, simulator, raw_symbol: str) -> list[str]:
    """Stops; every trade from the first that came on is in Kafka. Returns the ids as stored."""
    assert await shard.stop() == 0
    ids = [record["trade_id"] for record in shard.stored()]
    first = min(map(int, ids))
    newest = max(map(int, ids))
    assert set(ids) == {number for number in expected(simulator, raw_symbol, first) if int(number) <= newest}
    return ids


@pytest.mark.parametrize(
    ("exchange", "raw_symbol"),
    [("binance", "BTCUSDT"), ("kraken", "BTC/USD"), ("coinbase", "BTC-USD"), ("okx", "BTC-USDT")],
)
async def test_every_trade_of_an_exchange_reaches_kafka_once(exchange, raw_symbol, simulate, shard, eventually):
    simulator = await simulate(exchange, symbols=[raw_symbol], rate=400)
    ingest = shard(exchange, [raw_symbol], rest(simulator))
    ingest.start(url(simulator), tuning=Tuning(**FAST))
    await eventually(lambda: sum(ingest.stats.received.values()) > 200)
    assert await ingest.stop() == 0
    assert not ingest.stats.gaps_detected
    assert not ingest.stats.dead_letters
    stored = ingest.stored()
    assert sum(ingest.stats.delivered.values()) == sum(ingest.stats.received.values()) == len(stored)
    assert len({record["message_id"] for record in stored}) == len(stored)
    numbers = [int(record["trade_id"]) for record in stored]
    assert sorted(numbers) == list(range(min(numbers), max(numbers) + 1))


async def test_bybits_trades_reach_kafka_once_without_numbers(simulate, shard, eventually):
    simulator = await simulate("bybit", symbols=["BTCUSDT"], rate=400)
    ingest = shard("bybit", ["BTCUSDT"], rest(simulator))
    ingest.start(url(simulator), tuning=Tuning(**FAST))
    await eventually(lambda: sum(ingest.stats.received.values()) > 200)
    assert await ingest.stop() == 0
    ids = [record["trade_id"] for record in ingest.stored()]
    emitted = [simulator.venue.trade_id(trade) for trade in simulator.history.trades["BTCUSDT"]]
    start = emitted.index(ids[0])
    assert ids == emitted[start : start + len(ids)]


async def test_a_closed_connection_is_followed_by_another_and_what_was_missed_is_repaired(simulate, shard, eventually):
    simulator = await simulate("binance", symbols=["BTCUSDT"], rate=300)
    ingest = shard("binance", ["BTCUSDT"], rest(simulator))
    ingest.start(url(simulator), tuning=Tuning(backoff_first=0.3, backoff_limit=0.3))
    await eventually(lambda: sum(ingest.stats.received.values()) > 50)
    simulator.inject(parse("close"))
    await eventually(lambda: ingest.stats.reconnects == 1)
    await eventually(lambda: ingest.stats.gaps_repaired["BTCUSDT"] == 1)
    await complete(ingest, simulator, "BTCUSDT")
    assert [event.state for event in ingest.gap_events()] == ["open", "repaired"]
    assert {record["vendor_data"]["source"] for record in ingest.stored()} == {"live", "backfill"}
    assert ingest.stats.gaps_open == 0


async def test_a_gap_is_in_kafka_before_the_trade_that_showed_it(simulate, shard, eventually):
    simulator = await simulate("binance", symbols=["BTCUSDT"], rate=300)
    ingest = shard("binance", ["BTCUSDT"], rest(simulator))
    ingest.start(url(simulator), tuning=Tuning(**FAST), repair=False)
    await eventually(lambda: sum(ingest.stats.received.values()) > 20)
    simulator.inject(parse("drop=20"))
    await eventually(lambda: ingest.stats.gaps_detected["BTCUSDT"] == 1)
    before = ingest.stats.received["BTCUSDT"]
    await eventually(lambda: ingest.stats.received["BTCUSDT"] > before + 20)
    assert await ingest.stop() == 0
    (event,) = ingest.gap_events()
    (gap,) = ingest.broker.read(ingest.names.gaps)
    after = [m for m, r in zip(ingest.broker.read(ingest.names.records), ingest.stored(), strict=True)
             if int(r["trade_id"]) > int(event.last_id)]  # fmt: skip
    assert int(event.last_id) - int(event.first_id) + 1 >= 20
    assert after
    assert event.state == "open"
    assert min(int(r["trade_id"]) for r in ingest.stored()) < int(event.first_id)
    assert gap.timestamp()[1] <= min(message.timestamp()[1] for message in after) + 1000


async def test_a_silent_connection_is_stale_and_left(simulate, shard, eventually):
    simulator = await simulate("kraken", symbols=["BTC/USD"], rate=100)
    ingest = shard("kraken", ["BTC/USD"], rest(simulator))
    ingest.start(url(simulator), tuning=Tuning(**FAST, stale_after=1.2))
    await eventually(lambda: ingest.stats.received["BTCUSD"] > 10)
    simulator.inject(parse("silent=2s"))
    await eventually(lambda: ingest.stats.errors["connection_stale"] >= 1)
    before = ingest.stats.received["BTCUSD"]
    await eventually(lambda: ingest.stats.received["BTCUSD"] > before)
    await eventually(lambda: not ingest.stats.gaps_open, 20)
    await complete(ingest, simulator, "BTC/USD")


async def test_a_connection_that_was_never_answered_is_stale_too(simulate, shard, eventually):
    simulator = await simulate("binance", symbols=["BTCUSDT"], rate=1, faults=["silent=30s"])
    ingest = shard("binance", ["BTCUSDT"], rest(simulator))
    session = ingest.start(url(simulator), tuning=Tuning(max_attempts=2, backoff_first=0.05, stale_after=0.5))
    with pytest.raises(AttemptsExhausted, match="stale"):
        await session


async def test_an_old_connection_hands_over_to_its_successor_without_loss(simulate, shard, eventually):
    simulator = await simulate("binance", symbols=["BTCUSDT"], rate=300)
    ingest = shard("binance", ["BTCUSDT"], rest(simulator))
    ingest.start(url(simulator), tuning=Tuning(**FAST, max_age=1.0), repair=False)
    await eventually(lambda: ingest.connects >= 3)
    await complete(ingest, simulator, "BTCUSDT")
    assert ingest.stats.reconnects == 0
    assert not ingest.stats.gaps_detected
    assert ingest.stats.duplicates["BTCUSDT"] > 0  # both connections were read for a while


async def test_an_announced_shutdown_is_answered_by_a_handover(simulate, shard, eventually):
    simulator = await simulate("binance", symbols=["BTCUSDT"], rate=300)
    ingest = shard("binance", ["BTCUSDT"], rest(simulator))
    ingest.start(url(simulator), tuning=Tuning(**FAST), repair=False)
    await eventually(lambda: ingest.connects == 1 and ingest.stats.received["BTCUSDT"] > 20)
    simulator.inject(parse("shutdown"))
    await eventually(lambda: ingest.connects == 2)
    await complete(ingest, simulator, "BTCUSDT")
    assert ingest.stats.reconnects == 0
    assert not ingest.stats.gaps_detected


async def test_a_repeat_of_fifty_is_stored_twice_under_the_same_ids_and_is_no_gap(simulate, shard, eventually):
    simulator = await simulate("binance", symbols=["BTCUSDT"], rate=300)
    ingest = shard("binance", ["BTCUSDT"], rest(simulator))
    ingest.start(url(simulator), tuning=Tuning(**FAST))
    await eventually(lambda: ingest.stats.received["BTCUSDT"] > 60)
    simulator.inject(parse("repeat=50"))
    await eventually(lambda: ingest.stats.duplicates["BTCUSDT"] >= 50)
    ids = await complete(ingest, simulator, "BTCUSDT")
    assert ingest.stats.duplicates["BTCUSDT"] == 50
    assert len(ids) == len(set(ids)) + 50
    assert not ingest.stats.gaps_detected


@pytest.mark.parametrize("exchange", ["binance", "kraken", "coinbase", "okx", "bybit"])
async def test_frames_that_cannot_be_trusted_are_kept_and_the_connection_lives(exchange, simulate, shard, eventually):
    simulator = await simulate(exchange, rate=300)
    ingest = shard(exchange, [pair.raw_symbol for pair in _pairs(simulator)], rest(simulator))
    ingest.start(url(simulator), tuning=Tuning(**FAST))
    await eventually(lambda: sum(ingest.stats.received.values()) > 20)
    simulator.inject(parse("malformed=10"))
    simulator.inject(parse("unknown=3"))
    await eventually(lambda: ingest.stats.dead_letters["MALFORMED_FRAME"] >= 9)
    await eventually(lambda: ingest.stats.errors["unknown_message"] >= 3)
    before = sum(ingest.stats.received.values())
    await eventually(lambda: sum(ingest.stats.received.values()) > before + 20)
    assert ingest.stats.reconnects == 0
    assert await ingest.stop() == 0
    letters = ingest.dead_letters()
    assert len(letters) == sum(ingest.stats.dead_letters.values())
    assert (b"not json", "MALFORMED_FRAME") in letters


async def test_whatever_is_logged_of_a_connection_carries_its_id(simulate, shard, eventually):
    simulator = await simulate("binance", symbols=["BTCUSDT"], rate=300)
    ingest = shard("binance", ["BTCUSDT"], rest(simulator))
    with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        ingest.start(url(simulator), tuning=Tuning(**FAST))
        await eventually(lambda: ingest.stats.received["BTCUSDT"] > 20)
        simulator.inject(parse("malformed=1"))
        await eventually(lambda: ingest.stats.dead_letters["MALFORMED_FRAME"])
        simulator.inject(parse("close=1"))
        await eventually(lambda: ingest.stats.reconnects == 1)
        received = ingest.stats.received["BTCUSDT"]
        await eventually(lambda: ingest.stats.received["BTCUSDT"] > received + 20)
        simulator.inject(parse("malformed=1"))
        await eventually(lambda: len(ingest.stats.dead_letters) and ingest.stats.dead_letters["MALFORMED_FRAME"] >= 2)
        assert await ingest.stop() == 0
    connected = [line["connection"] for line in lines if line["event"] == "connected"]
    letters = [line["connection"] for line in lines if line["event"] == "dead letter"]
    assert len(set(connected)) == len(connected) == 2
    assert list(dict.fromkeys(letters)) == connected


def _pairs(simulator):
    return [market.pair for market in simulator._source._markets] or list(simulator._source._pairs)


async def test_an_oversized_frame_ends_the_connection_and_is_counted_and_nothing_is_lost(simulate, shard, eventually):
    simulator = await simulate("binance", symbols=["BTCUSDT"], rate=100)
    ingest = shard("binance", ["BTCUSDT"], rest(simulator))
    ingest.start(url(simulator), tuning=Tuning(**FAST))
    await eventually(lambda: ingest.stats.received["BTCUSDT"] > 20)
    simulator.inject(parse("oversized"))
    await eventually(lambda: ingest.stats.reconnects == 1)
    before = ingest.stats.received["BTCUSDT"]
    await eventually(lambda: ingest.stats.received["BTCUSDT"] > before + 20 and not ingest.stats.gaps_open)
    await complete(ingest, simulator, "BTCUSDT")
    assert ingest.stats.errors["connection_error"] + ingest.stats.errors["connection_closed"] == 1


async def test_an_id_with_another_price_is_kept_apart(simulate, shard, eventually):
    simulator = await simulate("binance", symbols=["BTCUSDT"], rate=300)
    ingest = shard("binance", ["BTCUSDT"], rest(simulator))
    ingest.start(url(simulator), tuning=Tuning(**FAST))
    await eventually(lambda: ingest.stats.received["BTCUSDT"] > 20)
    simulator.inject(parse("conflict"))
    await eventually(lambda: ingest.stats.dead_letters["ID_CONFLICT"] == 1)
    ids = await complete(ingest, simulator, "BTCUSDT")
    assert len(ids) == len(set(ids))


async def test_a_new_numbering_is_followed(simulate, shard, eventually):
    simulator = await simulate("binance", symbols=["BTCUSDT"], rate=300)
    ingest = shard("binance", ["BTCUSDT"], rest(simulator))
    ingest.start(url(simulator), tuning=Tuning(**FAST), repair=False)
    await eventually(lambda: ingest.stats.received["BTCUSDT"] > 20)
    simulator.inject(parse("reset"))
    await eventually(lambda: ingest.stats.errors["sequence_reset"] == 1)
    before = ingest.stats.received["BTCUSDT"]
    await eventually(lambda: ingest.stats.received["BTCUSDT"] > before + 50)
    assert not ingest.stats.gaps_detected
    assert ingest.stats.reconnects == 0


@pytest.mark.parametrize(
    ("exchange", "good", "bad"), [("kraken", "BTC/USD", "XYZ/USD"), ("okx", "BTC-USDT", "XYZ-USDT")]
)
async def test_a_refused_symbol_is_in_the_status_while_the_others_flow(
    exchange, good, bad, simulate, shard, eventually
):
    simulator = await simulate(exchange, symbols=[good], rate=200)
    ingest = shard(exchange, [bad, good], rest(simulator))
    ingest.start(url(simulator), tuning=Tuning(**FAST))
    await eventually(lambda: sum(ingest.stats.received.values()) > 50)
    await eventually(lambda: list(ingest.stats.refused) == [bad])
    assert bad in ingest.stats.refused[bad]
    assert ingest.stats.errors["refused"] == 1
    assert ingest.stats.reconnects == 0


async def test_a_shard_whose_every_symbol_is_refused_ends_with_the_exchanges_words(simulate, shard):
    simulator = await simulate("kraken", symbols=["BTC/USD"], rate=1)
    session = shard("kraken", ["XYZ/USD"], rest(simulator)).start(url(simulator), tuning=Tuning(max_attempts=9, **FAST))
    with pytest.raises(AllSymbolsRefused, match="XYZ/USD: Currency pair not supported"):
        await session
