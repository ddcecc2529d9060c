"""One hour of one symbol from a Gold table of ten million rows, with K2's engine and with PyIceberg alone."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from bench.harness.figures import K2, Figure, Goal, Section, number, order, quantile
from bench.harness.processes import BenchFailed
from bench.workloads import datasets
from bench.workloads.datasets import BASES
from k2.cli.embedded.layout import Layout
from k2.query.engine import Engine

if TYPE_CHECKING:
    from pyiceberg.table import Table

ALONE: Final = "PyIceberg alone"
_FIRST: Final = datetime(2026, 1, 5, tzinfo=UTC)
_HOURS: Final = 48
_LAST_FILES: Final = 60  # the newest hour is not compacted: a commit a minute
_P50, _P99 = 100.0, 500.0


def run(folder: Path, *, quick: bool, rounds: int) -> Section:
    """Build the table, then measure the engines in turns."""
    rows, queries, alone = (500_000, 30, 10) if quick else (10_000_000, 200, 30)
    folder.mkdir(parents=True, exist_ok=True)
    platform = Layout.at(folder).platform()
    table = datasets.build(platform, _commits(rows), folder)
    files = len(list(table.scan().plan_files()))
    print(f"  {rows:,} rows in {files} files", flush=True)
    rng, sizes = random.Random("hours"), list[int]()
    times: dict[str, list[list[float]]] = {K2: [], ALONE: []}
    with closing(Engine(platform)) as engine:
        engines: dict[str, tuple[int, Callable[[str, datetime], pa.Table]]] = {
            K2: (
                queries,
                lambda symbol, start: engine.trades(symbol=symbol, start=start, end=start + timedelta(hours=1)),
            ),
            ALONE: (alone, lambda symbol, start: _scan(table, symbol, start)),
        }
        _check_agreement(engines, rng)
        for turn in range(rounds):
            for name in order(list(engines), turn):
                count, run_query = engines[name]
                times[name].append([_timed(run_query, rng, sizes) for _ in range(-(-count // rounds))])
                print(f"  round {turn + 1}, {name}: p50 {number(quantile(times[name][-1], 0.5))} ms", flush=True)
    return _section(times, rows, files, sizes)


def _commits(rows: int) -> Iterator[datasets.Commit]:
    an_hour = rows // _HOURS
    for hour in range(_HOURS - 1):
        yield datasets.Commit(_FIRST + timedelta(hours=hour), timedelta(hours=1), an_hour)
    left = rows - an_hour * (_HOURS - 1)
    for minute in range(_LAST_FILES):
        count = left // _LAST_FILES + (left % _LAST_FILES if minute == 0 else 0)
        yield datasets.Commit(_FIRST + timedelta(hours=_HOURS - 1, minutes=minute), timedelta(minutes=1), count)


def _scan(table: "Table", symbol: str, start: datetime) -> pa.Table:
    end = start + timedelta(hours=1)
    hour = f"timestamp >= '{start.isoformat()}' and timestamp < '{end.isoformat()}'"
    row_filter = f"symbol = '{symbol}' and {hour}"
    return table.scan(row_filter=row_filter).to_arrow()


def _random_query(rng: random.Random) -> tuple[str, datetime]:
    return f"{rng.choice(BASES)}USDT", _FIRST + timedelta(minutes=rng.randrange((_HOURS - 1) * 60 + 1))


def _timed(run_query: Callable[[str, datetime], pa.Table], rng: random.Random, sizes: list[int]) -> float:
    query = _random_query(rng)
    started_at = time.perf_counter()
    rows = run_query(*query)
    milliseconds = (time.perf_counter() - started_at) * 1000
    if not rows.num_rows:
        raise BenchFailed(f"{query[0]} from {query[1]:%F %T}: no rows")
    sizes.append(rows.num_rows)
    return milliseconds


def _check_agreement(engines: dict[str, tuple[int, Callable[[str, datetime], pa.Table]]], rng: random.Random) -> None:
    query = _random_query(rng)
    counts = {name: run_query(*query).num_rows for name, (_, run_query) in engines.items()}
    if len(set(counts.values())) > 1:
        raise BenchFailed(f"the engines return different numbers of rows: {counts}")


def _section(times: dict[str, list[list[float]]], rows: int, files: int, sizes: list[int]) -> Section:
    section = Section("queries", "One hour of one symbol")
    section.method = (
        f"Gold, {rows:,} rows of {len(BASES)} symbols and {_HOURS} hours in {files} files that Spark wrote: "
        f"one compacted file per hour, and {_LAST_FILES} small ones in the newest hour. Each query is for a random "
        f"symbol and an hour that begins at a random minute, so most touch two partitions; a result has at most "
        f"{max(sizes):,} rows. K2 runs {sum(map(len, times[K2]))} queries through `Engine.trades`, in one process, and "
        "loads the table's current metadata from the catalog each time; its results are sorted by time.",
        f"PyIceberg runs {sum(map(len, times[ALONE]))} queries through `scan(...).to_arrow()` on a table that is "
        "already loaded; its results are not sorted. Files are in the system's cache for both.",
    )
    for name, rounds in times.items():
        section.figures += [
            Figure(name, "query, p50", "ms", [quantile(one, 0.5) for one in rounds]),
            Figure(name, "query, p99", "ms", [quantile(one, 0.99) for one in rounds]),
        ]
    all_values = {name: [value for values in rounds for value in values] for name, rounds in times.items()}
    p50, p99 = quantile(all_values[K2], 0.5), quantile(all_values[K2], 0.99)
    plain = quantile(all_values[ALONE], 0.5)
    section.ratios = [("p50, PyIceberg alone over K2", plain / p50)]
    reason = (
        f"the slowest of {len(all_values[K2])} queries took {number(max(all_values[K2]))} ms, the fastest "
        f"{number(min(all_values[K2]))} ms "
        f"for about {sum(sizes) // len(sizes):,} rows; PyIceberg alone took {number(plain)} ms at the median"
    )
    section.goals = [
        Goal(f"p99 of all queries below {_P99:.0f} ms", f"{number(p99)} ms", p99 < _P99, reason),
        Goal(f"p50 of all queries below {_P50:.0f} ms", f"{number(p50)} ms", p50 < _P50, reason),
    ]
    return section
