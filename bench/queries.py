"""One hour of one symbol from a Gold of ten million rows: K2's engine beside PyIceberg alone."""

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
    """Builds the table, then asks in turns."""
    rows, asked, alone = (500_000, 30, 10) if quick else (10_000_000, 200, 30)
    folder.mkdir(parents=True, exist_ok=True)
    platform = Layout.at(folder).platform()
    table = datasets.build(platform, _commits(rows), folder)
    files = len(list(table.scan().plan_files()))
    print(f"  {rows:,} rows in {files} files", flush=True)
    rng, sizes = random.Random("hours"), list[int]()
    times: dict[str, list[list[float]]] = {K2: [], ALONE: []}
    with closing(Engine(platform)) as engine:
        contestants: dict[str, tuple[int, Callable[[str, datetime], pa.Table]]] = {
            K2: (
                asked,
                lambda symbol, start: engine.trades(symbol=symbol, start=start, end=start + timedelta(hours=1)),
            ),
            ALONE: (alone, lambda symbol, start: _alone(table, symbol, start)),
        }
        _agree(contestants, rng)
        for turn in range(rounds):
            for name in order(list(contestants), turn):
                count, ask = contestants[name]
                times[name].append([_timed(ask, rng, sizes) for _ in range(-(-count // rounds))])
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


def _alone(table: "Table", symbol: str, start: datetime) -> pa.Table:
    end = start + timedelta(hours=1)
    hour = f"timestamp >= '{start.isoformat()}' and timestamp < '{end.isoformat()}'"
    asked = f"symbol = '{symbol}' and {hour}"
    return table.scan(row_filter=asked).to_arrow()


def _question(rng: random.Random) -> tuple[str, datetime]:
    return f"{rng.choice(BASES)}USDT", _FIRST + timedelta(minutes=rng.randrange((_HOURS - 1) * 60 + 1))


def _timed(ask: Callable[[str, datetime], pa.Table], rng: random.Random, sizes: list[int]) -> float:
    question = _question(rng)
    began = time.perf_counter()
    found = ask(*question)
    took = (time.perf_counter() - began) * 1000
    if not found.num_rows:
        raise BenchFailed(f"{question[0]} from {question[1]:%F %T}: no rows")
    sizes.append(found.num_rows)
    return took


def _agree(contestants: dict[str, tuple[int, Callable[[str, datetime], pa.Table]]], rng: random.Random) -> None:
    question = _question(rng)
    counts = {name: ask(*question).num_rows for name, (_, ask) in contestants.items()}
    if len(set(counts.values())) > 1:
        raise BenchFailed(f"the contestants found different rows: {counts}")


def _section(times: dict[str, list[list[float]]], rows: int, files: int, sizes: list[int]) -> Section:
    section = Section("d", "One hour of one symbol")
    section.method = (
        f"Gold, {rows:,} rows of {len(BASES)} symbols and {_HOURS} hours in {files} files that Spark wrote: "
        f"a compacted file an hour, and {_LAST_FILES} small ones of the newest hour. Each question is a random "
        "symbol and "
        f"hour that begins at a random minute, so most touch two partitions; an answer has {max(sizes):,} rows at "
        "most. "
        f"K2 is asked {sum(map(len, times[K2]))} times through `Engine.trades`, in one process, and loads the table's "
        "newest state from the catalog each time; its answers are in order of time.",
        f"PyIceberg is asked {sum(map(len, times[ALONE]))} times through `scan(...).to_arrow()` on a table that is "
        "already "
        "loaded; its answers are not put in order. Files are in the system's cache for both.",
    )
    for name, rounds in times.items():
        section.figures += [
            Figure(name, "answer, p50", "ms", [quantile(one, 0.5) for one in rounds]),
            Figure(name, "answer, p99", "ms", [quantile(one, 0.99) for one in rounds]),
        ]
    every = {name: [took for one in rounds for took in one] for name, rounds in times.items()}
    p50, p99 = quantile(every[K2], 0.5), quantile(every[K2], 0.99)
    plain = quantile(every[ALONE], 0.5)
    section.ratios = [("p50, PyIceberg alone over K2", plain / p50)]
    why = (
        f"the slowest of {len(every[K2])} answers took {number(max(every[K2]))} ms, the quickest "
        f"{number(min(every[K2]))} ms "
        f"for about {sum(sizes) // len(sizes):,} rows; PyIceberg alone took {number(plain)} ms in the middle"
    )
    section.goals = [
        Goal(f"p99 of all questions below {_P99:.0f} ms", f"{number(p99)} ms", p99 < _P99, why),
        Goal(f"p50 of all questions below {_P50:.0f} ms", f"{number(p50)} ms", p50 < _P50, why),
    ]
    return section
