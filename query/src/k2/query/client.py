"""Client of the HTTP API: each method sends a query and returns a `pyarrow.Table`. Results come as Arrow, without loss.

    with Client("http://127.0.0.1:8000") as k2:
        frame = k2.trades(symbol="BTCUSDT", window_minutes=60).to_pandas()

`polars.from_arrow(...)` and DuckDB accept the tables directly.
"""

from __future__ import annotations

from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypedDict, Unpack

import httpx2 as httpx

from k2.query import times

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType

    from pyarrow import RecordBatch, RecordBatchReader, Table

_ARROW: Final = "application/vnd.apache.arrow.stream"
_TIMEOUT_SECONDS: Final = 60.0
_CHUNK_BYTES: Final = 1 << 20

Time = datetime | str
AsOf = datetime | str | int


class RecordsParameters(TypedDict, total=False):
    """What selects records: None is no condition."""

    symbol: str | None
    exchange: str | None
    start: Time | None
    end: Time | None
    window_minutes: float | None
    limit: int | None
    as_of: AsOf | None
    hybrid: bool  # with those that are in Kafka but not yet in Gold


class ApiError(Exception):
    """The API rejected the request or failed; `status` is the HTTP status and `detail` the reason."""

    def __init__(self, status: int, detail: str, retry_after: float | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail
        self.retry_after = retry_after  # seconds; None if retrying does not help


class Unreachable(ApiError):
    """No API answered at this address, or the connection broke before the response was complete."""

    def __init__(self, detail: str) -> None:
        super().__init__(0, detail)


class Client:
    """Query one API. Methods raise `ApiError` for any response other than a complete result.

    Args:
        url: The API's base URL.
        key: The API key, if the API requires one.
        timeout: Seconds to wait for each step of a request.

    """

    def __init__(self, url: str, key: str | None = None, *, timeout: float = _TIMEOUT_SECONDS) -> None:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def trades(self, **query: Unpack[RecordsParameters]) -> Table:
        """Return trades in order of time: all, or at most `limit`."""
        return self._table("/v1/trades", **query)

    def quotes(self, **query: Unpack[RecordsParameters]) -> Table:
        """Return best bids and asks in order of time: all, or at most `limit`."""
        return self._table("/v1/quotes", **query)

    def quotes_batches(self, **query: Unpack[RecordsParameters]) -> Iterator[RecordBatch]:
        """Yield the rows of `quotes` batch by batch, for results too large for memory."""
        with self._reader("GET", "/v1/quotes", params=_parameters(query)) as reader:
            yield from reader

    def book(
        self,
        symbol: str,
        *,
        exchange: str | None = None,
        at: Time | None = None,
        start: Time | None = None,
        end: Time | None = None,
        interval: str | None = None,
        depth: int | None = None,
        as_of: AsOf | None = None,
        hybrid: bool = False,
    ) -> Table:
        """Return order books, a row each: at an instant or now, or at an interval from `start` to before `end`."""
        parameters = {"at": at, "start": start, "end": end, "interval": interval, "depth": depth, "as_of": as_of}
        return self._table("/v1/book", symbol=symbol, exchange=exchange, hybrid=hybrid or None, **parameters)

    def trades_batches(self, **query: Unpack[RecordsParameters]) -> Iterator[RecordBatch]:
        """Yield the rows of `trades` batch by batch, for results too large for memory."""
        with self._reader("GET", "/v1/trades", params=_parameters(query)) as reader:
            yield from reader

    def ohlcv(
        self,
        symbol: str | Sequence[str],
        interval: str | None = None,
        *,
        bars: str | None = None,
        tz: str | None = None,
        exchange: str | None = None,
        start: Time | None = None,
        end: Time | None = None,
        limit: int | None = None,
        fill: str | None = None,
        as_of: AsOf | None = None,
        hybrid: bool = False,
    ) -> Table:
        """Return the bars of one symbol or several in order of time: of an interval, by default 1m, or of a rule.

        Args:
            symbol: A symbol, or several.
            interval: 1s to 1d, dividing a day evenly, 1w or 1M.
            bars: Instead of an interval, what ends a bar, such as tick:1000.
            tz: The IANA time zone at whose midnight bars begin; UTC by default.
            exchange: Only this exchange.
            start: The inclusive start.
            end: The exclusive end.
            limit: The newest intervals, or the newest bars of a rule.
            fill: The rows of intervals without trades: none, null or previous.
            as_of: Read the tables as of this time, snapshot or tag.
            hybrid: Include trades that are in Kafka but not yet in Gold.

        """
        symbols = symbol if isinstance(symbol, str) else ",".join(symbol)
        named = {"interval": interval, "bars": bars, "tz": tz, "limit": limit, "fill": fill, "as_of": as_of}
        return self._table(
            "/v1/ohlcv", symbol=symbols, exchange=exchange, start=start, end=end, hybrid=hybrid or None, **named
        )

    def price(self, symbol: str | None = None, *, at: Time | None = None, within_minutes: float | None = None) -> Table:
        """Return the price of one symbol, or of all, at a time or now."""
        return self._table("/v1/price", symbol=symbol, at=at, within_minutes=within_minutes)

    def symbols(self) -> Table:
        """Return every symbol of every exchange."""
        return self._table("/v1/symbols")

    def instruments(self, *, exchange: str | None = None, symbol: str | None = None, at: Time | None = None) -> Table:
        """Return the instruments of exchanges as they were valid at a time or are now."""
        return self._table("/v1/instruments", exchange=exchange, symbol=symbol, at=at)

    def snapshots(self, table: str | None = None) -> Table:
        """Return a table's snapshots, oldest first."""
        return self._table("/v1/snapshots", table=table)

    def completeness(self, **query: Any) -> Table:
        """Return the audit's result, a row per symbol and hour."""
        return self._table("/v1/completeness", **query)

    def gaps(self, **query: Any) -> Table:
        """Return gaps, newest first."""
        return self._table("/v1/gaps", **query)

    def sql(self, statement: str, *, as_of: AsOf | None = None, limit: int | None = None) -> Table:
        """Return the rows of one SELECT over the tables."""
        parameters = {"as_of": None if as_of is None else _text(as_of), "limit": limit}
        body = {"statement": statement} | {name: value for name, value in parameters.items() if value is not None}
        with self._reader("POST", "/v1/sql", json=body) as reader:
            return reader.read_all()

    def _table(self, path: str, **query: Any) -> Table:
        with self._reader("GET", path, params=_parameters(query)) as reader:
            return reader.read_all()

    @contextmanager
    def _reader(self, method: str, path: str, **request: Any) -> Iterator[RecordBatchReader]:
        import pyarrow as pa

        try:
            with self._http.stream(method, path, headers={"Accept": _ARROW}, **request) as response:
                if response.status_code != httpx.codes.OK:
                    response.read()
                    raise _error(response)
                with pa.ipc.open_stream(pa.PythonFile(_Body(response.iter_bytes(_CHUNK_BYTES)), mode="r")) as reader:
                    yield reader
        except (httpx.TransportError, pa.ArrowInvalid, OSError) as error:
            raise Unreachable(f"{self._http.base_url} did not send a complete response: {error}") from error


class _Body:
    """A response's bytes as a file object."""

    closed = False

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")

    def read(self, size: int = -1) -> bytes:
        """Read `size` bytes, fewer only at the end."""
        parts: list[memoryview] = []
        while size:
            if not self._rest:
                chunk = next(self._chunks, None)
                if chunk is None:
                    break
                self._rest = memoryview(chunk)
            part = self._rest if size < 0 else self._rest[:size]
            self._rest = self._rest[len(part) :]
            parts.append(part)
            size -= len(part) if size > 0 else 0
        return b"".join(parts)

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return False."""
        return False

    def close(self) -> None:
        """Do nothing: the response is closed by its context manager."""


def _parameters(query: Mapping[str, Any]) -> dict[str, str | int | float | bool]:
    return {name: _text(value) for name, value in query.items() if value is not None}


def _text(value: Any) -> Any:
    if isinstance(value, datetime):
        return times.to_rfc3339(times.to_utc(value, "a time"))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _error(response: Any) -> ApiError:
    try:
        detail = str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        detail = f"{response.status_code} {response.reason_phrase}"
    after = response.headers.get("retry-after", "")
    return ApiError(response.status_code, detail, float(after) if after.isdigit() else None)
