"""The process of one statement: it parses, waits for the server's judgement, runs, sends the rows, and ends."""

from __future__ import annotations

import json
import os
import pickle
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import duckdb
import pyarrow as pa

from k2.query.sql.cage import frames, result_types
from k2.query.sql.cage.confinement import confine
from k2.query.sql.cage.frames import Kind
from k2.query.sql.quoting import quote_identifier, quote_literal

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from duckdb import DuckDBPyConnection, DuckDBPyRelation

    from k2.query.sql.cage.job import Job
    from k2.query.sql.cage.limits import Limits

_BATCH_ROWS: Final = 50_000
_MESSAGE_BYTES: Final = 4_000_000  # a larger batch is split, down to one row
_LARGEST_JOB: Final = 1 << 40
_ARROW_READ_ERROR: Final = "failed: IOError"  # how DuckDB passes on the error of a dataset
_MAX_MESSAGE: Final = 500  # characters of an error


def template() -> DuckDBPyConnection:
    """Open the database that every process of the fork server begins with. It starts no thread, so it can be forked."""
    connection = duckdb.connect(config={"threads": 1, "async_threads": 0, "temp_directory": ""})
    connection.execute("SET GLOBAL TimeZone = 'UTC'")
    connection.execute("SET GLOBAL errors_as_json = true")  # with positions
    connection.execute("SET GLOBAL lambda_syntax = 'ENABLE_SINGLE_ARROW'")  # x -> x + 1, beside lambda x: x + 1
    connection.execute("SELECT json_serialize_sql('SELECT 1')").fetchall()
    rows = connection.sql("SELECT now() AS at").to_arrow_reader(_BATCH_ROWS)
    schema = _with_utc(rows.schema)
    with pa.ipc.new_stream(pa.BufferOutputStream(), schema) as writer:  # what is imported late is imported now
        for batch in rows:
            writer.write_batch(batch.cast(schema))
    return connection


def run(channel: socket.socket, database: DuckDBPyConnection, limits: Limits, network: int | None) -> None:
    """Serve one statement and return."""
    protection = confine.start(limits, network)
    connection = database.cursor()  # its random numbers are its own
    _send_json(channel, Kind.PARSED, protection.as_dict())
    try:
        kind, payload = frames.receive(channel, _LARGEST_JOB)
        signal.setitimer(signal.ITIMER_REAL, limits.wall_seconds)
        while kind is Kind.PARSE:
            _send_json(channel, Kind.PARSED, _parse(connection, payload.decode()))
            kind, payload = frames.receive(channel, _LARGEST_JOB)
        job: Job = pickle.loads(payload)  # noqa: S301 - from the server
        _run(channel, connection, job, limits, network)
    except (EOFError, BrokenPipeError, ConnectionResetError):  # the server has lost interest
        return


def _parse(connection: DuckDBPyConnection, statement: str) -> dict[str, Any]:
    try:
        row = connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [statement]).fetchone()
        assert row is not None
        answer: dict[str, Any] = {"tree": row[0], "tokens": [], "types": []}
        if row[0].startswith('{"error":true'):
            with suppress(duckdb.Error):  # then the tree says what is wrong
                answer["types"] = [one.type.name for one in connection.extract_statements(statement)]
                answer["tokens"] = [[position, kind.name] for position, kind in duckdb.tokenize(statement)]
    except (duckdb.Error, MemoryError) as error:
        return {"error": _describe(error)}
    return answer


