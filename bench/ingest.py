"""Recorded Binance frames from a websocket to acknowledged records in Kafka: K2's ingest beside cryptofeed."""

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

from bench.harness.figures import K2, Figure, Goal, Section, number, order, quantile
from bench.harness.processes import BenchFailed, cores, cpu_seconds, last_words, python, started, until
from bench.harness.services import Services, feed, services, written
from bench.rivals.environments import environment
from bench.workloads import frames
from k2.cli.embedded.ports import free

CRYPTOFEED: Final = "cryptofeed"
PACKAGES: Final = ("cryptofeed==2.4.1", "aiokafka==0.14.0", "websockets==17.4", "uvloop==0.23.0")


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured."""

    rounds: int
    k2: int = 300_000
    cryptofeed: int = 20_000
    stretch: float = 15.0
    lead: float = 4.0


@dataclass(slots=True)
class Rounds:
    """What the rounds of one contestant gave."""

    rate: list[float] = field(default_factory=list)
    per_cpu: list[float] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)  # share of its core
    latencies: list[list[float]] = field(default_factory=list)  # milliseconds


class Contestant(Protocol):
    """Something that brings frames into Kafka."""

    aggregated: bool

    def topics(self, found: Services, turn: str) -> list[str]:
        """Creates the topics of one run, and names those whose records count."""
        ...

    def command(self, found: Services, turn: str, port: int, times: Path | None) -> list[str]:
        """What is run."""
        ...


class K2Ingest:
    """`python -m k2.ingest` with a feed of two symbols."""

    aggregated = False

    def topics(self, found: Services, turn: str) -> list[str]:
        """The feed's three topics."""
        wanted = feed(list(frames.SYMBOLS), topic=f"k2.{turn}")
        found.create_topics(wanted)
        return [wanted.topic]

    def command(self, found: Services, turn: str, port: int, times: Path | None) -> list[str]:
        """The process of an image, or the one that also notes times."""
        wanted = feed(list(frames.SYMBOLS), port=port, topic=f"k2.{turn}")
        module = ["bench.workloads.timed_ingest", str(times)] if times else ["k2.ingest"]
        file = written(wanted, found.layout.root / turn)
        return python("-m", *module, "--feed", str(file), "--port", str(free()))


class Cryptofeed:
    """cryptofeed's Binance feed with its TradeKafka callback."""

    aggregated = True

    def __init__(self, interpreter: Path) -> None:
        self.interpreter = interpreter

    def topics(self, found: Services, turn: str) -> list[str]:
        """One topic a symbol, as it names them."""
        names = [f"{turn}-BINANCE-{symbol}" for symbol in ("BTC-USDT", "ETH-USDT")]
        for name in names:
            found.create_topic(name, 1)
        return names

    def command(self, found: Services, turn: str, port: int, times: Path | None) -> list[str]:
        """Its own interpreter."""
        script = Path(__file__).parent / "rivals/cryptofeed_client.py"
        words = [f"ws://127.0.0.1:{port}", found.bootstrap, turn, *([str(times)] if times else [])]
        return [str(self.interpreter), str(script), *words]


def run(folder: Path, *, quick: bool, rounds: int) -> Section:
    """Throughput on one core, then latency at the recorded pace, in turns."""
    sizes = Sizes(rounds, 60_000, 4_000, 8.0) if quick else Sizes(rounds)
    cryptofeed = Cryptofeed(environment("cryptofeed-2.4.1", PACKAGES))
    contestants: dict[str, Contestant] = {K2: K2Ingest(), CRYPTOFEED: cryptofeed}
    found = {name: Rounds() for name in contestants}
    counts = {K2: sizes.k2, CRYPTOFEED: sizes.cryptofeed}
    with services(folder) as kafka:
        for turn in range(sizes.rounds):
            for name in order(list(contestants), turn):
                one = contestants[name]
                _throughput(kafka, one, found[name], f"fast{turn}{name[0]}", counts[name])
                _latency(kafka, one, found[name], f"paced{turn}{name[0]}", sizes)
                mine = found[name]
                print(
                    f"  round {turn + 1}, {name}: {number(mine.rate[-1])} trades/s, "
                    f"p99 {number(quantile(mine.latencies[-1], 0.99))} ms",
                    flush=True,
                )
    return _section(found, sizes)


