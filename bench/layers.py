"""Kafka to Gold: K2's three layers, and a plain consumer that appends to one table; the bytes of a trade in Gold."""

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

from bench.baselines import baseline
from bench.harness import sizes
from bench.harness.figures import K2, Figure, Goal, Section, number, order
from bench.harness.processes import (
    BenchFailed,
    alive,
    cpu_seconds,
    last_line,
    pss,
    python,
    started,
    tree,
    until,
)
from bench.harness.services import Services, feed, services, write_feed
from k2.cli.embedded import plan
from k2.cli.embedded.layout import Layout
from k2.cli.embedded.ports import free
from k2.common.schema_registry import Registry
from k2.ingest.simulator.listings import pair_of
from k2.query.engine import Engine
from k2.schemas import topics
from k2.schemas.channels import TRADES
from k2.schemas.codecs import avro
from k2.schemas.codecs.avro import TradeEncoder
from k2.schemas.exchanges.registry import EXCHANGES
from k2.schemas.records.trade import Side, Trade
from k2.schemas.tables import NAMESPACE
from k2.schemas.values import UNIT

PLAIN: Final = "plain consumer"
_SYMBOLS: Final = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT")
_TIME_RANGE: Final = 3 * 3600 * 1_000_000  # microseconds of exchange time that the trades cover
_DUPLICATE_EVERY: Final = 100  # every hundredth trade is sent twice
_LIMIT: Final = 1.5
_ROUNDS: Final = 2
_WITHIN: Final = 600.0
_BYTES_BEFORE: Final = 12.0  # a trade, in commits of some thousand trades
_BYTES_AFTER: Final = 7.5  # a trade, after compaction


@dataclass(slots=True)
class Rounds:
    """The results of one engine, by round."""

    cpu: list[float] = field(default_factory=list)  # seconds per million rows
    rate: list[float] = field(default_factory=list)  # rows/s
    memory: list[float] = field(default_factory=list)  # GB, the peak
    startup: list[float] = field(default_factory=list)  # CPU-seconds before the first batch


def run(folder: Path, *, quick: bool, rounds: int) -> Section:
    """Let both engines read the same topic into new tables, in turns."""
    count, rounds = (200_000, 1) if quick else (2_000_000, min(rounds, _ROUNDS))
    results = {K2: Rounds(), PLAIN: Rounds()}
    with services(folder) as kafka:
        spec = feed(list(_SYMBOLS), trigger="1s")
        kafka.create_topics(spec)
        distinct = _preload(kafka, spec.topic(TRADES), count)
        for turn in range(rounds):
            for name in order(list(results), turn):
                measure = _measure_layers if name == K2 else _measure_consumer
                measure(kafka, folder / f"{turn}-{name[0]}", count, distinct, results[name])
                own = results[name]
                print(
                    f"  round {turn + 1}, {name}: {number(own.cpu[-1])} CPU-s per million rows, "
                    f"{number(own.rate[-1])} rows/s",
                    flush=True,
                )
    section = _section(results, count, distinct)
    sizes.add(section, "trade", sizes.measure(folder / "size", TRADES.name), before=_BYTES_BEFORE, after=_BYTES_AFTER)
    return section


def _preload(kafka: Services, topic: str, count: int) -> int:
    """Fill the topic, and return the number of distinct trades in it."""
    schema_id = Registry(kafka.platform.registry).register(topics.subject(topic), avro.text())
    encoder = TradeEncoder(schema_id)
    producer = Producer(
        {"bootstrap.servers": kafka.bootstrap, "compression.type": "zstd", "linger.ms": 20, "partitioner": "consistent"}
    )
    distinct = 0
    for place, trade in enumerate(_trades(count)):
        value = encoder.encode(trade)
        for _ in range(2 if place % _DUPLICATE_EVERY == 0 else 1):
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
        if (stored := counter()) != count:
            raise BenchFailed(f"the topic has {stored} records instead of {count}")
    return distinct


