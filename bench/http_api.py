"""Questions to twenty million trades through K2's HTTP API, beside libraries that answer without HTTP."""

import json
import random
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final
from urllib.error import URLError
from urllib.request import urlopen

from confluent_kafka import Producer

from bench.harness.figures import K2, Figure, Goal, Grid, Section, number, order, quantile
from bench.harness.processes import BenchFailed, alive, output, python, started, until
from bench.harness.services import Services, feed, services, written
from bench.rivals.engines import ClickHouse, Contestant, DuckDB, Http, PyIceberg
from bench.workloads import datasets, questions
from bench.workloads.datasets import BASES
from bench.workloads.questions import Kind, Question
from k2.cli.embedded.ports import HOST, free
from k2.common.schema_registry import Registry
from k2.query.iceberg.catalog import connect
from k2.query.iceberg.tables import identifier
from k2.query.kafka.kafka_offsets import EXCHANGE, FRONTIER, QUERY
from k2.schemas import topics
from k2.schemas.codecs import avro
from k2.schemas.codecs.avro import TradeEncoder
from k2.schemas.records.trade import Side, Trade
from k2.schemas.tables import GOLD
from k2.schemas.values import UNIT

if TYPE_CHECKING:
    from pyiceberg.table import Table

FLOOR, RIVAL, ALONE = "DuckDB, the same files", "ClickHouse, its own table", "PyIceberg alone"
_CLIENTS: Final = (1, 8, 32)
_HOURS: Final = 48
_COMMIT: Final = timedelta(minutes=5)
_TAIL: Final = timedelta(seconds=30)  # of trades that only Kafka has
_PATIENCE: Final = 5.0  # seconds for one kind, contestant and number of clients
_SLOW: Final = 0.3  # seconds: who takes longer for one answer is not asked by many at once
_PHASES: Final = ("before compaction", "after compaction")
_MILLIONS: Final = 7
_AT_ONCE: Final = 8
_P99_HOUR, _P99_HYBRID, _FLOORS, _MILLION = 100.0, 150.0, 2.0, 1000.0

Took = dict[tuple[str, Kind, str, int], list[float]]  # phase, kind, contestant, clients: ms


def run(folder: Path, *, quick: bool, rounds: int) -> Section:
    """Builds the table and asks, lets K2's maintenance compact it, and asks again."""
    rows, asked = (1_000_000, 20) if quick else (20_000_000, 200)
    end = datetime.now(UTC).replace(second=0, microsecond=0)
    end -= timedelta(minutes=end.minute % 5)
    first = (end - timedelta(hours=_HOURS)).replace(minute=0)
    took: Took = defaultdict(list)
    notes: list[str] = []
    with services(folder) as kafka:
        wanted = feed([f"{base}USDT" for base in BASES])
        kafka.create_topics(wanted)
        table = datasets.build(kafka.platform, _commits(first, end, rows), folder)
        rate = rows / (end - first).total_seconds()
        waiting = _tail(kafka, wanted.topic, end, round(rate * _TAIL.total_seconds()))
        file, last = written(wanted, folder), end + _TAIL
        notes.append(f"The bars of all {_HOURS} hours were made in {number(_keep('bars', file, kafka))} s.")
        pattern = f"{folder}/warehouse/**/{GOLD}/data/**/*.parquet"
        with _api(kafka, folder) as (url, server), ClickHouse(folder / "clickhouse", pattern) as rival:
            for phase in _PHASES:
                if phase is _PHASES[1]:
                    notes.append(f"Compaction took {number(_keep('compaction', file, kafka))} s.")
                    table = connect(kafka.platform).load_table(identifier(GOLD))
                files = _files(table)
                notes.append(f"{phase.capitalize()}: {sum(map(len, files.values())):,} files.")
                floor, alone = DuckDB(files), PyIceberg(table)
                contestants: dict[str, Contestant] = {K2: Http(url), FLOOR: floor, RIVAL: rival, ALONE: alone}
                for kind in Kind:
                    _measure(took, phase, kind, contestants, _Range(first, end, last), asked)
            highest = _whole_days(url, _Range(first, end, last), server)
        notes.append(f"ClickHouse {rival.version} loaded and sorted its table in {number(rival.seconds)} s.")
    section = _section(took, rows, waiting, notes)
    section.figures.append(
        Figure(K2, f"the server's highest memory, {_AT_ONCE} clients at a whole day", "MB", [highest])
    )
    return section


class _Range:
    """What can be asked about: Gold's hours, and the end of what Kafka has."""

    def __init__(self, first: datetime, end: datetime, last: datetime) -> None:
        self.first, self.end, self.last = first, end, last

    def asked(self, kind: Kind, count: int, seed: str) -> list[Question]:
        """So many random questions, the same ones for the same seed."""
        chance = random.Random(seed)
        end = self.last if kind is Kind.RECENT else self.end
        return [questions.of(kind, self.first, end, chance) for _ in range(count)]


