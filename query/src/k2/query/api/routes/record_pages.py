"""Pages of records that never shift, or the whole result as a stream: what the routes of channels share."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Final
from urllib.parse import urlencode

from fastapi import HTTPException
from fastapi.requests import Request
from pydantic import Field

from k2.query import times
from k2.query.api.delivery.responses import StreamedResponse
from k2.query.api.dependencies import Slot
from k2.query.api.encoding import cursors
from k2.query.api.encoding.cursors import Cursor
from k2.query.api.encoding.formats import MediaType
from k2.query.api.encoding.results import NO_STORE, AcceptedFormat, QueryResult, cache_headers, make_etag, not_modified
from k2.query.api.parameters import RangeParameters, Symbol
from k2.query.api.settings import MAX_PAGE_ROWS
from k2.query.errors import BadQuery
from k2.query.sql.record_list import RecordList
from k2.query.times import AsOf

if TYPE_CHECKING:
    from pyarrow import Table

    from k2.query.engine import Engine
    from k2.query.execution.record_scan import RecordsQuery

_DEFAULT_LIMIT: Final = 1000
_MAX_LIMIT: Final = 10**12
_MINUTE: Final = 60.0
_MAX_WINDOW: Final = 100 * 366 * 24 * _MINUTE


@dataclass(frozen=True, slots=True)
class PageRange:
    """The snapshot and time range that all pages of one query share."""

    snapshot: int | None  # None: there is none yet, or the query is hybrid
    start: datetime | None
    end: datetime | None


class PageParameters(RangeParameters):
    """Query parameters of records in pages."""

    symbol: Symbol | None = None
    window_minutes: Annotated[
        float | None,
        Field(gt=0, le=_MAX_WINDOW, description="instead of start: this many minutes before end, or before now"),
    ] = None
    limit: Annotated[
        int | None,
        Field(
            ge=1,
            le=_MAX_LIMIT,
            description=f"rows of a page, at most {MAX_PAGE_ROWS}; more only as CSV, Parquet or Arrow",
        ),
    ] = None
    cursor: Annotated[str | None, Field(max_length=4096, description="where the page begins, taken from `next`")] = None
    hybrid: Annotated[bool, Field(description="include records that are in Kafka but not yet in Gold; not cached")] = (
        False
    )

    @property
    def identity(self) -> dict[str, str | None]:
        """The parameters that a cursor is bound to: all but the page size."""
        window = str(self.window_minutes) if self.window_minutes is not None else None
        return {
            "symbol": self.symbol and self.symbol.upper(),
            "exchange": self.exchange and self.exchange.lower(),
            "start": self.start,
            "end": self.end,
            "window_minutes": window,
            "as_of": self.as_of,
            "hybrid": "true" if self.hybrid else None,
        }


def respond(
    request: Request, query: PageParameters, accepted: AcceptedFormat, slot: Slot, records: RecordList
) -> StreamedResponse:
    """Answer a query for the records of a channel."""
    path = f"{request.scope.get('root_path', '')}/v1/{records.channel.name}"
    return slot.stream(_Pages(query, accepted, request.app.state.secret, path, records).run)


class _Pages:
    """The pages of one query for records."""

    def __init__(
        self, query: PageParameters, accepted: AcceptedFormat, secret: bytes, path: str, records: RecordList
    ) -> None:
        self._query, self._accepted, self._secret, self._path = query, accepted, secret, path
        self._records = records
        self._limit = _page_limit(query.limit, accepted.media_type, records)

    def run(self, engine: "Engine") -> QueryResult:
        query, channel = self._query, self._records.channel
        cursor = cursors.decode(query.cursor, self._bound_to(), self._secret) if query.cursor is not None else None
        start, end = (cursor.start, cursor.end) if cursor else _range(query)
        arguments: RecordsQuery = {"symbol": query.symbol, "exchange": query.exchange, "start": start, "end": end}
        arguments["beyond"] = cursor.place if cursor else None
        if query.hybrid:
            if query.as_of is not None:
                raise BadQuery("hybrid reads the present; remove as_of")
            arguments["hybrid"] = True
            return self._read(engine, arguments, PageRange(None, start, end), {"Cache-Control": NO_STORE})
        snapshot = cursor.snapshot_id if cursor else engine.snapshot_id(query.as_of_value, channel.gold.name)
        immutable = cursor is not None or (query.immutable and (query.window_minutes is None or query.end is not None))
        etag = make_etag(self._accepted, channel.name, snapshot, query.identity, start, end, self._limit, query.cursor)
        headers = cache_headers(etag, immutable=immutable) | {"K2-Snapshot": str(snapshot)}
        if self._accepted.matches(etag):
            return not_modified(headers)
        arguments["as_of"] = snapshot
        try:
            return self._read(engine, arguments, PageRange(snapshot, start, end), headers)
        except BadQuery as error:
            if cursor is not None and "has nothing as of" in str(error):
                raise HTTPException(
                    410, "the snapshot of this cursor has expired; start again without the cursor"
                ) from None
            raise

    def _read(
        self, engine: "Engine", arguments: "RecordsQuery", page_range: PageRange, headers: dict[str, str]
    ) -> QueryResult:
        channel, limit = self._records.channel, self._limit
        if limit is None or limit > MAX_PAGE_ROWS:
            return self._accepted.encode(engine.records_reader(channel, **arguments | {"limit": limit}), headers)
        table = engine.records_reader(channel, **arguments | {"limit": limit + 1}).read_all()
        return self._page(table, page_range, headers)

    def _page(self, table: "Table", page_range: PageRange, headers: dict[str, str]) -> QueryResult:
        assert self._limit is not None
        forward, more = page_range.start is not None, table.num_rows > self._limit
        if more:
            table = table.slice(0 if forward else 1, self._limit)
        link = self._next(table, page_range, last=forward) if more else None
        if link:
            headers["Link"] = f'<{link}>; rel="next"'
        envelope = {"next": link, "snapshot_id": page_range.snapshot and str(page_range.snapshot)}
        return self._accepted.encode(table.to_reader(), headers, lambda _: envelope, whole=True)

    def _next(self, table: "Table", page_range: PageRange, *, last: bool) -> str:
        (row,) = table.slice(table.num_rows - 1 if last else 0, 1).to_pylist()
        place = self._records.position_of(row)
        identity = self._query.identity
        cursor = cursors.encode(
            Cursor(page_range.snapshot, page_range.start, page_range.end, place.time, place.values),
            self._bound_to(),
            self._secret,
        )
        parameters = {name: value for name, value in identity.items() if value is not None}
        return f"{self._path}?{urlencode(parameters | {'limit': self._limit, 'cursor': cursor})}"

    def _bound_to(self) -> dict[str, str | None]:
        """Return what a cursor is valid for: this query of this channel."""
        return self._query.identity | {"channel": self._records.channel.name}


def _range(query: PageParameters) -> tuple[datetime | None, datetime | None]:
    start, end, as_of = query.start_time, query.end_time, query.as_of_value
    if query.window_minutes is None:
        return start, end
    return times.window_range(timedelta(minutes=query.window_minutes), start, end, _time_of(as_of))


def _time_of(as_of: AsOf | None) -> AsOf | None:
    return as_of if isinstance(as_of, datetime) else None


def _page_limit(limit: int | None, media_type: MediaType, records: RecordList) -> int | None:
    """Return the rows of a page; None: all, which JSON does not allow."""
    if media_type is not MediaType.JSON:
        return limit
    if limit is not None and limit > MAX_PAGE_ROWS:
        name = records.channel.name
        raise BadQuery(f"a JSON page has at most {MAX_PAGE_ROWS} {name}; follow next, or accept {MediaType.ARROW}")
    return limit or _DEFAULT_LIMIT
