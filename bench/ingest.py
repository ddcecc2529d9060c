"""Recorded Binance frames from a websocket to acknowledged records in Kafka, with K2's ingest and cryptofeed."""

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import psutil

from bench.baselines.environments import environment
from bench.harness.figures import K2, Figure, Goal, Section, number, order, quantile
from bench.harness.processes import BenchFailed, cores, cpu_seconds, last_line, python, started, until
from bench.harness.services import Services, feed, services, write_feed
from bench.workloads import frames
from k2.cli.embedded.ports import free
from k2.schemas.channels import TRADES

CRYPTOFEED: Final = "cryptofeed"
PACKAGES: Final = ("cryptofeed==2.4.1", "aiokafka==0.14.0", "websockets==17.4", "uvloop==0.23.0")


@dataclass(frozen=True, slots=True)
class Sizes:
    """The number of rounds, of frames per engine, and the seconds of the latency test."""

    rounds: int
    k2: int = 300_000
    cryptofeed: int = 20_000
    burst: float = 15.0
    lead: float = 4.0


@dataclass(slots=True)
class Rounds:
    """The results of one engine, by round."""

    rate: list[float] = field(default_factory=list)
    per_cpu: list[float] = field(default_factory=list)
    utilisation: list[float] = field(default_factory=list)  # share of its core
    latencies: list[list[float]] = field(default_factory=list)  # milliseconds


class Engine(Protocol):
    """A program that publishes frames to Kafka."""

    aggregated: bool

    def topics(self, kafka: Services, turn: str) -> list[str]:
        """Create the topics of one round, and return those with trades."""
        ...

    def command(self, kafka: Services, turn: str, port: int, times: Path | None) -> list[str]:
        """Return the command line."""
        ...


class K2Ingest:
    """`python -m k2.ingest` with a feed of two symbols."""

    aggregated = False

    def topics(self, kafka: Services, turn: str) -> list[str]:
        """Create the topics of the feed, and return the one with trades."""
        spec = feed(list(frames.SYMBOLS), topic=f"k2.{turn}")
        kafka.create_topics(spec)
        return [spec.topic(TRADES)]

    def command(self, kafka: Services, turn: str, port: int, times: Path | None) -> list[str]:
        """Return the command of the ingest, or of a variant that records acknowledgement times in `times`."""
        spec = feed(list(frames.SYMBOLS), port=port, topic=f"k2.{turn}")
        module = ["bench.workloads.timed_ingest", str(times)] if times else ["k2.ingest"]
        file = write_feed(spec, kafka.layout.root / turn)
        return python("-m", *module, "--feed", str(file), "--port", str(free()))


class Cryptofeed:
    """cryptofeed's Binance feed with its TradeKafka callback."""

    aggregated = True

    def __init__(self, interpreter: Path) -> None:
        self.interpreter = interpreter

    def topics(self, kafka: Services, turn: str) -> list[str]:
        """Create one topic per symbol, named as cryptofeed does."""
        names = [f"{turn}-BINANCE-{symbol}" for symbol in ("BTC-USDT", "ETH-USDT")]
        for name in names:
            kafka.create_topic(name, 1)
        return names

    def command(self, kafka: Services, turn: str, port: int, times: Path | None) -> list[str]:
        """Return the command in cryptofeed's own environment."""
        script = Path(__file__).parent / "baselines/cryptofeed_client.py"
        words = [f"ws://127.0.0.1:{port}", kafka.bootstrap, turn, *([str(times)] if times else [])]
        return [str(self.interpreter), str(script), *words]


def run(folder: Path, *, quick: bool, rounds: int) -> Section:
    """Measure throughput on one core, then latency at the recorded pace, with the engines taking turns."""
    sizes = Sizes(rounds, 60_000, 4_000, 8.0) if quick else Sizes(rounds)
    cryptofeed = Cryptofeed(environment("cryptofeed-2.4.1", PACKAGES))
    engines: dict[str, Engine] = {K2: K2Ingest(), CRYPTOFEED: cryptofeed}
    results = {name: Rounds() for name in engines}
    counts = {K2: sizes.k2, CRYPTOFEED: sizes.cryptofeed}
    with services(folder) as kafka:
        for turn in range(sizes.rounds):
            for name in order(list(engines), turn):
                engine = engines[name]
                _throughput(kafka, engine, results[name], f"fast{turn}{name[0]}", counts[name])
                _latency(kafka, engine, results[name], f"paced{turn}{name[0]}", sizes)
                own = results[name]
                print(
                    f"  round {turn + 1}, {name}: {number(own.rate[-1])} trades/s, "
                    f"p99 {number(quantile(own.latencies[-1], 0.99))} ms",
                    flush=True,
                )
    return _section(results, sizes)