def _measure(
    took: Took, phase: str, kind: Kind, contestants: Mapping[str, Contestant], within: _Range, asked: int
) -> None:
    found = {name: one.ask(within.asked(kind, 3, "first"), 1) for name, one in contestants.items()}  # and warm up
    counts = {name: [rows for _, rows in answers] for name, answers in found.items()}
    if kind is not Kind.RECENT and len({tuple(each) for each in counts.values()}) > 1:
        raise BenchFailed(f"{kind}: the contestants found different rows: {counts}")
    if kind is Kind.RECENT and min(map(min, counts.values())) != min(counts[FLOOR]) < min(counts[K2]):
        raise BenchFailed(f"{kind}: what only Kafka has is not in the answer: {counts}")
    for turn, clients in enumerate((1,) if kind is Kind.MILLION else _CLIENTS):
        for name in order(list(contestants), turn):
            slow = median(each for each, _ in found[name]) / 1000
            if clients > 1 and slow > _SLOW and name != K2:
                continue
            most = _MILLIONS if kind is Kind.MILLION else max(asked, 4 * clients)
            patience = 3 * _PATIENCE if name == K2 and clients == 1 else _PATIENCE  # of few answers p99 is the slowest
            count = max(2 * clients, min(most, round(patience / slow)))
            answers = contestants[name].ask(within.asked(kind, count, f"{kind} {clients}"), clients)
            mine = took[phase, kind, name, clients] = [each for each, _ in answers]
            told = f"p50 {number(quantile(mine, 0.5))}, p99 {number(quantile(mine, 0.99))} ms"
            print(f"  {phase}, {kind}, {clients} clients, {name}: {told} of {count}", flush=True)


