"""Queries of twenty million trades through K2's HTTP API, and through libraries without HTTP."""

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

from bench.baselines.engines import ClickHouse, DuckDB, Engine, Http, PyIceberg
from bench.harness.figures import K2, Figure, Goal, Grid, Section, number, order, quantile
from bench.harness.processes import BenchFailed, alive, output, python, started, until
from bench.harness.services import Services, feed, services, write_feed
from bench.workloads import datasets, queries, statements
from bench.workloads.datasets import BASES
from bench.workloads.queries import Kind, Query
from k2.cli.embedded.ports import HOST, free
from k2.common.schema_registry import Registry
from k2.query.iceberg.catalog import connect
from k2.query.iceberg.tables import identifier
from k2.schemas import topics
from k2.schemas.channels import TRADES
from k2.schemas.codecs.avro import TradeEncoder
from k2.schemas.records.trade import Side, Trade
from k2.schemas.snapshots import EXCHANGE, FRONTIER, QUERY
from k2.schemas.tables import GOLD
from k2.schemas.values import UNIT

if TYPE_CHECKING:
    from pyiceberg.table import Table

FLOOR, CLICKHOUSE, ALONE = "DuckDB, the same files", "ClickHouse, its own table", "PyIceberg alone"
_CLIENTS: Final = (1, 8, 32)
_HOURS: Final = 48
_COMMIT: Final = timedelta(minutes=5)
_TAIL: Final = timedelta(seconds=30)  # of trades that are only in Kafka
_BUDGET: Final = 5.0  # seconds for one kind, engine and number of clients
_SLOW: Final = 0.3  # seconds: slower engines are measured with one client only
_PHASES: Final = ("before compaction", "after compaction")
_MILLION_QUERIES: Final = 7
_CONCURRENT: Final = 8
_P99_HOUR, _P99_HYBRID, _FLOOR_RATIO, _MILLION = 100.0, 150.0, 2.0, 1000.0

Latencies = dict[tuple[str, Kind, str, int], list[float]]  # milliseconds by phase, kind, engine and clients


def run(folder: Path, *, quick: bool, rounds: int) -> Section:
    """Build the table and measure, run K2's compaction, and measure again."""
    rows, count = (1_000_000, 20) if quick else (20_000_000, 200)
    end = datetime.now(UTC).replace(second=0, microsecond=0)
    end -= timedelta(minutes=end.minute % 5)
    first = (end - timedelta(hours=_HOURS)).replace(minute=0)
    latencies: Latencies = defaultdict(list)
    notes: list[str] = []
    with services(folder) as kafka:
        spec = feed([f"{base}USDT" for base in BASES])
        kafka.create_topics(spec)
        table = datasets.build(kafka.platform, _commits(first, end, rows), folder)
        rate = rows / (end - first).total_seconds()
        tail = _produce_tail(kafka, spec.topic(TRADES), end, round(rate * _TAIL.total_seconds()))
        file, last = write_feed(spec, folder), end + _TAIL
        notes.append(f"Building the bars of all {_HOURS} hours took {number(_maintain('bars', file, kafka))} s.")
        pattern = f"{folder}/warehouse/**/{GOLD}/data/**/*.parquet"
        with _api(kafka, folder) as (url, server), ClickHouse(folder / "clickhouse", pattern) as clickhouse:
            for phase in _PHASES:
                if phase is _PHASES[1]:
                    notes.append(f"Compaction took {number(_maintain('compaction', file, kafka))} s.")
                    table = connect(kafka.platform).load_table(identifier(GOLD))
                files = _files(table)
                notes.append(f"{phase.capitalize()}: {sum(map(len, files.values())):,} files.")
                floor, alone = DuckDB(files), PyIceberg(table)
                engines: dict[str, Engine] = {K2: Http(url), FLOOR: floor, CLICKHOUSE: clickhouse, ALONE: alone}
                for kind in Kind:
                    _measure(latencies, phase, kind, engines, _Range(first, end, last), count)
            peak = _peak_memory(url, _Range(first, end, last), server)
        statement_figures, statement_goal = statements.cost(kafka.platform, count)
        notes.append(f"ClickHouse {clickhouse.version} loaded and sorted its table in {number(clickhouse.seconds)} s.")
    section = _section(latencies, rows, tail, notes)
    section.figures.append(
        Figure(K2, f"peak memory of the server, {_CONCURRENT} clients reading whole days", "MB", [peak])
    )
    section.figures += statement_figures
    section.goals.append(statement_goal)
    return section


class _Range:
    """The time range of Gold, and the end of the trades in Kafka."""

    def __init__(self, first: datetime, end: datetime, last: datetime) -> None:
        self.first, self.end, self.last = first, end, last

    def queries(self, kind: Kind, count: int, seed: str) -> list[Query]:
        """Return `count` random queries, the same ones for the same seed."""
        rng = random.Random(seed)
        end = self.last if kind is Kind.RECENT else self.end
        return [queries.random_query(kind, self.first, end, rng) for _ in range(count)]


