"""Dead letters of both kinds on a running platform: listed, shown, and judged again after their cause was mended."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer

from k2.common.registry_connection import RegistryConnection
from k2.common.schema_registry import Registry
from k2.schemas import topics
from k2.schemas.codecs import avro
from k2.schemas.records.trade import Side, Trade
from tests.spark.builders import as_record, written
from tests.system.harness import Running, eventually, exchange, feed, k2, platform

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

SYMBOL, COUNT = "BTCUSDT", 300
TOPIC, FRAMES = topics.trades("binance"), topics.dead_letters("binance")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A platform whose exchange has made its trades, so the ids after the last one are free."""
    folder = tmp_path_factory.mktemp("redrive")
    words = ("--symbols", SYMBOL, "--rate", "50", "--seed", "redrive", "--count", str(COUNT), "--wait")
    with (
        exchange("binance", *words, log=folder / "exchange.log") as simulated,
        platform(folder, feed("binance", [SYMBOL], simulated.port)) as started,
    ):
        eventually("trades are in Gold", lambda: started.status().get("rows", {}).get("gold"))
        eventually("all trades are in Gold", lambda: len(started.gold(SYMBOL)) == COUNT)
        yield started


@pytest.fixture
def running(shared: Running) -> Running:
    """The platform, which is started again if a test has stopped it."""
    assert shared.process is not None
    if shared.process.poll() is not None:
        shared.up()
    return shared


def _produce(running: Running, topic: str, value: bytes, **headers: str) -> None:
    producer = Producer({"bootstrap.servers": f"127.0.0.1:{running.state.ports['kafka']}"})
    pairs = [(name.replace("_", "-"), text.encode()) for name, text in headers.items()]
    producer.produce(topic, value, SYMBOL.encode(), headers=pairs)
    assert producer.flush(30) == 0


def _newest(running: Running) -> int:
    return max(map(int, running.gold(SYMBOL)))


def _k2(running: Running, *words: str) -> list[dict]:
    done = k2("dead-letters", *words, "--data", str(running.root), timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) if words[0] != "list" else [json.loads(line) for line in done.stdout.splitlines()]


def _frame(number: int) -> bytes:
    data = {"e": "trade", "s": SYMBOL, "t": number, "p": "100.5", "q": "0.25", "T": time.time_ns() // 10**6, "m": True}
    return json.dumps({"stream": "btcusdt@trade", "data": data}).encode()


def test_frames_that_parse_now_are_sent_once_and_name_where_they_come_from(running: Running):
    first = _newest(running) + 1
    headers = {"k2_error": "MALFORMED_FRAME", "k2_reason": "no mended adapter yet", "k2_feed": "binance"}
    for frame in (_frame(first), _frame(first + 1), b"{"):
        _produce(running, FRAMES, frame, **headers)
    listed = _k2(running, "list", "--stage", "ingest", "--format", "json")
    assert [row["error_category"] for row in listed] == ["MALFORMED_FRAME"] * 3
    place = f"{FRAMES}/{listed[-1]['partition']}/{listed[-1]['offset']}"
    assert json.loads(_k2(running, "show", place)["text"])["data"]["t"] == first

    (done,) = _k2(running, "redrive", "MALFORMED_FRAME")
    assert (done["frames"], done["sent"], done["came_back"]) == (3, 2, {"MALFORMED_FRAME": 1})
    eventually("the trades are in Gold", lambda: _newest(running) == first + 1)
    (again,) = _k2(running, "redrive", "MALFORMED_FRAME")
    assert (again["sent"], again["stored_before"], again["came_back"]) == (0, 2, {"MALFORMED_FRAME": 1})
    ids = running.gold(SYMBOL)
    assert len(ids) == len(set(ids))
    query = f"SELECT vendor_data FROM gold_crypto_trades WHERE trade_id = '{first}'"
    assert json.loads(running.sql(query)[0]["vendor_data"])["dead_letter"] == place


@pytest.mark.slow
def test_records_whose_schema_is_back_reach_gold_and_the_audit_is_balanced(running: Running):
    number = _newest(running) + 1
    schema = json.loads(avro.text())
    schema["fields"].append({"name": "venue_fee", "type": ["null", "string"], "default": None})
    now = time.time_ns() // 1000
    trade = Trade(
        str(number), SYMBOL, "BINANCE", "BTC", "USDT", now, 10**14, 10**11, Side.BUY, now, (("source", "live"),)
    )
    registry = Registry(RegistryConnection(f"http://127.0.0.1:{running.state.ports['registry']}"))
    subject = topics.subject(TOPIC)
    newest = registry.register("other-value", '{"type": "record", "name": "Other", "fields": []}')
    _produce(running, TOPIC, written(as_record(trade) | {"venue_fee": None}, newest + 1, schema))
    rows = eventually("it is a dead letter", lambda: _k2(running, "list", "--stage", "silver", "--format", "json"))
    assert [row["error_category"] for row in rows] == ["UNKNOWN_SCHEMA"]

    (done,) = _k2(running, "redrive", "UNKNOWN_SCHEMA")
    assert (done["valid"], done["came_back"]) == (0, {"UNKNOWN_SCHEMA": 1})
    assert registry.register(subject, json.dumps(schema)) == newest + 1
    (done,) = _k2(running, "redrive", "UNKNOWN_SCHEMA")
    assert (done["valid"], done["came_back"]) == (1, {})
    eventually("the trade is in Gold", lambda: _newest(running) == number)
    assert _k2(running, "list", "--stage", "silver", "--format", "json") == []
    assert running.down() == 0, running.said()
    code, report = running.audit()
    assert (code, report["findings"]) == (0, []), report
    offline = k2("dead-letters", "redrive", "MALFORMED_FRAME", "--data", str(running.root))
    assert (offline.returncode, "start it with k2 up" in offline.stderr) == (3, True)
    (done,) = _k2(running, "redrive", "UNDECODABLE")
    assert (done["valid"], done["came_back"], done["not_in_bronze"]) == (0, {}, 0)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["redrive", "NOPE"], "'NOPE' cannot be judged again; choose from MALFORMED_HEADER, "),
        (["redrive", "UNDECODABLE", "--feed", "other"], "--feed: 'other' is no feed of"),
        (["show", "topic/1"], "'topic/1' is no dead letter; write TOPIC/PARTITION/OFFSET"),
        (["show", f"{TOPIC}/0/99999"], f"there is no dead letter {TOPIC}/0/99999"),
    ],
)
def test_bad_input_is_one_line(running: Running, words: list[str], message: str):
    done = k2("dead-letters", *words, "--data", str(running.root))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(message), done.stderr
    assert done.stderr.count("\n") == 1


def test_a_folder_without_a_platform_is_unreachable(tmp_path: Path):
    done = k2("dead-letters", "redrive", "UNDECODABLE", "--data", str(tmp_path))
    assert done.returncode == 3