def _whole_days(url: str, within: _Range, server: int) -> float:
    """The most memory that the server ever had, MB, after many at once have asked for a whole day, and again."""
    Http(url).ask(within.asked(Kind.MILLION, 2 * _AT_ONCE, "at once"), _AT_ONCE)
    lines = Path(f"/proc/{server}/status").read_text().splitlines()
    return next(float(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM:"))


def _commits(first: datetime, end: datetime, rows: int) -> Iterator[datasets.Commit]:
    """A commit every five minutes. The last one says how far into Kafka Gold reaches: to the beginning."""
    count = round((end - first) / _COMMIT)
    topic = topics.trades("binance")
    reach = {FRONTIER: json.dumps({topic: dict.fromkeys(range(4), 0)}), QUERY: "bench", EXCHANGE: "BINANCE"}
    for place in range(count):
        size = rows // count + (place < rows % count)
        yield datasets.Commit(first + place * _COMMIT, _COMMIT, size, reach if place == count - 1 else {})


def _tail(kafka: Services, topic: str, start: datetime, count: int) -> int:
    """Trades of the time after Gold's, in Kafka alone."""
    schema_id = Registry(kafka.platform.registry_url).register(topics.subject(topic), avro.text())
    encoder, producer = TradeEncoder(schema_id), Producer({"bootstrap.servers": kafka.bootstrap})
    begins, span = int(start.timestamp() * 1e6), _TAIL // timedelta(microseconds=1)
    for place in range(count):
        base, at = BASES[place % len(BASES)], begins + place * span // count
        trade = Trade(
            str(10**12 + place), f"{base}USDT", "BINANCE", base, "USDT", at, 60_000 * UNIT + place * 1_000_000, UNIT,
            Side.BUY, at + 41_000, (("source", "live"),),
        )  # fmt: skip
        producer.produce(topic, encoder.encode(trade), trade.symbol)
    if left := producer.flush(60):
        raise BenchFailed(f"{left} trades could not be written to Kafka")
    return count


def _keep(what: str, file: Path, kafka: Services) -> float:
    """One round of a job of K2; its seconds."""
    told = output(what, "-m", "bench.workloads.maintenance", what, str(file), env=kafka.env)
    return float(told.strip().splitlines()[-1])


@contextmanager
def _api(kafka: Services, folder: Path) -> Iterator[tuple[str, int]]:
    """K2's API, as `k2 serve` runs it, with limits that let one address be many clients; its URL and its process."""
    port, log = free(), folder / "api.log"
    many = {"K2_API_QUERIES_EACH": "64", "K2_API_RATE_OPEN": "1000000/second", "K2_API_PORT": str(port)}
    with started(python("-m", "k2.query.api"), log, env=kafka.env | many) as process:
        url = f"http://{HOST}:{port}"
        until("the API", lambda: _ready(url), 60.0, 0.2, (process, log))
        yield url, process.pid
        alive(process, log)


def _ready(url: str) -> bool:
    try:
        with urlopen(f"{url}/healthz", timeout=5) as answer:  # noqa: S310 - our own URL
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False


def _files(table: "Table") -> dict[datetime, list[str]]:
    """Where the trades of each hour lie, as the folders' names say."""
    found: dict[datetime, list[str]] = defaultdict(list)
    for task in table.scan().plan_files():
        day, hour = task.file.partition[0], task.file.partition[1]
        at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=day, hours=hour)
        found[at].append(task.file.file_path.removeprefix("file://"))
    return found


def _section(took: Took, rows: int, waiting: int, notes: Sequence[str]) -> Section:
    section = Section("g", "Asking over HTTP")
    section.method = (
        f"Gold: {rows:,} trades of {len(BASES)} symbols in {_HOURS} hours up to now, a commit of Spark's every 5 "
        f"minutes, on a local disk; {waiting:,} newer ones in Kafka alone. Everyone is asked the same random questions "
        "in one run, first as the commits left the table, then after K2's own maintenance has compacted it.",
        "K2 answers through HTTP, as an Arrow stream, one server process on the same two cores as its clients; a "
        "client keeps its connection. Its bars come from the maintained table. Limits of one address are lifted, for "
        "all clients here are one; that of 8 queries at once is not. DuckDB may take "
        "1 GB within it, which is the default.",
        f"The rivals answer in the asker's own process, without HTTP. {FLOOR}: told by hand only the files of the "
        f"hours in question. {RIVAL}: chdb, every trade loaded before into a MergeTree sorted by symbol and time. "
        f"{ALONE}: on a table that is loaded already; what is to be computed, Arrow computes. Of the hybrid question "
        "the rivals answer the part that is in Gold. Each cell is p50 / p99 in ms; a rival that takes more than "
        f"{_SLOW} s for one answer is not asked by many at once.",
    )
    for kind in Kind:
        clients = sorted({one[3] for one in took if one[1] is kind})
        columns = ["", *(f"{count} client{'s' * (count > 1)}" for count in clients)]
        cells = [
            [f"{name}, {phase}", *(_cell(took[phase, kind, name, count]) for count in clients)]
            for name in (K2, FLOOR, RIVAL, ALONE)
            for phase in _PHASES
        ]
        section.grids.append(Grid(f"{kind.capitalize()}, ms", columns, cells))
    section.goals = list(_goals(took))
    section.ratios = [
        (f"{kind}, p50 at one client, {phase}, K2 over {name}", _p(took, phase, kind, K2) / _p(took, phase, kind, name))
        for kind in Kind
        for name in (FLOOR, RIVAL, ALONE)
        for phase in _PHASES
    ]
    section.notes = list(notes)
    section.figures = [Figure(K2, "a million trades, median", "ms", [_p(took, p, Kind.MILLION, K2) for p in _PHASES])]
    return section


def _goals(took: Took) -> Iterator[Goal]:
    for phase in _PHASES:
        hour, hybrid = (_p(took, phase, kind, K2, 0.99) for kind in (Kind.HOUR, Kind.RECENT))
        yield Goal(f"{phase}: p99 of an hour below {_P99_HOUR:.0f} ms", f"{number(hour)} ms", hour < _P99_HOUR)
        floor = _p(took, phase, Kind.HOUR, FLOOR)
        ratio = _p(took, phase, Kind.HOUR, K2) / floor
        yield Goal(
            f"{phase}: p50 of an hour at most {_FLOORS:.0f} times the floor", f"{number(ratio)} times",
            ratio <= _FLOORS, f"DuckDB took {number(floor)} ms, without catalog, HTTP and copies of the answer",
        )  # fmt: skip
        yield Goal(f"{phase}: p99 of hybrid below {_P99_HYBRID:.0f} ms", f"{number(hybrid)} ms", hybrid < _P99_HYBRID)
        million = _p(took, phase, Kind.MILLION, K2)
        floor = _p(took, phase, Kind.MILLION, FLOOR)
        yield Goal(
            f"{phase}: a million trades below {_MILLION:.0f} ms", f"{number(million)} ms", million < _MILLION,
            f"DuckDB itself took {number(floor)} ms for these files",
        )  # fmt: skip


def _p(took: Took, phase: str, kind: Kind, name: str, share: float = 0.5) -> float:
    return quantile(took[phase, kind, name, 1], share)


def _cell(found: Sequence[float]) -> str:
    if not found:
        return "-"
    return f"{number(quantile(found, 0.5))} / {number(quantile(found, 0.99))}"
