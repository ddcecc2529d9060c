"""Engines that run queries over Gold: K2 over HTTP, and the baselines as libraries, without HTTP."""

import http.client
import json
import subprocess
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import urlencode, urlsplit

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from bench.baselines.environments import environment
from bench.harness.processes import BenchFailed, last_line
from bench.workloads import queries
from bench.workloads.queries import Kind, Query
from k2.query.sql.trade_sql import COLUMNS

if TYPE_CHECKING:
    from pyiceberg.table import Table

CLICKHOUSE: Final = ("chdb==4.4.0", "chdb-core==26.9.0")
_ARROW: Final = {"Accept": "application/vnd.apache.arrow.stream"}

Result = tuple[float, int]  # milliseconds, rows


class Engine(Protocol):
    """An engine that is measured."""

    def run(self, batch: Sequence[Query], clients: int) -> list[Result]:
        """Run every query once, with so many concurrent clients."""
        ...


class _Threads(ABC):
    """An engine whose clients are threads of this process."""

    def run(self, batch: Sequence[Query], clients: int) -> list[Result]:
        """Run every query once, with so many concurrent clients."""
        with ThreadPoolExecutor(clients) as pool:
            return list(pool.map(self._timed, batch))

    def _timed(self, query: Query) -> Result:
        started_at = time.perf_counter()
        table = self.execute(query)
        return (time.perf_counter() - started_at) * 1000, table.num_rows

    @abstractmethod
    def execute(self, query: Query) -> pa.Table:
        """Return the result as an Arrow table."""


class Http(_Threads):
    """K2's HTTP API. Each client keeps its connection; a query ends when the client has the whole table."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._address = parts.hostname or "", parts.port
        self._local = threading.local()

    def execute(self, query: Query) -> pa.Table:
        """Return the result as an Arrow table."""
        path = _path(query)
        if not hasattr(self._local, "connection"):
            self._local.connection = http.client.HTTPConnection(*self._address, timeout=120)
        connection: http.client.HTTPConnection = self._local.connection
        connection.request("GET", path, headers=_ARROW)
        response = connection.getresponse()
        if response.status != 200:
            raise BenchFailed(f"{path}: {response.status} {response.read()[:300]!r}")
        with pa.ipc.open_stream(response) as batches:
            table = batches.read_all()
        response.read()  # the end of the body, so that the connection can be used again
        return table


def _path(query: Query) -> str:
    start, end = (at.strftime("%Y-%m-%dT%H:%M:%SZ") for at in (query.start, query.end))
    words = {"symbol": query.symbol, "start": start, "end": end}
    match query.kind:
        case Kind.PRICE:
            return f"/v1/price?{urlencode({'at': end})}"
        case Kind.BARS:
            return f"/v1/ohlcv?{urlencode(words | {'interval': '1m'})}"
        case Kind.RECENT:
            return f"/v1/trades?{urlencode(words | {'hybrid': 'true'})}"
    return f"/v1/trades?{urlencode(words)}"


class DuckDB(_Threads):
    """DuckDB directly on the files of the hours in the query: the lower bound."""

    def __init__(self, files: Mapping[datetime, Sequence[str]]) -> None:
        self._files = files
        self._connection = duckdb.connect()

    def execute(self, query: Query) -> pa.Table:
        """Return the result as an Arrow table."""
        with self._connection.cursor() as cursor:
            cursor.execute("SET TimeZone = 'UTC'")
            return cursor.sql(queries.duckdb_sql(query, self._files)).to_arrow_table()


class PyIceberg(_Threads):
    """PyIceberg on a table that is already loaded, with Arrow for computations."""

    def __init__(self, table: "Table") -> None:
        self._table = table

    def execute(self, query: Query) -> pa.Table:
        """Return the result as an Arrow table, sorted by time."""
        start, end = query.start.isoformat(), query.end.isoformat()
        rows = f"timestamp >= '{start}' and timestamp < '{end}'"
        rows += f" and symbol = '{query.symbol}'" if query.symbol else ""
        trades = self._table.scan(rows, selected_fields=_fields(query)).to_arrow().sort_by("timestamp")
        # Arrow has no first and last of decimals.
        trades = trades.append_column("rounded", pc.cast(trades.column("price"), pa.float64()))
        match query.kind:
            case Kind.PRICE:
                return trades.group_by(["exchange", "symbol"], use_threads=False).aggregate([("rounded", "last")])
            case Kind.BARS:
                minutes = pc.floor_temporal(trades.column("timestamp"), unit="minute")
                keys = ["exchange", "symbol", "open_time"]
                figures = [("rounded", "first"), ("price", "max"), ("price", "min"), ("rounded", "last")]
                figures += [("quantity", "sum"), ("quantity", "count")]
                return trades.append_column("open_time", minutes).group_by(keys, use_threads=False).aggregate(figures)
        return trades.drop_columns("rounded")


def _fields(query: Query) -> tuple[str, ...]:
    match query.kind:
        case Kind.PRICE:
            return "exchange", "symbol", "timestamp", "price"
        case Kind.BARS:
            return "exchange", "symbol", "timestamp", "price", "quantity"
    return tuple(COLUMNS.split(", "))


class ClickHouse(AbstractContextManager["ClickHouse"]):
    """ClickHouse as a library in its own process, with the trades loaded into its own table."""

    def __init__(self, folder: Path, files: str) -> None:
        self._folder, self._files = folder, files
        self.version, self.seconds = "", 0.0

    def __enter__(self) -> "ClickHouse":
        interpreter = environment(CLICKHOUSE[0].replace("==", "-"), CLICKHOUSE)
        script = Path(__file__).with_name("clickhouse_client.py")
        self._log = self._folder.with_suffix(".log")
        self._errors = self._log.open("ab")
        self._process = subprocess.Popen(
            [str(interpreter), str(script), str(self._folder), self._files],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True,
        )  # fmt: skip
        loaded = self._read()
        self.version, self.seconds = loaded["version"], loaded["seconds"]
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()

    def run(self, batch: Sequence[Query], clients: int) -> list[Result]:
        """Run every query once, with so many concurrent clients."""
        assert self._process.stdin is not None
        statements = [queries.clickhouse_sql(query, "bench.gold") for query in batch]
        self._process.stdin.write(json.dumps({"clients": clients, "statements": statements}) + "\n")
        self._process.stdin.flush()
        return [(milliseconds, rows) for milliseconds, rows in self._read()]

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise BenchFailed(f"ClickHouse exited: {last_line(self._log)}")
        return json.loads(line)