def _throughput(kafka: Services, one: Contestant, found: Rounds, turn: str, count: int) -> None:
    names = one.topics(kafka, turn)
    with _exchange(kafka, turn, one, "--count", str(count)) as (port, log), closing(kafka.counter(*names)) as counter:
        command = one.command(kafka, turn, port, None)
        mine = kafka.layout.log(f"client-{turn}")
        with started(command, mine, env=kafka.env, on=cores()[0]) as process:
            watched = psutil.Process(process.pid)
            began = until("the first frame", lambda: _told(log, "began"), 60.0, 0.002, (process, mine))
            cpu = cpu_seconds([watched])
            until(f"{count} acknowledged records", lambda: counter() >= count, 120.0, 0.02, (process, mine))
            wall, cpu = time.time() - float(began), cpu_seconds([watched]) - cpu
            _stop(process, mine)
            if (held := counter()) != count:
                raise BenchFailed(f"{turn}: {count} trades were sent and Kafka holds {held}")
    found.rate.append(count / wall)
    found.per_cpu.append(count / cpu)
    found.busy.append(cpu / wall)


def _latency(kafka: Services, one: Contestant, found: Rounds, turn: str, sizes: Sizes) -> None:
    names = one.topics(kafka, turn)
    sent, times = kafka.layout.root / f"{turn}.sent", kafka.layout.root / f"{turn}.times"
    with (
        _exchange(kafka, turn, one, "--paced", str(sizes.stretch), "--lead", str(sizes.lead), "--sent", str(sent)) as (
            port,
            log,
        ),
        closing(kafka.counter(*names)) as counter,
    ):
        command = one.command(kafka, turn, port, times)
        mine = kafka.layout.log(f"client-{turn}")
        with started(command, mine, env=kafka.env, on=cores()[0]) as process:
            until("the last frame", lambda: _told(log, "sent"), sizes.stretch + 60.0, by=(process, mine))
            began = {(symbol, identity): at for symbol, identity, at in json.loads(sent.read_text("utf-8"))}
            until("every acknowledgement", lambda: counter() >= len(began), 60.0)
            time.sleep(0.5)
            _stop(process, mine)
    acknowledged = json.loads(times.read_text("utf-8"))
    if len(acknowledged) != len(began):
        raise BenchFailed(f"{turn}: {len(began)} trades were sent and {len(acknowledged)} acknowledged")
    warm = min(began.values()) + sizes.lead * 1e9
    waits = [(at - began[symbol, identity], began[symbol, identity]) for symbol, identity, at in acknowledged]
    found.latencies.append([wait / 1e6 for wait, handed in waits if handed >= warm])


@contextmanager
def _exchange(kafka: Services, turn: str, one: Contestant, *words: str) -> Iterator[tuple[int, Path]]:
    log = kafka.layout.log(f"exchange-{turn}")
    spelling = ["--aggregated"] if one.aggregated else []
    with started(python("-m", "bench.workloads.exchange", *words, *spelling), log, on=cores()[1]) as process:
        port = until("the exchange", lambda: _told(log, "port"), 60.0, by=(process, log))
        yield int(port), log


def _told(log: Path, word: str) -> str:
    """What the exchange said after a word; empty while it has not said it."""
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
        raise BenchFailed(f"{log.stem} ended with {code}: {last_words(log)}")


