"""One process of a statement, as the server sees it: ask it to parse, let it run, read its rows, end it."""

from __future__ import annotations

import json
import pickle
import weakref
from concurrent.futures import Future, TimeoutError  # noqa: A004 - its own class before Python 3.11
from typing import TYPE_CHECKING, Any, Final

from k2.query.errors import BadStatement, TooLarge, Unavailable
from k2.query.sql.cage import frames
from k2.query.sql.cage.diagnosis import sentences
from k2.query.sql.cage.frames import FrameTooLarge, Kind

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Collection, Iterator

    from pyarrow import RecordBatch, RecordBatchReader

    from k2.query.sql.cage.diagnosis.positions import Position
    from k2.query.sql.cage.job import Job
    from k2.query.sql.cage.limits import Limits

_MAX_TREE_BYTES: Final = 16_000_000  # of a parsed statement, as JSON
_MAX_ERROR_BYTES: Final = 100_000
_ENDS_WITHIN: Final = 10.0  # seconds between the end of the channel and the news of the process's end


def _nowhere(_: int | None) -> None:
    """Return the position of an error where the statement is none of a user's."""


class StatementProcess:
    """A process that serves one statement. Thread-safe to interrupt; its methods are called by one thread."""

    def __init__(self, channel: socket.socket, limits: Limits, kill: Callable[[], None]) -> None:
        self._channel, self._limits, self._kill = channel, limits, kill
        self.exit: Future[int] = Future()  # negative: the signal that ended it
        self.started: Future[int] = Future()  # its pid
        self._finalizer = weakref.finalize(self, _release, channel, kill)
        self._interrupted = False
        self._position: Callable[[int | None], Position | None] = _nowhere
        self._columns: Collection[str] = ()

    def interrupt(self) -> None:
        """End the process at once, whatever it does."""
        self._interrupted = True
        self._kill()

    def close(self) -> None:
        """End the process and release its channel."""
        self._finalizer()

    def ready(self) -> dict[str, Any]:
        """Wait until it is confined; return how."""
        return self._json(Kind.PARSED, _MAX_ERROR_BYTES)

    def parse(self, statement: str) -> dict[str, Any]:
        """Return what DuckDB's parser makes of a text: the tree as JSON, or the types of its statements and tokens."""
        self._send(Kind.PARSE, statement.encode())
        answer = self._json(Kind.PARSED, _MAX_TREE_BYTES)
        if error := answer.get("error"):
            raise self._error(error)
        return answer

    def run(
        self, job: Job, position: Callable[[int | None], Position | None] = _nowhere, columns: Collection[str] = ()
    ) -> RecordBatchReader:
        """Run a statement and return its rows as they come; the process ends after the last.

        Args:
            job: What to run.
            position: Where a byte of the job's statement is in what its user wrote, for errors.
            columns: Of the tables that the statement reads, for the nearest name of an unknown one.

        """
        import pyarrow as pa

        self._position, self._columns = position, columns
        self._send(Kind.RUN, pickle.dumps(job, pickle.HIGHEST_PROTOCOL))
        rows = pa.ipc.open_stream(pa.PythonFile(_Received(self), "r"))

        def batches() -> Iterator[RecordBatch]:
            try:
                for batch in rows:
                    batch.validate(full=True)
                    yield batch
            except pa.ArrowException as error:
                raise Unavailable("the process of the statement sent no valid Arrow stream") from error
            finally:
                self.close()

        return pa.RecordBatchReader.from_batches(rows.schema, batches())

    def receive(self) -> memoryview | None:
        """Return the next bytes of the result; None after the last."""
        kind, payload = self._receive(self._limits.row_bytes + _MAX_ERROR_BYTES)
        if kind is Kind.DATA:
            return memoryview(payload)
        if kind is Kind.END:
            return None
        raise self._error(json.loads(payload))

    @property
    def limits(self) -> Limits:
        """The limits of the statement."""
        return self._limits

    def _json(self, expected: Kind, largest: int) -> dict[str, Any]:
        try:
            kind, payload = self._receive(largest)
        except FrameTooLarge:
            raise TooLarge("the statement is too complex; shorten it") from None
        assert kind is expected, kind
        answer: dict[str, Any] = json.loads(payload)
        return answer

    def _send(self, kind: Kind, payload: bytes) -> None:
        try:
            frames.send(self._channel, kind, payload)
        except OSError as error:
            raise self._ended() from error

    def _receive(self, largest: int) -> tuple[Kind, bytearray]:
        try:
            return frames.receive(self._channel, largest)
        except FrameTooLarge:
            self._kill()
            raise
        except (EOFError, OSError) as error:
            raise self._ended() from error

    def _ended(self) -> Exception:
        """Return why the process has ended."""
        if self._interrupted:
            return Unavailable("the query was cancelled")
        try:
            return self._limits.exceeded(self.exit.result(_ENDS_WITHIN))
        except TimeoutError:
            return Unavailable("the process of the statement does not answer")

    def _error(self, error: dict[str, Any]) -> Exception:
        match error["kind"]:
            case "memory":
                return self._limits.out_of_memory()
            case "row":
                return self._limits.row_too_large()
            case "files":
                return Unavailable(f"the files of the statement cannot be read: {error['message']}")
        return BadStatement(sentences.executing(error, self._columns), self._position(error.get("offset")))


class _Received:
    """The file that Arrow reads from: the bytes that the process sends, within the limit of a result."""

    closed = False

    def __init__(self, process: StatementProcess) -> None:
        self._process = process
        self._rest: memoryview | None = memoryview(b"")
        self._remaining = process.limits.output_bytes

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes; fewer only at the end."""
        parts: list[memoryview] = []
        while size > 0 and self._rest is not None:
            if not self._rest:
                self._rest = self._process.receive()
                self._remaining -= len(self._rest or b"")
                if self._remaining < 0:
                    self._process.interrupt()
                    raise self._process.limits.too_much_output()
                continue
            parts.append(self._rest[:size])
            self._rest = self._rest[len(parts[-1]) :]
            size -= len(parts[-1])
        return b"".join(parts)

    def readable(self) -> bool:
        """Return True."""
        return True

    def writable(self) -> bool:
        """Return False."""
        return False

    def seekable(self) -> bool:
        """Return False."""
        return False

    def close(self) -> None:
        """Do nothing: the process is closed by its reader."""


def _release(channel: socket.socket, kill: Callable[[], None]) -> None:
    kill()
    channel.close()