def _trades(count: int) -> Iterator[Trade]:
    """Yield so many trades that sending every hundredth twice results in `count` records."""
    pairs = [pair_of(EXCHANGES["binance"], raw_symbol) for raw_symbol in _SYMBOLS]
    now = time.time_ns() // 1000
    distinct = count * _DUPLICATE_EVERY // (_DUPLICATE_EVERY + 1)
    while distinct + (distinct + _DUPLICATE_EVERY - 1) // _DUPLICATE_EVERY < count:
        distinct += 1
    for place in range(distinct):
        pair, sold = pairs[place % len(pairs)], place % 3 == 0
        vendor = (("pair", pair.raw_symbol), ("buyer_maker", "true" if sold else "false"), ("source", "live"))
        yield Trade(
            str(1_000_000 + place // len(pairs)), pair.symbol, "BINANCE", pair.base, pair.quote,
            now - _TIME_RANGE + place * _TIME_RANGE // distinct // 1000 * 1000,
            60_000 * UNIT + place % 10_000 * (UNIT // 100),
            (place % 977 + 1) * (UNIT // 1000), Side.SELL if sold else Side.BUY, now, vendor,
        )  # fmt: skip


def _measure_layers(kafka: Services, folder: Path, count: int, distinct: int, results: Rounds) -> None:
    layout, port = Layout.at(folder), free()
    platform = layout.platform(kafka_port=kafka.port, registry_port=kafka.registry_port)
    file = write_feed(feed(list(_SYMBOLS), trigger="1s"), folder)
    log, started_at = layout.log("jobs"), time.monotonic()
    command = python("-m", "k2.jobs", "--feed", str(file), "--port", str(port))
    with started(command, log, env=plan.environment(platform)) as process:
        until("the layers", lambda: _gold_status(port), 120.0, 0.25, (process, log))
        startup, memory = cpu_seconds(tree([process.pid])), 0
        while _gold_status(port).get("rows", 0) < distinct:
            alive(process, log)
            if time.monotonic() - started_at > _WITHIN:
                raise BenchFailed(f"{distinct} trades did not reach Gold within {_WITHIN:.0f} s")
            memory = max(memory, pss(tree([process.pid])))
            time.sleep(0.25)
        wall, cpu = time.monotonic() - started_at, cpu_seconds(tree([process.pid]))
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(120)
        except subprocess.TimeoutExpired:
            raise BenchFailed("k2.jobs did not stop within 120 s") from None
        if code:
            raise BenchFailed(f"k2.jobs exited with {code}: {last_line(log)}")
    with closing(Engine(platform)) as engine:
        counts = engine.sql(
            "SELECT count(*) AS n, count(DISTINCT message_id) AS d FROM gold_crypto_trades"
        ).to_pylist()[0]
    if counts != {"n": distinct, "d": distinct}:
        raise BenchFailed(f"Gold has {counts} instead of {distinct} trades")
    results.startup.append(startup)
    _record(results, cpu, wall, memory, count)


def _measure_consumer(kafka: Services, folder: Path, count: int, distinct: int, results: Rounds) -> None:
    topic, log = topics.trades("binance"), folder / "baseline.log"
    words = ["--bootstrap", kafka.bootstrap, "--topic", topic, "--count", str(count), "--folder", str(folder)]
    started_at, cpu, memory = time.monotonic(), 0.0, 0
    with started(python("-m", "bench.baselines.baseline", *words), log) as process:
        while process.poll() is None:
            parts = tree([process.pid])
            cpu, memory = max(cpu, cpu_seconds(parts)), max(memory, pss(parts))
            if time.monotonic() - started_at > _WITHIN:
                raise BenchFailed(f"the plain consumer did not finish within {_WITHIN:.0f} s")
            time.sleep(0.1)
        wall = time.monotonic() - started_at
        if process.returncode:
            raise BenchFailed(f"the plain consumer exited with {process.returncode}: {last_line(log)}")
    with closing(baseline.open_catalog(folder)) as catalog:
        stored = catalog.load_table((NAMESPACE, baseline.NAME)).scan().count()
    if stored != distinct:
        raise BenchFailed(f"the plain consumer's table has {stored} instead of {distinct} trades")
    _record(results, cpu, wall, memory, count)


def _record(results: Rounds, cpu: float, wall: float, memory: int, count: int) -> None:
    results.cpu.append(cpu / count * 1e6)
    results.rate.append(count / wall)
    results.memory.append(memory / 1e9)


def _gold_status(port: int) -> dict[str, Any]:
    """Return Gold's part of the status document; empty before it runs."""
    try:
        with urlopen(f"http://127.0.0.1:{port}/status", timeout=2) as response:
            gold: dict[str, Any] = json.load(response)["feeds"].get("bench", {}).get("gold", {})
    except (URLError, OSError):
        return {}
    return gold if gold.get("state") == "RUNNING" else {}


def _section(results: dict[str, Rounds], count: int, distinct: int) -> Section:
    section = Section("layers", "Kafka to Gold")
    section.method = (
        f"Input: {count:,} Avro records of {distinct:,} trades ({count - distinct:,} are sent twice), {len(_SYMBOLS)} "
        "symbols, four partitions, three hours of exchange time, all in the topic before the engines start. Neither is "
        "pinned to a core; the broker runs on the same machine and is not counted.",
        "K2 stores each record in Bronze, validates and types it in Silver and writes it to Gold once, with the "
        "batches' offsets in the commit log; triggers of one second. Its CPU-seconds are those of Python and JVM "
        "together, start-up included, until Gold has every trade. Afterwards Gold is checked: it has each trade once.",
        "The plain consumer (`bench/baselines/baseline.py`) reads with confluent-kafka, decodes with fastavro, drops "
        "duplicate ids and appends 100,000 typed rows at a time to one unpartitioned table through PyIceberg. It keeps "
        "no Bronze, validates nothing, and loses its ids when it ends.",
    )
    for name, rounds in results.items():
        section.figures += [
            Figure(name, "CPU per million rows", "CPU-s", rounds.cpu),
            Figure(name, "rows, start-up included", "rows/s", rounds.rate),
            Figure(name, "peak memory (PSS)", "GB", rounds.memory),
        ]
    section.figures.append(Figure(K2, "CPU until the layers run", "CPU-s", results[K2].startup))
    medians = {(figure.engine, figure.quantity): figure.median for figure in section.figures}
    cpu, plain = medians[K2, "CPU per million rows"], medians[PLAIN, "CPU per million rows"]
    startup = medians[K2, "CPU until the layers run"] / count * 1e6
    speed = medians[K2, "rows, start-up included"] / medians[PLAIN, "rows, start-up included"]
    section.ratios = [
        ("CPU per million rows, K2 over the plain consumer", cpu / plain),
        ("the same without K2's start-up", (cpu - startup) / plain),
        ("rows/s, K2 over the plain consumer", speed),
    ]
    section.goals = [
        Goal(
            f"at most {_LIMIT} times the plain consumer's CPU per million rows",
            f"{cpu / plain:.2f} times",
            cpu <= _LIMIT * plain,
            f"K2 used {number(cpu)} CPU-seconds per million rows for three tables where the plain consumer used "
            f"{number(plain)} for one. Of these, {number(startup)} are the start of Python, JVM and Spark, spread "
            f"over {count / 1e6:g} million rows; they shrink with more rows. The other {number(cpu - startup)} are "
            f"{(cpu - startup) / plain:.2f} times the plain consumer's, partly for code that the JVM still has to "
            "compile",
        )
    ]
    return section
