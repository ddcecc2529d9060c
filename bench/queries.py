"""One hour of one symbol from a Gold of ten million rows: K2's engine beside PyIceberg alone."""

import random
import secrets
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from bench.figures import K2, Figure, Goal, Section, number, order, quantile
from bench.processes import BenchFailed
from k2.cli.embedded.layout import Layout
from k2.query import tables
from k2.query.catalog import connect
from k2.query.engine import Engine
from k2.schemas.platform import Platform
from k2.schemas.tables import GOLD_TABLE, NAMESPACE
from k2.schemas.values import UNIT

if TYPE_CHECKING:
    from pyiceberg.table import Table

ALONE: Final = "PyIceberg alone"
_BASES: Final = "BTC ETH SOL XRP DOGE ADA BNB TRX DOT LTC".split()
_FIRST: Final = datetime(2026, 1, 5, tzinfo=UTC)
_HOURS: Final = 48
_LAST_FILES: Final = 60  # the newest hour is not compacted: a commit a minute
_GROUP: Final = 100_000  # rows; about what Spark makes of the table's 16 MiB
_P50, _P99 = 100.0, 500.0


def run(folder: Path, *, quick: bool, rounds: int) -> Section:
    """Builds the table, then asks in turns."""
    rows, asked, alone = (500_000, 30, 10) if quick else (10_000_000, 200, 30)
    folder.mkdir(parents=True, exist_ok=True)
    platform = Layout.at(folder).platform()
    table = _build(platform, rows)
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


def _build(platform: Platform, rows: int) -> "Table":
    catalog = connect(platform, create=True)
    catalog.create_namespace_if_not_exists(NAMESPACE)
    table = tables.create(catalog, GOLD_TABLE)
    with table.transaction() as change:
        # PyIceberg counts rows where Spark counts bytes.
        change.remove_properties("write.parquet.row-group-size-bytes")
        change.set_properties({"write.parquet.row-group-limit": str(_GROUP)})
    an_hour = rows // _HOURS
    for hour in range(_HOURS):
        start = _FIRST + timedelta(hours=hour)
        if hour < _HOURS - 1:
            table.append(_rows(start, timedelta(hours=1), an_hour))
            continue
        left = rows - an_hour * (_HOURS - 1)
        for minute in range(_LAST_FILES):
            count = left // _LAST_FILES + (left % _LAST_FILES if minute == 0 else 0)
            table.append(_rows(start + timedelta(minutes=minute), timedelta(minutes=1), count))
    return table


def _rows(start: datetime, span: timedelta, count: int) -> pa.Table:
    """Trades of every symbol in the order in which Spark writes them: symbol, then time."""
    each = [count // len(_BASES) + (place < count % len(_BASES)) for place in range(len(_BASES))]
    first, length = int(start.timestamp() * 1e6), int(span.total_seconds() * 1e6)
    times = [first + place * length // size for size in each for place in range(size)]
    bases = [base for base, size in zip(_BASES, each, strict=True) for _ in range(size)]
    noise = secrets.token_bytes(16 * count).hex()
    ids = [_uuid(noise[at : at + 32]) for at in range(0, 32 * count, 32)]
    moment, amount = pa.timestamp("us", "UTC"), pa.decimal128(18, 8)
    prices = pa.array([place * 7919 % 1_000_000 * 10_000 + 60_000 * UNIT for place in range(count)], pa.int64())
    quantities = pa.array([(place * 104_729 % 99_991 + 1) * 1000 for place in range(count)], pa.int64())
    vendors = ('{"pair":"","buyer_maker":"true","source":"live"}', '{"pair":"","buyer_maker":"false","source":"live"}')
    columns: dict[str, Any] = {
        "message_id": ids,
        "trade_id": [str(first // 1000 + place) for place in range(count)],
        "symbol": [f"{base}USDT" for base in bases],
        "exchange": pa.array(["BINANCE"] * count),
        "base_asset": bases,
        "quote_currency": ["USDT"] * count,
        "timestamp": pa.array(times, moment),
        "price": _decimals(prices, amount),
        "quantity": _decimals(quantities, amount),
        "side": ["BUY" if place % 2 else "SELL" for place in range(count)],
        "ingestion_timestamp": pa.array([at + 41_000 for at in times], moment),
        "vendor_data": [vendors[place % 2] for place in range(count)],
        "gold_ingestion_timestamp": pa.array([first + length] * count, moment),
        "exchange_date": pa.array([start.date()] * count, pa.date32()),
        "exchange_hour": pa.array([start.hour] * count, pa.int32()),
    }
    return pa.table(columns)


def _uuid(digits: str) -> str:
    return f"{digits[:8]}-{digits[8:12]}-5{digits[13:16]}-8{digits[17:20]}-{digits[20:]}"


def _decimals(units: pa.Array, kind: pa.DataType) -> pa.Array:
    """Units of 10**-8 as decimals, without a Python object for each."""
    low = units.buffers()[1].to_pybytes()
    words = bytearray(2 * len(low))
    for byte in range(8):
        words[byte::16] = low[byte::8]
    return pa.Array.from_buffers(kind, len(units), [None, pa.py_buffer(bytes(words))])


def _alone(table: "Table", symbol: str, start: datetime) -> pa.Table:
    end = start + timedelta(hours=1)
    hour = f"timestamp >= '{start.isoformat()}' and timestamp < '{end.isoformat()}'"
    asked = f"symbol = '{symbol}' and {hour}"
    return table.scan(row_filter=asked).to_arrow()


def _question(rng: random.Random) -> tuple[str, datetime]:
    return f"{rng.choice(_BASES)}USDT", _FIRST + timedelta(minutes=rng.randrange((_HOURS - 1) * 60 + 1))


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
        f"Gold, {rows:,} rows of {len(_BASES)} symbols and {_HOURS} hours in {files} files, sorted as Spark sorts "
        "them: "
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