def _throughput(kafka: Services, engine: Engine, results: Rounds, turn: str, count: int) -> None:
    names = engine.topics(kafka, turn)
    with (
        _exchange(kafka, turn, engine, "--count", str(count)) as (port, log),
        closing(kafka.counter(*names)) as counter,
    ):
        command = engine.command(kafka, turn, port, None)
        client_log = kafka.layout.log(f"client-{turn}")
        with started(command, client_log, env=kafka.env, on=cores()[0]) as process:
            measured = psutil.Process(process.pid)
            started_at = until("the first frame", lambda: _printed(log, "began"), 60.0, 0.002, (process, client_log))
            cpu = cpu_seconds([measured])
            until(f"{count} acknowledged records", lambda: counter() >= count, 120.0, 0.02, (process, client_log))
            wall, cpu = time.time() - float(started_at), cpu_seconds([measured]) - cpu
            _stop(process, client_log)
            if (stored := counter()) != count:
                raise BenchFailed(f"{turn}: {count} trades were sent, but Kafka has {stored}")
    results.rate.append(count / wall)
    results.per_cpu.append(count / cpu)
    results.utilisation.append(cpu / wall)


def _latency(kafka: Services, engine: Engine, results: Rounds, turn: str, sizes: Sizes) -> None:
    names = engine.topics(kafka, turn)
    sent, times = kafka.layout.root / f"{turn}.sent", kafka.layout.root / f"{turn}.times"
    with (
        _exchange(kafka, turn, engine, "--paced", str(sizes.burst), "--lead", str(sizes.lead), "--sent", str(sent)) as (
            port,
            log,
        ),
        closing(kafka.counter(*names)) as counter,
    ):
        command = engine.command(kafka, turn, port, times)
        client_log = kafka.layout.log(f"client-{turn}")
        with started(command, client_log, env=kafka.env, on=cores()[0]) as process:
            until("the last frame", lambda: _printed(log, "sent"), sizes.burst + 60.0, by=(process, client_log))
            sent_at = {(symbol, identity): at for symbol, identity, at in json.loads(sent.read_text("utf-8"))}
            until("every acknowledgement", lambda: counter() >= len(sent_at), 60.0)
            time.sleep(0.5)
            _stop(process, client_log)
    acknowledged = json.loads(times.read_text("utf-8"))
    if len(acknowledged) != len(sent_at):
        raise BenchFailed(f"{turn}: {len(sent_at)} trades were sent, but {len(acknowledged)} acknowledged")
    measured_from = min(sent_at.values()) + sizes.lead * 1e9
    waits = [(at - sent_at[symbol, identity], sent_at[symbol, identity]) for symbol, identity, at in acknowledged]
    results.latencies.append([wait / 1e6 for wait, at in waits if at >= measured_from])


@contextmanager
def _exchange(kafka: Services, turn: str, engine: Engine, *words: str) -> Iterator[tuple[int, Path]]:
    log = kafka.layout.log(f"exchange-{turn}")
    options = ["--aggregated"] if engine.aggregated else []
    with started(python("-m", "bench.workloads.exchange", *words, *options), log, on=cores()[1]) as process:
        port = until("the exchange", lambda: _printed(log, "port"), 60.0, by=(process, log))
        yield int(port), log


def _printed(log: Path, word: str) -> str:
    """Return what the exchange printed after a word; empty if it has not yet."""
    for line in log.read_text("utf-8").splitlines(keepends=True):
        if line.startswith(word) and line.endswith("\n"):
            return line.removeprefix(word).strip() or word
    return ""


def _stop(process: subprocess.Popen[bytes], log: Path) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        code = process.wait(30)
    except subprocess.TimeoutExpired:
        raise BenchFailed(f"{log.stem} did not stop within 30 s") from None
    if code not in {0, -signal.SIGTERM}:
        raise BenchFailed(f"{log.stem} exited with {code}: {last_line(log)}")


