"""Kafka to Gold: K2's three layers beside a plain consumer that appends to one table."""

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.error import URLError
from urllib.request import urlopen

from confluent_kafka import Producer

from bench.harness.figures import K2, Figure, Goal, Section, number, order
from bench.harness.processes import BenchFailed, alive, cpu_seconds, last_words, pss, python, started, tree, until
from bench.harness.services import Services, feed, services, written
from bench.rivals import baseline
from k2.cli.embedded import plan
from k2.cli.embedded.layout import Layout
from k2.cli.embedded.ports import free
from k2.common.schema_registry import Registry
from k2.query.engine import Engine
from k2.schemas import topics
from k2.schemas.codecs import avro
from k2.schemas.codecs.avro import TradeEncoder
from k2.schemas.exchanges.spec import EXCHANGES
from k2.schemas.records.trade import Side, Trade
from k2.schemas.tables import NAMESPACE
from k2.schemas.values import UNIT

PLAIN: Final = "plain consumer"
_SYMBOLS: Final = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT")
_SPAN: Final = 3 * 3600 * 1_000_000  # microseconds of exchange time that the trades cover
_REPEATED: Final = 100  # every hundredth trade comes twice
_LIMIT: Final = 1.5
_ROUNDS: Final = 2
_WITHIN: Final = 600.0


@dataclass(slots=True)
class Rounds:
    """What the rounds of one contestant gave."""

    cpu: list[float] = field(default_factory=list)  # seconds per million rows
    rate: list[float] = field(default_factory=list)  # rows/s
    memory: list[float] = field(default_factory=list)  # GB at most
    opening: list[float] = field(default_factory=list)  # CPU-seconds before the first batch


def run(folder: Path, *, quick: bool, rounds: int) -> Section:
    """Both take the same topic into fresh tables, in turns."""
    count, rounds = (200_000, 1) if quick else (2_000_000, min(rounds, _ROUNDS))
    found = {K2: Rounds(), PLAIN: Rounds()}
    with services(folder) as kafka:
        wanted = feed(list(_SYMBOLS), trigger="1s")
        kafka.create_topics(wanted)
        distinct = _preload(kafka, wanted.topic, count)
        for turn in range(rounds):
            for name in order(list(found), turn):
                contestant = _layers if name == K2 else _consumer
                contestant(kafka, folder / f"{turn}-{name[0]}", count, distinct, found[name])
                mine = found[name]
                print(
                    f"  round {turn + 1}, {name}: {number(mine.cpu[-1])} CPU-s per million rows, "
                    f"{number(mine.rate[-1])} rows/s",
                    flush=True,
                )
    return _section(found, count, distinct)


def _preload(kafka: Services, topic: str, count: int) -> int:
    """Fills the topic; returns how many different trades it holds."""
    schema_id = Registry(kafka.platform.registry_url).register(topics.subject(topic), avro.text())
    encoder = TradeEncoder(schema_id)
    producer = Producer(
        {"bootstrap.servers": kafka.bootstrap, "compression.type": "zstd", "linger.ms": 20, "partitioner": "consistent"}
    )
    distinct = 0
    for place, trade in enumerate(_trades(count)):
        value = encoder.encode(trade)
        for _ in range(2 if place % _REPEATED == 0 else 1):
            while True:
                try:
                    producer.produce(topic, value, trade.symbol)
                    break
                except BufferError:
                    producer.poll(0.1)
        distinct += 1
        if place % 1000 == 0:
            producer.poll(0)
    if left := producer.flush(60):
        raise BenchFailed(f"{left} records could not be preloaded")
    with closing(kafka.counter(topic)) as counter:
        if (held := counter()) != count:
            raise BenchFailed(f"the topic holds {held} records instead of {count}")
    return distinct


