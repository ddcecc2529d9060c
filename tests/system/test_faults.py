"""One platform, and every misbehaviour of an exchange or a producer that must not cost or double a trade."""

import struct
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from confluent_kafka import Consumer, Producer

from tests.system.harness import Exchange, Running, eventually, exchange, feed, platform

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

SYMBOL = "BTCUSDT"
TOPIC = "market.crypto.trades.binance"


@pytest.fixture(scope="module")
def binance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exchange]:
    log = tmp_path_factory.mktemp("exchange") / "exchange.log"
    with exchange("binance", "--symbols", SYMBOL, "--rate", "50", "--seed", "faults", "--wait", log=log) as simulated:
        yield simulated


@pytest.fixture(scope="module")
def running(binance: Exchange, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with platform(tmp_path_factory.mktemp("platform"), feed("binance", [SYMBOL], binance.port)) as started:
        eventually("trades are in Gold", lambda: started.status().get("rows", {}).get("gold"))
        yield started


def caught_up(running: Running, binance: Exchange) -> set[str]:
    """The ids that the exchange had traded when this was called, once Gold holds them all."""
    emitted = binance.emitted()[SYMBOL]
    eventually("Gold holds every trade", lambda: emitted <= set(running.gold(SYMBOL)))
    return emitted


def test_dropped_frames_are_found_and_fetched_over_rest(running: Running, binance: Exchange) -> None:
    before = running.status()
    binance.misbehave("drop=25")
    after = eventually(
        "the gap is repaired",
        lambda: (row := running.status())["repaired_gaps"] > before["repaired_gaps"] and not row["open_gaps"] and row,
    )
    assert after["backfilled"] >= 25
    caught_up(running, binance)
    fetched = running.sql(
        "SELECT trade_id FROM gold_crypto_trades WHERE json_extract_string(vendor_data, '$.source') = 'backfill'"
    )
    assert len(fetched) >= 25
    gaps = eventually(
        "the gap is in the table", lambda: running.sql("SELECT * FROM audit_gaps WHERE state = 'repaired'")
    )
    assert {row["resolution"] for row in gaps} == {"rest"}


def test_fifty_repeated_trades_leave_no_duplicate(running: Running, binance: Exchange) -> None:
    binance.misbehave("repeat=50")
    eventually("the repeats are noticed", lambda: running.status()["duplicates"] >= 50)
    caught_up(running, binance)
    ids = running.gold(SYMBOL)
    assert len(ids) == len(set(ids))


def test_a_closed_connection_costs_nothing(running: Running, binance: Exchange) -> None:
    before = running.status()["reconnects"]
    binance.misbehave("close")
    eventually("it connects again", lambda: running.status()["reconnects"] > before and running.status()["connected"])
    caught_up(running, binance)


def test_a_two_hours_late_trade_lands_in_gold(running: Running, binance: Exchange) -> None:
    before = binance.emitted()[SYMBOL]
    binance.misbehave("late=2h")
    eventually("the exchange traded", lambda: binance.emitted()[SYMBOL] - before)
    caught_up(running, binance)
    border = datetime.now(UTC) - timedelta(minutes=110)
    late = running.sql(f"SELECT trade_id FROM gold_crypto_trades WHERE timestamp < '{border.isoformat()}'")
    assert len(late) == 1


def test_a_malformed_frame_is_kept_whole_and_the_connection_lives(running: Running, binance: Exchange) -> None:
    before = running.status()
    binance.misbehave("malformed=3")
    eventually("frames are dead letters", lambda: running.status()["dead_letters"] >= before["dead_letters"] + 3)
    assert running.status()["reconnects"] == before["reconnects"]
    letters = consumed(running, "market.crypto.deadletter.binance", 3)
    assert all(dict(letter.headers())["k2-feed"] == b"binance" for letter in letters)
    assert all(dict(letter.headers())["k2-error"] for letter in letters)
    caught_up(running, binance)


def test_poison_records_become_dead_letters_and_silver_plus_dead_letters_is_bronze(
    running: Running, binance: Exchange
) -> None:
    poison = {
        "MALFORMED_HEADER": b"not avro",
        "UNKNOWN_SCHEMA": struct.pack(">bI", 0, 999_999) + b"x" * 40,
        "UNDECODABLE": struct.pack(">bI", 0, 1) + b"\xff" * 40,
    }
    producer = Producer({"bootstrap.servers": f"127.0.0.1:{running.state.ports['kafka']}"})
    for value in [*poison.values(), None]:
        producer.produce(TOPIC, key=SYMBOL, value=value)
    assert producer.flush(30) == 0
    counted = "SELECT error_category, count(*) AS n FROM silver_dlq_trades GROUP BY 1"
    expected = {**dict.fromkeys(poison, 1), "MALFORMED_HEADER": 2}  # a tombstone has no header either
    eventually(
        "poison is in the dead letters",
        lambda: {row["error_category"]: row["n"] for row in running.sql(counted)} == expected,
    )
    caught_up(running, binance)


def test_after_all_that_the_audit_balances(running: Running, binance: Exchange) -> None:
    """Named to be read last; it may run at any time, and anything may follow it."""
    code, report = running.audit()
    assert (code, report["findings"]) == (0, [])


def consumed(running: Running, topic: str, count: int) -> list:
    """At least `count` records from the beginning of a topic."""
    consumer = Consumer(
        {
            "bootstrap.servers": f"127.0.0.1:{running.state.ports['kafka']}",
            "group.id": "test",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    consumer.subscribe([topic])
    try:
        records: list = []
        eventually(
            "records arrive", lambda: records.extend(consumer.consume(100, 1.0)) or len(records) >= count, within=30
        )
        return records
    finally:
        consumer.close()