def _measure(
    latencies: Latencies, phase: str, kind: Kind, engines: Mapping[str, Engine], within: _Range, count: int
) -> None:
    warm_up = {name: engine.run(within.queries(kind, 3, "first"), 1) for name, engine in engines.items()}
    counts = {name: [rows for _, rows in results] for name, results in warm_up.items()}
    if kind is not Kind.RECENT and len({tuple(each) for each in counts.values()}) > 1:
        raise BenchFailed(f"{kind}: the engines return different numbers of rows: {counts}")
    if kind is Kind.RECENT and min(map(min, counts.values())) != min(counts[FLOOR]) < min(counts[K2]):
        raise BenchFailed(f"{kind}: trades that are only in Kafka are missing: {counts}")
    for turn, clients in enumerate((1,) if kind is Kind.MILLION else _CLIENTS):
        for name in order(list(engines), turn):
            slow = median(each for each, _ in warm_up[name]) / 1000
            if clients > 1 and slow > _SLOW and name != K2:
                continue
            limit = _MILLION_QUERIES if kind is Kind.MILLION else max(count, 4 * clients)
            budget = 3 * _BUDGET if name == K2 and clients == 1 else _BUDGET  # p99 of few queries is the slowest
            size = max(2 * clients, min(limit, round(budget / slow)))
            results = engines[name].run(within.queries(kind, size, f"{kind} {clients}"), clients)
            own = latencies[phase, kind, name, clients] = [each for each, _ in results]
            summary = f"p50 {number(quantile(own, 0.5))}, p99 {number(quantile(own, 0.99))} ms"
            print(f"  {phase}, {kind}, {clients} clients, {name}: {summary} of {size}", flush=True)