def _trades(count: int) -> Iterator[Trade]:
    """So many trades that, with every hundredth sent twice, `count` records result."""
    pairs = [EXCHANGES["binance"].pair(native) for native in _SYMBOLS]
    now = time.time_ns() // 1000
    distinct = count * _REPEATED // (_REPEATED + 1)
    while distinct + (distinct + _REPEATED - 1) // _REPEATED < count:
        distinct += 1
    for place in range(distinct):
        pair, sold = pairs[place % len(pairs)], place % 3 == 0
        vendor = (("pair", pair.native), ("buyer_maker", "true" if sold else "false"), ("source", "live"))
        yield Trade(
            str(1_000_000 + place // len(pairs)), pair.symbol, "BINANCE", pair.base, pair.quote,
            now - _SPAN + place * _SPAN // distinct // 1000 * 1000, 60_000 * UNIT + place % 10_000 * 1_000_000,
            (place % 977 + 1) * 100_000, Side.SELL if sold else Side.BUY, now, vendor,
        )  # fmt: skip


def _layers(kafka: Services, folder: Path, count: int, distinct: int, found: Rounds) -> None:
    layout, port = Layout.at(folder), free()
    platform = layout.platform(kafka_port=kafka.port, registry_port=kafka.registry_port)
    file = written(feed(list(_SYMBOLS), trigger="1s"), folder)
    log, began = layout.log("jobs"), time.monotonic()
    command = python("-m", "k2.jobs", "--feed", str(file), "--port", str(port))
    with started(command, log, env=plan.environment(platform)) as process:
        until("the layers", lambda: _told(port), 120.0, 0.25, (process, log))
        opening, memory = cpu_seconds(tree([process.pid])), 0
        while _told(port).get("rows", 0) < distinct:
            alive(process, log)
            if time.monotonic() - began > _WITHIN:
                raise BenchFailed(f"{distinct} trades were not in Gold within {_WITHIN:.0f} s")
            memory = max(memory, pss(tree([process.pid])))
            time.sleep(0.25)
        wall, cpu = time.monotonic() - began, cpu_seconds(tree([process.pid]))
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(120)
        except subprocess.TimeoutExpired:
            raise BenchFailed("k2.jobs did not stop within 120 s") from None
        if code:
            raise BenchFailed(f"k2.jobs ended with {code}: {last_words(log)}")
    with closing(Engine(platform)) as engine:
        held = engine.sql("SELECT count(*) AS n, count(DISTINCT message_id) AS d FROM gold_crypto_trades").to_pylist()[
            0
        ]
    if held != {"n": distinct, "d": distinct}:
        raise BenchFailed(f"Gold holds {held} instead of {distinct} trades")
    found.opening.append(opening)
    _note(found, cpu, wall, memory, count)


def _consumer(kafka: Services, folder: Path, count: int, distinct: int, found: Rounds) -> None:
    topic, log = topics.trades("binance"), folder / "rival.log"
    words = ["--bootstrap", kafka.bootstrap, "--topic", topic, "--count", str(count), "--folder", str(folder)]
    began, cpu, memory = time.monotonic(), 0.0, 0
    with started(python("-m", "bench.rivals.baseline", *words), log) as process:
        while process.poll() is None:
            parts = tree([process.pid])
            cpu, memory = max(cpu, cpu_seconds(parts)), max(memory, pss(parts))
            if time.monotonic() - began > _WITHIN:
                raise BenchFailed(f"the plain consumer did not end within {_WITHIN:.0f} s")
            time.sleep(0.1)
        wall = time.monotonic() - began
        if process.returncode:
            raise BenchFailed(f"the plain consumer ended with {process.returncode}: {last_words(log)}")
    with closing(baseline.open_catalog(folder)) as catalog:
        held = catalog.load_table((NAMESPACE, baseline.NAME)).scan().count()
    if held != distinct:
        raise BenchFailed(f"the plain consumer's table holds {held} instead of {distinct} trades")
    _note(found, cpu, wall, memory, count)


def _note(found: Rounds, cpu: float, wall: float, memory: int, count: int) -> None:
    found.cpu.append(cpu / count * 1e6)
    found.rate.append(count / wall)
    found.memory.append(memory / 1e9)


def _told(port: int) -> dict[str, Any]:
    """What Gold says of itself; nothing before it runs."""
    try:
        with urlopen(f"http://127.0.0.1:{port}/status", timeout=2) as answer:
            gold: dict[str, Any] = json.load(answer)["feeds"].get("bench", {}).get("gold", {})
    except (URLError, OSError):
        return {}
    return gold if gold.get("state") == "RUNNING" else {}


def _section(found: dict[str, Rounds], count: int, distinct: int) -> Section:
    section = Section("b", "Kafka to Gold")
    section.method = (
        f"Input: {count:,} Avro records of {distinct:,} trades ({count - distinct:,} come twice), {len(_SYMBOLS)} "
        "symbols, four partitions, three hours of exchange time, in the topic before either starts. Neither is pinned; "
        "the broker runs beside them and is not counted.",
        "K2 stores each record in Bronze, checks and types it in Silver and puts it into Gold once, with the batches' "
        "offsets in the ledger; triggers of one second. Its CPU-seconds are those of Python and JVM together, start-up "
        "included, until Gold has every trade. Afterwards Gold is counted: each trade is there once.",
        "The plain consumer (`bench/rivals/baseline.py`) "
        "reads with confluent-kafka, decodes with fastavro, drops ids that "
        "it has "
        "seen and appends 100,000 typed rows at a time to one unpartitioned table through PyIceberg. It keeps no "
        "Bronze, "
        "checks nothing, and forgets what it has seen when it ends.",
    )
    for name, rounds in found.items():
        section.figures += [
            Figure(name, "CPU per million rows", "CPU-s", rounds.cpu),
            Figure(name, "rows, start-up included", "rows/s", rounds.rate),
            Figure(name, "highest memory (PSS)", "GB", rounds.memory),
        ]
    section.figures.append(Figure(K2, "CPU until the layers run", "CPU-s", found[K2].opening))
    medians = {(figure.who, figure.what): figure.median for figure in section.figures}
    cpu, plain = medians[K2, "CPU per million rows"], medians[PLAIN, "CPU per million rows"]
    opening = medians[K2, "CPU until the layers run"] / count * 1e6
    speed = medians[K2, "rows, start-up included"] / medians[PLAIN, "rows, start-up included"]
    section.ratios = [
        ("CPU per million rows, K2 over the plain consumer", cpu / plain),
        ("the same without K2's start-up", (cpu - opening) / plain),
        ("rows/s, K2 over the plain consumer", speed),
    ]
    section.goals = [
        Goal(
            f"at most {_LIMIT} times the plain consumer's CPU per million rows",
            f"{cpu / plain:.2f} times",
            cpu <= _LIMIT * plain,
            f"K2 used {number(cpu)} CPU-seconds per million rows for three tables where the plain consumer used "
            f"{number(plain)} for one. Of these, {number(opening)} are the start of Python, JVM and Spark, spread over "
            f"{count / 1e6:g} million rows: more rows make them fewer. The other {number(cpu - opening)} are "
            f"{(cpu - opening) / plain:.2f} times the plain consumer's, with code that the JVM still has to compile",
        )
    ]
    return section