def _section(found: dict[str, Rounds], sizes: Sizes) -> Section:
    tape = frames.load()
    stretch = tape.busiest(sizes.stretch)
    section = Section("a", "Socket to Kafka, one core")
    section.method = (
        f"Input: {tape.origin}, {len(tape.trades):,} trades in {tape.seconds:.0f} s, one frame each, sent by a "
        "websocket server on the same machine. The recording is repeated with new ids, so that no trade comes twice. "
        "The measured process may use one core; broker and server use the others.",
        f"Throughput: frames are sent as fast as they are read: {sizes.k2:,} to K2, {sizes.cryptofeed:,} to "
        "cryptofeed. "
        "The clock runs from the first frame until the broker holds every record; CPU is that of the whole process in "
        "that time. K2 runs as it is shipped: Avro through the registry, idempotent, acks=all, zstd. cryptofeed "
        f"({', '.join(PACKAGES)}) runs its Binance feed with its TradeKafka callback: JSON, acks=all, not idempotent, "
        "not compressed. It knows only aggregate trades, so each trade is told to it as an aggregate of one.",
        f"Latency: the busiest {sizes.stretch:.0f} s of the recording ({len(stretch.trades):,} trades, up to "
        f"{stretch.densest(0.01):,} within 10 ms) at their own pace, after the {sizes.lead:.0f} s before it as a "
        "lead-in, from the moment the server hands a frame to its "
        "socket until the client's own callback for the acknowledged record. Both clients note that moment through "
        "the same kind of hook; throughput is measured without it.",
    )
    for name, rounds in found.items():
        section.figures += [
            Figure(name, "acknowledged", "trades/s", rounds.rate),
            Figure(name, "acknowledged per CPU-second", "trades/CPU-s", rounds.per_cpu),
            Figure(name, "share of its core", "%", [100 * busy for busy in rounds.busy]),
            Figure(name, "socket to acknowledgement, p50", "ms", [quantile(one, 0.5) for one in rounds.latencies]),
            Figure(name, "socket to acknowledgement, p99", "ms", [quantile(one, 0.99) for one in rounds.latencies]),
        ]
    _judge(section)
    return section


def _judge(section: Section) -> None:
    medians = {(figure.who, figure.what): figure.median for figure in section.figures}
    rate, rival = (medians[who, "acknowledged"] for who in (K2, CRYPTOFEED))
    cpu, rivals_cpu = (medians[who, "acknowledged per CPU-second"] for who in (K2, CRYPTOFEED))
    busy, rivals_busy = (medians[who, "share of its core"] for who in (K2, CRYPTOFEED))
    p99, p50 = (medians[K2, f"socket to acknowledgement, {share}"] for share in ("p99", "p50"))
    section.ratios = [
        ("trades/s, K2 over cryptofeed", rate / rival),
        ("per CPU-second, K2 over cryptofeed", cpu / rivals_cpu),
    ]
    limit = (
        f"K2 used {busy:.0f} % of its core: the core is the limit, {1e6 / cpu:.1f} microseconds of it a trade"
        if busy > 90
        else f"K2 used only {busy:.0f} % of its core: it waited for the broker or the server, which share the rest of "
        f"the machine. At {number(cpu)} trades per CPU-second a whole core would do that many"
    )
    section.goals = [
        Goal("at least 10 times cryptofeed's trades/s", f"{rate / rival:.1f} times", rate >= 10 * rival, limit),
        Goal("at least 50,000 trades/s a core", f"{number(rate)} trades/s", rate >= 50_000, limit),
        Goal(
            "p99 below 10 ms at the recorded bursts",
            f"{number(p99)} ms",
            p99 < 10,
            f"half of the trades took {number(p50)} ms or less; the slowest hundredth is {p99 / p50:.1f} times that, "
            f"and up to 1 ms is the time that the producer collects records for one request",
        ),
    ]
    if rivals_busy < 90:
        section.notes.append(
            f"cryptofeed used {rivals_busy:.0f} % of its core: its Kafka callback waits for each acknowledgement "
            "before "
            "it sends the next record. The figures per CPU-second compare the work itself."
        )