def _section(results: dict[str, Rounds], sizes: Sizes) -> Section:
    recording = frames.load()
    burst = recording.busiest(sizes.burst)
    section = Section("ingest", "Socket to Kafka, one core")
    section.method = (
        f"Input: {recording.origin}, {len(recording.trades):,} trades in {recording.seconds:.0f} s, one frame each, "
        "sent by a websocket server on the same machine. The recording is repeated with new ids, so that no trade is "
        "sent twice. The measured process may use one core; broker and server use the others.",
        f"Throughput: frames are sent as fast as they are read: {sizes.k2:,} to K2, {sizes.cryptofeed:,} to "
        "cryptofeed. The clock runs from the first frame until the broker holds every record; CPU is that of the "
        "whole process in that time. K2 runs with its defaults: Avro through the registry, idempotent, acks=all, "
        f"zstd. cryptofeed ({', '.join(PACKAGES)}) runs its Binance feed with its TradeKafka callback: JSON, "
        "acks=all, not idempotent, not compressed. It supports only aggregate trades, so it receives each trade as "
        "an aggregate of one.",
        f"Latency: the busiest {sizes.burst:.0f} s of the recording ({len(burst.trades):,} trades, up to "
        f"{burst.densest(0.01):,} within 10 ms) at their recorded pace, after the {sizes.lead:.0f} s before it as a "
        "lead-in, from the moment the server hands a frame to its "
        "socket until the client's own callback for the acknowledged record. Both clients record that time through "
        "the same kind of hook; throughput is measured without it.",
    )
    for name, rounds in results.items():
        section.figures += [
            Figure(name, "acknowledged", "trades/s", rounds.rate),
            Figure(name, "acknowledged per CPU-second", "trades/CPU-s", rounds.per_cpu),
            Figure(name, "utilisation of its core", "%", [100 * busy for busy in rounds.utilisation]),
            Figure(name, "socket to acknowledgement, p50", "ms", [quantile(one, 0.5) for one in rounds.latencies]),
            Figure(name, "socket to acknowledgement, p99", "ms", [quantile(one, 0.99) for one in rounds.latencies]),
        ]
    _evaluate(section)
    return section


def _evaluate(section: Section) -> None:
    medians = {(figure.engine, figure.quantity): figure.median for figure in section.figures}
    rate, baseline = (medians[engine, "acknowledged"] for engine in (K2, CRYPTOFEED))
    cpu, baseline_cpu = (medians[engine, "acknowledged per CPU-second"] for engine in (K2, CRYPTOFEED))
    busy, baseline_busy = (medians[engine, "utilisation of its core"] for engine in (K2, CRYPTOFEED))
    p99, p50 = (medians[K2, f"socket to acknowledgement, {share}"] for share in ("p99", "p50"))
    section.ratios = [
        ("trades/s, K2 over cryptofeed", rate / baseline),
        ("per CPU-second, K2 over cryptofeed", cpu / baseline_cpu),
    ]
    limit = (
        f"K2 used {busy:.0f} % of its core: the core is the limit, {1e6 / cpu:.1f} microseconds of it per trade"
        if busy > 90
        else f"K2 used only {busy:.0f} % of its core: it waited for the broker or the server, which share the rest of "
        f"the machine. A whole core would process {number(cpu)} trades/s"
    )
    section.goals = [
        Goal("at least 10 times cryptofeed's trades/s", f"{rate / baseline:.1f} times", rate >= 10 * baseline, limit),
        Goal("at least 50,000 trades/s per core", f"{number(rate)} trades/s", rate >= 50_000, limit),
        Goal(
            "p99 below 10 ms at the recorded bursts",
            f"{number(p99)} ms",
            p99 < 10,
            f"half of the trades took {number(p50)} ms or less; the slowest hundredth is {p99 / p50:.1f} times that, "
            f"of which up to 1 ms is the time for which the producer collects records for one request",
        ),
    ]
    if baseline_busy < 90:
        section.notes.append(
            f"cryptofeed used {baseline_busy:.0f} % of its core: its Kafka callback waits for each acknowledgement "
            "before it sends the next record. The figures per CPU-second compare the work itself."
        )
