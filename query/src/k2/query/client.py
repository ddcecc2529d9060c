"""A client of the HTTP API: a question, and a `pyarrow.Table`. Answers come as Arrow, so nothing in them is lost.

    with Client("http://127.0.0.1:8000") as k2:
        frame = k2.trades(symbol="BTCUSDT", window_minutes=60).to_pandas()

`polars.from_arrow(...)` and DuckDB take the tables as they are.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

import httpx2 as httpx

from k2.query import times

if TYPE_CHECKING:
    from pyarrow import RecordBatch, RecordBatchReader, Table

_ARROW: Final = "application/vnd.apache.arrow.stream"
_TIMEOUT: Final = 60.0
_PIECE: Final = 1 << 20

When = datetime | str
Then = datetime | str | int


class ApiError(Exception):
    """The API refused, or could not answer: its status, and the sentence that says why."""

    def __init__(self, status: int, detail: str, retry_after: float | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail
        self.retry_after = retry_after  # seconds; None where nothing changes by waiting


class Unreachable(ApiError):
    """There is no API at this address, or the connection broke before the answer was whole."""

    def __init__(self, detail: str) -> None:
        super().__init__(0, detail)


class Client:
    """Asks one API. Raises `ApiError` for whatever is not an answer; what is returned is whole."""

    def __init__(self, url: str, key: str | None = None, *, timeout: float = _TIMEOUT) -> None:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout)

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of the connection."""
        self._http.close()

    def trades(
        self,
        *,
        symbol: str | None = None,
        exchange: str | None = None,
        start: When | None = None,
        end: When | None = None,
        window_minutes: float | None = None,
        limit: int | None = None,
        as_of: Then | None = None,
        hybrid: bool = False,
    ) -> "Table":
        """Trades in order of time: all, or at most `limit`."""
        return self._table(
            "/v1/trades",
            symbol=symbol,
            exchange=exchange,
            start=start,
            end=end,
            window_minutes=window_minutes,
            limit=limit,
            as_of=as_of,
            hybrid=hybrid or None,
        )

    def trades_batches(self, **query: Any) -> "Iterator[RecordBatch]":
        """What `trades` gives, batch by batch, for what is too large to be held whole."""
        with self._reader("GET", "/v1/trades", params=_told(query)) as reader:
            yield from reader

    def ohlcv(
        self,
        symbol: str,
        interval: str = "1m",
        *,
        exchange: str | None = None,
        start: When | None = None,
        end: When | None = None,
        as_of: Then | None = None,
        hybrid: bool = False,
    ) -> "Table":
        """Bars of a symbol, in order of time."""
        told = {"exchange": exchange, "start": start, "end": end, "as_of": as_of, "hybrid": hybrid or None}
        return self._table("/v1/ohlcv", symbol=symbol, interval=interval, **told)

    def price(
        self, symbol: str | None = None, *, at: When | None = None, within_minutes: float | None = None
    ) -> "Table":
        """The price of one symbol or of all at a moment, or now."""
        return self._table("/v1/price", symbol=symbol, at=at, within_minutes=within_minutes)

    def symbols(self) -> "Table":
        """Every symbol of every exchange."""
        return self._table("/v1/symbols")

    def snapshots(self, table: str | None = None) -> "Table":
        """A table's snapshots, oldest first."""
        return self._table("/v1/snapshots", table=table)

    def completeness(self, **query: Any) -> "Table":
        """A row a symbol and hour, as the audit judged it."""
        return self._table("/v1/completeness", **query)

    def gaps(self, **query: Any) -> "Table":
        """Gaps, the newest first."""
        return self._table("/v1/gaps", **query)

    def sql(self, statement: str, *, as_of: Then | None = None, limit: int | None = None) -> "Table":
        """What one SELECT over the tables gives."""
        told = {"as_of": None if as_of is None else _text(as_of), "limit": limit}
        body = {"statement": statement} | {name: value for name, value in told.items() if value is not None}
        with self._reader("POST", "/v1/sql", json=body) as reader:
            return reader.read_all()

    def _table(self, path: str, **query: Any) -> "Table":
        with self._reader("GET", path, params=_told(query)) as reader:
            return reader.read_all()

    @contextmanager
    def _reader(self, method: str, path: str, **request: Any) -> "Iterator[RecordBatchReader]":
        import pyarrow as pa

        try:
            with self._http.stream(method, path, headers={"Accept": _ARROW}, **request) as answer:
                if answer.status_code != httpx.codes.OK:
                    answer.read()
                    raise _error(answer)
                with pa.ipc.open_stream(pa.PythonFile(_Body(answer.iter_bytes(_PIECE)), mode="r")) as reader:
                    yield reader
        except (httpx.TransportError, pa.ArrowInvalid, OSError) as error:
            raise Unreachable(f"{self._http.base_url} did not answer, or not to the end: {error}") from error


class _Body:
    """The bytes of an answer as a file."""

    closed = False

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._held = memoryview(b"")

    def read(self, size: int = -1) -> bytes:
        """So many bytes, fewer only at the end."""
        found: list[memoryview] = []
        while size:
            if not self._held:
                piece = next(self._pieces, None)
                if piece is None:
                    break
                self._held = memoryview(piece)
            part = self._held if size < 0 else self._held[:size]
            self._held = self._held[len(part) :]
            found.append(part)
            size -= len(part) if size > 0 else 0
        return b"".join(found)

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Never."""
        return False

    def close(self) -> None:
        """The answer is closed by whoever opened it."""


def _told(query: Mapping[str, Any]) -> dict[str, str | int | float | bool]:
    return {name: _text(value) for name, value in query.items() if value is not None}


def _text(value: Any) -> Any:
    if isinstance(value, datetime):
        return times.text(times.aware(value, "a time"))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _error(answer: Any) -> ApiError:
    try:
        detail = str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        detail = f"{answer.status_code} {answer.reason_phrase}"
    after = answer.headers.get("retry-after", "")
    return ApiError(answer.status_code, detail, float(after) if after.isdigit() else None)