def _peak_memory(url: str, within: _Range, server: int) -> float:
    """Return the server's peak memory in MB after concurrent clients have each read whole days."""
    Http(url).run(within.queries(Kind.MILLION, 2 * _CONCURRENT, "at once"), _CONCURRENT)
    lines = Path(f"/proc/{server}/status").read_text().splitlines()
    return next(float(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM:"))


def _commits(first: datetime, end: datetime, rows: int) -> Iterator[datasets.Commit]:
    """Yield a commit per five minutes. The last one records Kafka offsets of 0, so all of Kafka is newer than Gold."""
    count = round((end - first) / _COMMIT)
    topic = topics.trades("binance")
    summary = {FRONTIER: json.dumps({topic: dict.fromkeys(range(4), 0)}), QUERY: "bench", EXCHANGE: "BINANCE"}
    for place in range(count):
        size = rows // count + (place < rows % count)
        yield datasets.Commit(first + place * _COMMIT, _COMMIT, size, summary if place == count - 1 else {})


def _produce_tail(kafka: Services, topic: str, start: datetime, count: int) -> int:
    """Produce trades after the end of Gold to Kafka, and return their number."""
    schema_id = Registry(kafka.platform.registry).register(topics.subject(topic), TRADES.schema)
    encoder, producer = TradeEncoder(schema_id), Producer({"bootstrap.servers": kafka.bootstrap})
    begins, length = int(start.timestamp() * 1e6), _TAIL // timedelta(microseconds=1)
    for place in range(count):
        base, at = BASES[place % len(BASES)], begins + place * length // count
        trade = Trade(
            str(10**12 + place), f"{base}USDT", "BINANCE", base, "USDT", at,
            60_000 * UNIT + place * (UNIT // 100), UNIT, Side.BUY, at + 41_000, (("source", "live"),),
        )  # fmt: skip
        producer.produce(topic, encoder.encode(trade), trade.symbol)
    if left := producer.flush(60):
        raise BenchFailed(f"{left} trades could not be produced to Kafka")
    return count


def _maintain(what: str, file: Path, kafka: Services) -> float:
    """Run one maintenance job of K2 and return its seconds."""
    printed = output(what, "-m", "bench.workloads.maintenance", what, str(file), env=kafka.env)
    return float(printed.strip().splitlines()[-1])


@contextmanager
def _api(kafka: Services, folder: Path) -> Iterator[tuple[str, int]]:
    """Run K2's API as `k2 serve` does, without limits per client; yield its URL and its process id."""
    port, log = free(), folder / "api.log"
    limits = {
        "K2_API_MAX_QUERIES_PER_CLIENT": "64",
        "K2_API_RATE_ANONYMOUS": "1000000/second",
        "K2_API_PORT": str(port),
    }
    with started(python("-m", "k2.query.api"), log, env=kafka.env | limits) as process:
        url = f"http://{HOST}:{port}"
        until("the API", lambda: _ready(url), 60.0, 0.2, (process, log))
        yield url, process.pid
        alive(process, log)


def _ready(url: str) -> bool:
    try:
        with urlopen(f"{url}/healthz", timeout=5) as response:  # noqa: S310 - our own URL
            return bool(response.status == 200)
    except (URLError, OSError):
        return False


def _files(table: "Table") -> dict[datetime, list[str]]:
    """Return the data files of each hour, from the partitions."""
    files: dict[datetime, list[str]] = defaultdict(list)
    for task in table.scan().plan_files():
        day, hour = task.file.partition[0], task.file.partition[1]
        at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=day, hours=hour)
        files[at].append(task.file.file_path.removeprefix("file://"))
    return files


def _section(latencies: Latencies, rows: int, tail: int, notes: Sequence[str]) -> Section:
    section = Section("http_api", "Queries over HTTP")
    section.method = (
        f"Gold: {rows:,} trades of {len(BASES)} symbols in {_HOURS} hours up to now, a commit of Spark's every 5 "
        f"minutes, on a local disk; {tail:,} newer ones only in Kafka. All engines run the same random queries "
        "in one run, first on the table as the commits left it, then after K2's own compaction.",
        "K2 responds over HTTP with an Arrow stream, from one server process on the same two cores as its clients; "
        "each client keeps its connection. Its bars come from the maintained table. The limits per client address "
        "are raised, because all clients share one; the limit of 8 concurrent queries is not. DuckDB in the server "
        "may use 1 GB, the default.",
        f"The baselines run in the client's own process, without HTTP. {FLOOR}: given only the files of the hours in "
        f"the query. {CLICKHOUSE}: chdb, with all trades loaded before into a MergeTree sorted by symbol and time. "
        f"{ALONE}: on a table that is already loaded, with Arrow for computations. Of the hybrid query the baselines "
        f"return the part that is in Gold. Each cell is p50 / p99 in ms; a baseline that takes more than {_SLOW} s "
        "for one query is measured with one client only.",
        f"{statements.CAGE}: `{statements.STATEMENT}` as a library runs it, planning included, on the compacted table. "
        f"{statements.SAME_PROCESS}: the same one, planned alike, on a connection that may read the same files only.",
    )
    for kind in Kind:
        clients = sorted({key[3] for key in latencies if key[1] is kind})
        columns = ["", *(f"{count} client{'s' * (count > 1)}" for count in clients)]
        cells = [
            [f"{name}, {phase}", *(_cell(latencies[phase, kind, name, count]) for count in clients)]
            for name in (K2, FLOOR, CLICKHOUSE, ALONE)
            for phase in _PHASES
        ]
        section.grids.append(Grid(f"{kind.capitalize()}, ms", columns, cells))
    section.goals = list(_goals(latencies))
    section.ratios = [
        (
            f"{kind}, p50 at one client, {phase}, K2 over {name}",
            _p(latencies, phase, kind, K2) / _p(latencies, phase, kind, name),
        )
        for kind in Kind
        for name in (FLOOR, CLICKHOUSE, ALONE)
        for phase in _PHASES
    ]
    section.notes = list(notes)
    section.figures = [
        Figure(K2, "a million trades, median", "ms", [_p(latencies, p, Kind.MILLION, K2) for p in _PHASES])
    ]
    return section


def _goals(latencies: Latencies) -> Iterator[Goal]:
    for phase in _PHASES:
        hour, hybrid = (_p(latencies, phase, kind, K2, 0.99) for kind in (Kind.HOUR, Kind.RECENT))
        yield Goal(f"{phase}: p99 of an hour below {_P99_HOUR:.0f} ms", f"{number(hour)} ms", hour < _P99_HOUR)
        floor = _p(latencies, phase, Kind.HOUR, FLOOR)
        ratio = _p(latencies, phase, Kind.HOUR, K2) / floor
        yield Goal(
            f"{phase}: p50 of an hour at most {_FLOOR_RATIO:.0f} times the floor", f"{number(ratio)} times",
            ratio <= _FLOOR_RATIO, f"DuckDB took {number(floor)} ms, without catalog, HTTP and copies of the result",
        )  # fmt: skip
        yield Goal(f"{phase}: p99 of hybrid below {_P99_HYBRID:.0f} ms", f"{number(hybrid)} ms", hybrid < _P99_HYBRID)
        million = _p(latencies, phase, Kind.MILLION, K2)
        floor = _p(latencies, phase, Kind.MILLION, FLOOR)
        yield Goal(
            f"{phase}: a million trades below {_MILLION:.0f} ms", f"{number(million)} ms", million < _MILLION,
            f"DuckDB itself took {number(floor)} ms for these files",
        )  # fmt: skip


def _p(latencies: Latencies, phase: str, kind: Kind, name: str, share: float = 0.5) -> float:
    return quantile(latencies[phase, kind, name, 1], share)


def _cell(values: Sequence[float]) -> str:
    if not values:
        return "-"
    return f"{number(quantile(values, 0.5))} / {number(quantile(values, 0.99))}"
