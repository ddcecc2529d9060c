"""Build a Gold table of synthetic trades in files written by Spark, one commit per time range."""

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
from pyarrow import parquet

from bench.harness.processes import output
from k2.cli.embedded import plan
from k2.common.platform import Platform
from k2.query.iceberg import tables
from k2.query.iceberg.catalog import connect
from k2.schemas.records.trade import message_id_prefix, message_id_suffix
from k2.schemas.tables import GOLD
from k2.schemas.values import PRECISION, SCALE, UNIT

if TYPE_CHECKING:
    from pyiceberg.table import Table

BASES: Final = "BTC ETH SOL XRP DOGE ADA BNB TRX DOT LTC".split()


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit of `rows` trades, evenly over all symbols and over `length` from `start`, within one hour."""

    start: datetime
    length: timedelta
    rows: int
    summary: Mapping[str, str] = field(default_factory=dict)


def build(platform: Platform, commits: Iterable[Commit], folder: Path) -> "Table":
    """Create Gold and let Spark write each commit to one file; staging files are in the folder. Return the table."""
    staged = folder / "staged"
    staged.mkdir(parents=True)
    staged_files: list[tuple[str, dict[str, str]]] = []
    for place, commit in enumerate(commits):
        staged_files.append((str(staged / f"{place}.parquet"), dict(commit.summary)))
        parquet.write_table(_rows(commit), staged_files[-1][0], compression="lz4")
    commits_file = staged / "commits.json"
    commits_file.write_text(json.dumps(staged_files), "utf-8")
    output("the table", "-m", "bench.workloads.load_gold", str(commits_file), env=plan.environment(platform))
    shutil.rmtree(staged)
    return connect(platform).load_table(tables.identifier(GOLD))


def _rows(commit: Commit) -> pa.Table:
    """Return the trades of a commit, with the same number for every symbol."""
    start, length, count = commit.start, commit.length, commit.rows
    each = [count // len(BASES) + (place < count % len(BASES)) for place in range(len(BASES))]
    first, micros = int(start.timestamp() * 1e6), int(length.total_seconds() * 1e6)
    times = [first + place * micros // size for size in each for place in range(size)]
    bases = [base for base, size in zip(BASES, each, strict=True) for _ in range(size)]
    numbers = [first // 1000 + place for place in range(count)]
    prefixes = {base: message_id_prefix("BINANCE", f"{base}USDT", 1) for base in BASES}
    ids = [(prefixes[base] + message_id_suffix(number)).decode() for base, number in zip(bases, numbers, strict=True)]
    timestamp, decimal = pa.timestamp("us", "UTC"), pa.decimal128(PRECISION, SCALE)
    prices = pa.array(
        [place * 7919 % 1_000_000 * (UNIT // 10_000) + 60_000 * UNIT for place in range(count)], pa.int64()
    )
    quantities = pa.array([(place * 104_729 % 99_991 + 1) * (UNIT // 100_000) for place in range(count)], pa.int64())
    vendors = ('{"pair":"","buyer_maker":"true","source":"live"}', '{"pair":"","buyer_maker":"false","source":"live"}')
    columns: dict[str, Any] = {
        "message_id": ids,
        "trade_id": list(map(str, numbers)),
        "symbol": [f"{base}USDT" for base in bases],
        "exchange": pa.array(["BINANCE"] * count),
        "base_asset": bases,
        "quote_currency": ["USDT"] * count,
        "timestamp": pa.array(times, timestamp),
        "price": _decimals(prices, decimal),
        "quantity": _decimals(quantities, decimal),
        "side": ["BUY" if place % 2 else "SELL" for place in range(count)],
        "ingestion_timestamp": pa.array([at + 41_000 for at in times], timestamp),
        "vendor_data": [vendors[place % 2] for place in range(count)],
        "gold_ingestion_timestamp": pa.array([first + micros] * count, timestamp),
        "exchange_date": pa.array([start.date()] * count, pa.date32()),
        "exchange_hour": pa.array([start.hour] * count, pa.int32()),
    }
    return pa.table(columns)


def _decimals(units: pa.Array, kind: pa.DataType) -> pa.Array:
    """Convert units of 10**-12 to decimals without a Python object for each."""
    low = units.buffers()[1].to_pybytes()
    words = bytearray(2 * len(low))
    for byte in range(8):
        words[byte::16] = low[byte::8]
    return pa.Array.from_buffers(kind, len(units), [None, pa.py_buffer(bytes(words))])