def _run(channel: socket.socket, connection: DuckDBPyConnection, job: Job, limits: Limits, network: int | None) -> None:
    try:
        _attach(connection, job, limits, network)
        rows = result_types.carried(_relation(connection, job.statement))
        wide = result_types.wide_columns(rows)
        reader = rows.to_arrow_reader(_BATCH_ROWS)
        schema = _with_utc(reader.schema)
        sink, most = _Stream(channel, limits.row_bytes), min(_MESSAGE_BYTES, limits.row_bytes // 2)
        with pa.ipc.new_stream(sink, schema) as writer:
            sink.flush()
            for batch in reader:
                result_types.check_wide(batch, wide)
                for piece in _split(batch.cast(schema) if batch.schema != schema else batch, most):
                    writer.write_batch(piece)
                    sink.flush()
        sink.flush()
        frames.send(channel, Kind.END)
    except result_types.Unrepresentable as error:
        _send_json(channel, Kind.ERROR, {"kind": "statement", "message": str(error)})
    except _RowTooLarge:
        _send_json(channel, Kind.ERROR, {"kind": "row", "message": ""})
    except (duckdb.Error, MemoryError, OSError, pa.ArrowException) as error:
        if isinstance(error, BrokenPipeError | ConnectionResetError):
            raise
        _send_json(channel, Kind.ERROR, _describe(error))


def _attach(connection: DuckDBPyConnection, job: Job, limits: Limits, network: int | None) -> None:
    os.chdir(job.folder)
    confine.narrow(job.readable, network)
    connection.execute(f"SET memory_limit = '{limits.memory}B'")
    connection.execute(f"SET threads = {os.cpu_count() or 1}")
    connection.execute(f"SET allowed_paths = [{', '.join(map(quote_literal, job.files))}]")
    connection.execute("SET enable_external_access = false")
    for name, select in job.views.items():
        connection.execute(f"CREATE TEMP VIEW {quote_identifier(name)} AS {select}")
    for name, files in job.remote.items():
        connection.register(name, files.open())
    for name, table in job.rows.items():
        connection.register(name, table)
    for definition in job.derived:
        connection.execute(definition)
    connection.execute("SET lock_configuration = true")


def _split(batch: pa.RecordBatch, most: int) -> Iterator[pa.RecordBatch]:
    """Halve a batch until each part has at most so many bytes, or one row."""
    if batch.num_rows > 1 and batch.nbytes > most:
        half = batch.num_rows // 2
        yield from _split(batch.slice(0, half), most)
        yield from _split(batch.slice(half), most)
    elif batch.num_rows:
        yield batch


def _with_utc(schema: pa.Schema) -> pa.Schema:
    """Name the time zone UTC, as Iceberg does, instead of DuckDB's Etc/UTC."""
    utc = pa.timestamp("us", "UTC")
    return pa.schema([one.with_type(utc) if one.type == pa.timestamp("us", "Etc/UTC") else one for one in schema])


class _RowTooLarge(Exception):
    """One row has more bytes than a message may have."""


class _Stream:
    """The file that Arrow writes to: what was written is sent as one message."""

    def __init__(self, channel: socket.socket, largest: int) -> None:
        self._channel, self._largest = channel, largest
        self._parts: list[memoryview] = []
        self.closed = False

    def write(self, data: Any) -> int:
        part = memoryview(data).cast("B")
        self._parts.append(memoryview(bytes(part)))
        return len(part)

    def flush(self) -> None:
        parts, self._parts = self._parts, []
        if sum(map(len, parts)) > self._largest:
            raise _RowTooLarge
        if parts:
            frames.send(self._channel, Kind.DATA, *parts)

    def close(self) -> None:
        self.closed = True

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False


def _relation(connection: DuckDBPyConnection, statement: str) -> DuckDBPyRelation:
    try:
        rows = connection.sql(statement)
    except duckdb.Error:
        connection.execute(statement).close()  # raises the same with its position
        raise
    assert rows is not None  # the server lets only statements pass that return rows
    return rows


def _describe(error: BaseException) -> dict[str, Any]:
    if isinstance(error, duckdb.OutOfMemoryException | MemoryError | pa.ArrowMemoryError):
        return {"kind": "memory", "message": ""}
    text, details = str(error), {}
    with suppress(ValueError):  # not JSON
        details = json.loads(text[text.index("{") :])
        text = details["exception_message"]
    text = text.partition("\n\nLINE ")[0].partition("Stack Trace:")[0]
    if isinstance(error, OSError) and error.filename:  # of Python itself, with an absolute path
        text = error.strerror or ""
    unreadable = isinstance(error, duckdb.IOException | duckdb.HTTPException | OSError)
    kind = "files" if unreadable or _ARROW_READ_ERROR in text else "statement"
    offset = int(details["position"]) if "position" in details else None
    message = " ".join(text.split())[:_MAX_MESSAGE]
    candidates = details.get("candidates", "")[:_MAX_MESSAGE]
    return {"kind": kind, "message": message, "offset": offset, "candidates": candidates}


def _send_json(channel: socket.socket, kind: Kind, value: Any) -> None:
    frames.send(channel, kind, json.dumps(value).encode())
