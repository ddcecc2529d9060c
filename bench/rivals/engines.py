"""Those who answer questions over Gold: K2 through HTTP, and rivals as libraries, without HTTP between."""

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

from bench.harness.processes import BenchFailed, last_words
from bench.rivals.environments import environment
from bench.workloads import questions
from bench.workloads.questions import Kind, Question
from k2.query.sql.trade_sql import COLUMNS

if TYPE_CHECKING:
    from pyiceberg.table import Table

CLICKHOUSE: Final = ("chdb==4.4.0", "chdb-core==26.9.0")
_ARROW: Final = {"Accept": "application/vnd.apache.arrow.stream"}

Answer = tuple[float, int]  # ms, rows


class Contestant(Protocol):
    """One that is asked."""

    def ask(self, asked: Sequence[Question], clients: int) -> list[Answer]:
        """Every question once, by so many clients at once."""
        ...


class _Threads(ABC):
    """A contestant whose clients are threads of this process."""

    def ask(self, asked: Sequence[Question], clients: int) -> list[Answer]:
        """Every question once, by so many clients at once."""
        with ThreadPoolExecutor(clients) as pool:
            return list(pool.map(self._timed, asked))

    def _timed(self, question: Question) -> Answer:
        began = time.perf_counter()
        found = self.answer(question)
        return (time.perf_counter() - began) * 1000, found.num_rows

    @abstractmethod
    def answer(self, question: Question) -> pa.Table:
        """As Arrow."""


class Http(_Threads):
    """K2's API. Each client keeps its connection; an answer counts when it is a table in the client's hands."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._address = parts.hostname or "", parts.port
        self._own = threading.local()

    def answer(self, question: Question) -> pa.Table:
        """As Arrow."""
        path = _path(question)
        if not hasattr(self._own, "connection"):
            self._own.connection = http.client.HTTPConnection(*self._address, timeout=120)
        connection: http.client.HTTPConnection = self._own.connection
        connection.request("GET", path, headers=_ARROW)
        response = connection.getresponse()
        if response.status != 200:
            raise BenchFailed(f"{path}: {response.status} {response.read()[:300]!r}")
        with pa.ipc.open_stream(response) as batches:
            found = batches.read_all()
        response.read()  # the end of the body, so that the connection can be used again
        return found


def _path(question: Question) -> str:
    start, end = (at.strftime("%Y-%m-%dT%H:%M:%SZ") for at in (question.start, question.end))
    words = {"symbol": question.symbol, "start": start, "end": end}
    match question.kind:
        case Kind.PRICE:
            return f"/v1/price?{urlencode({'at': end})}"
        case Kind.BARS:
            return f"/v1/ohlcv?{urlencode(words | {'interval': '1m'})}"
        case Kind.RECENT:
            return f"/v1/trades?{urlencode(words | {'hybrid': 'true'})}"
    return f"/v1/trades?{urlencode(words)}"


class DuckDB(_Threads):
    """DuckDB straight on the files, of which it is told only those of the hours in question: the floor."""

    def __init__(self, files: Mapping[datetime, Sequence[str]]) -> None:
        self._files = files
        self._connection = duckdb.connect()

    def answer(self, question: Question) -> pa.Table:
        """As Arrow."""
        with self._connection.cursor() as cursor:
            cursor.execute("SET TimeZone = 'UTC'")
            return cursor.sql(questions.duckdb(question, self._files)).to_arrow_table()


class PyIceberg(_Threads):
    """PyIceberg on a table that is loaded already, and Arrow for what must be computed."""

    def __init__(self, table: "Table") -> None:
        self._table = table

    def answer(self, question: Question) -> pa.Table:
        """As Arrow, in order of time."""
        start, end = question.start.isoformat(), question.end.isoformat()
        rows = f"timestamp >= '{start}' and timestamp < '{end}'"
        rows += f" and symbol = '{question.symbol}'" if question.symbol else ""
        found = self._table.scan(rows, selected_fields=_fields(question)).to_arrow().sort_by("timestamp")
        # Arrow has no first and last of decimals.
        found = found.append_column("rounded", pc.cast(found.column("price"), pa.float64()))
        match question.kind:
            case Kind.PRICE:
                return found.group_by(["exchange", "symbol"], use_threads=False).aggregate([("rounded", "last")])
            case Kind.BARS:
                minutes = pc.floor_temporal(found.column("timestamp"), unit="minute")
                keys = ["exchange", "symbol", "start"]
                figures = [("rounded", "first"), ("price", "max"), ("price", "min"), ("rounded", "last")]
                figures += [("quantity", "sum"), ("quantity", "count")]
                return found.append_column("start", minutes).group_by(keys, use_threads=False).aggregate(figures)
        return found.drop_columns("rounded")


def _fields(question: Question) -> tuple[str, ...]:
    match question.kind:
        case Kind.PRICE:
            return "exchange", "symbol", "timestamp", "price"
        case Kind.BARS:
            return "exchange", "symbol", "timestamp", "price", "quantity"
    return tuple(COLUMNS.split(", "))


class ClickHouse(AbstractContextManager["ClickHouse"]):
    """ClickHouse as a library in a process of its own, with the trades loaded into a table of its own."""

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
        told = self._read()
        self.version, self.seconds = told["version"], told["seconds"]
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

    def ask(self, asked: Sequence[Question], clients: int) -> list[Answer]:
        """Every question once, by so many clients at once."""
        assert self._process.stdin is not None
        statements = [questions.clickhouse(question, "bench.gold") for question in asked]
        self._process.stdin.write(json.dumps({"clients": clients, "statements": statements}) + "\n")
        self._process.stdin.flush()
        return [(took, rows) for took, rows in self._read()]

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise BenchFailed(f"ClickHouse ended: {last_words(self._log)}")
        return json.loads(line)
