"""`/v1/trades`: pages that never shift, or the whole answer as a stream."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query
from fastapi.requests import Request
from pydantic import Field

from k2.query import times
from k2.query.api import caching
from k2.query.api.auth import requires
from k2.query.api.encoding import cursors, response_models
from k2.query.api.encoding.cursors import Cursor
from k2.query.api.encoding.formats import Media
from k2.query.api.errors import Refused
from k2.query.api.keys import Scope
from k2.query.api.parameters import RangeParameters, Symbol
from k2.query.api.responses import NEVER, Answer, Reply, Wish, asking
from k2.query.api.settings import PAGE
from k2.query.errors import BadQuery
from k2.query.times import AsOf

if TYPE_CHECKING:
    from pyarrow import Table

    from k2.query.engine import Engine

router = APIRouter(tags=["trades"], dependencies=[Depends(requires(Scope.READ))])
_USUAL: Final = 1000
_MOST: Final = 10**12
_MINUTE: Final = 60.0
_YEARS: Final = 100 * 366 * 24 * _MINUTE


@dataclass(frozen=True, slots=True)
class Range:
    """What the pages of one answer have in common."""

    snapshot: int | None
    start: datetime | None
    end: datetime | None


class TradesParameters(RangeParameters):
    """What `/v1/trades` can be asked."""

    symbol: Symbol | None = None
    window_minutes: Annotated[
        float | None, Field(gt=0, le=_YEARS, description="instead of start: so long before end, or before now")
    ] = None
    limit: Annotated[
        int | None,
        Field(ge=1, le=_MOST, description=f"rows of a page, at most {PAGE}; CSV, Parquet and Arrow may ask for more"),
    ] = None
    cursor: Annotated[str | None, Field(max_length=4096, description="where the page begins, as `next` told it")] = None
    hybrid: Annotated[bool, Field(description="and what Kafka has that Gold has not yet; one page, never kept")] = False

    @property
    def asked(self) -> dict[str, str | None]:
        """The question that a cursor belongs to: all but the length of a page."""
        window = str(self.window_minutes) if self.window_minutes is not None else None
        return {
            "symbol": self.symbol and self.symbol.upper(),
            "exchange": self.exchange and self.exchange.lower(),
            "start": self.start,
            "end": self.end,
            "window_minutes": window,
            "as_of": self.as_of,
        }


@router.get("/v1/trades", responses=response_models.rows(response_models.TradesPage), name="trades")
async def trades(request: Request, query: Annotated[TradesParameters, Query()]) -> Answer:
    """Trades in order of time, then of their number.

    With `start` or `window_minutes` a page holds the first trades of the range, and `next` those after them; without,
    it holds the newest, and `next` those before them. `next` is null on the last page. All pages are of one snapshot.
    """
    wish, state = Wish.of(request), request.app.state
    if query.hybrid:
        return asking(request, lambda engine: _hybrid(engine, query, wish))
    pages = _Pages(query, wish, state.secret, request.scope.get("root_path", "") + "/v1/trades")
    return asking(request, pages.reply)


class _Pages:
    """One request for trades."""

    def __init__(self, query: TradesParameters, wish: Wish, secret: bytes, path: str) -> None:
        self._query, self._wish, self._secret, self._path = query, wish, secret, path
        self._limit = _length(query.limit, wish.media)

    def reply(self, engine: "Engine") -> Reply:
        query, wish = self._query, self._wish
        cursor = cursors.read(query.cursor, query.asked, self._secret) if query.cursor is not None else None
        start, end = (cursor.start, cursor.end) if cursor else _range(query)
        snapshot = cursor.snapshot_id if cursor else engine.snapshot_id(query.then)
        pinned = cursor is not None or (query.settled and (query.window_minutes is None or query.end is not None))
        etag = caching.tag(wish, "trades", snapshot, query.asked, start, end, self._limit, query.cursor)
        headers = caching.kept(etag, for_ever=pinned) | {"K2-Snapshot": str(snapshot)}
        if wish.unchanged(etag):
            return caching.unchanged(headers)
        found: dict[str, Any] = {"symbol": query.symbol, "exchange": query.exchange, "start": start, "end": end}
        found |= {"as_of": snapshot, "beyond": cursor.place if cursor else None}
        try:
            if self._limit is None or self._limit > PAGE:
                return wish.reply(engine.trades_reader(**found, limit=self._limit), headers)
            table = engine.trades(**found, limit=self._limit + 1)
        except BadQuery as error:
            if cursor is not None and "has nothing as of" in str(error):
                raise Refused(410, "the snapshot of this cursor has expired; begin again without it") from None
            raise
        return self._page(table, Range(snapshot, start, end), headers)

    def _page(self, table: "Table", pinned: Range, headers: dict[str, str]) -> Reply:
        assert self._limit is not None
        forward, more = pinned.start is not None, table.num_rows > self._limit
        if more:
            table = table.slice(0 if forward else 1, self._limit)
        link = self._next(table, pinned, last=forward) if more else None
        if link:
            headers["Link"] = f'<{link}>; rel="next"'
        told = {"next": link, "snapshot_id": pinned.snapshot and str(pinned.snapshot)}
        return self._wish.reply(table.to_reader(), headers, lambda _: told, whole=True)

    def _next(self, table: "Table", pinned: Range, *, last: bool) -> str:
        (row,) = table.slice(table.num_rows - 1 if last else 0, 1).to_pylist()
        assert pinned.snapshot is not None
        place = (row["timestamp"], row["trade_id"], row["exchange"], row["symbol"])
        asked = self._query.asked
        cursor = cursors.write(Cursor(pinned.snapshot, pinned.start, pinned.end, *place), asked, self._secret)
        told = {name: value for name, value in asked.items() if value is not None}
        return f"{self._path}?{urlencode(told | {'limit': self._limit, 'cursor': cursor})}"


def _hybrid(engine: "Engine", query: TradesParameters, wish: Wish) -> Reply:
    """One page with what Kafka has. It cannot be asked for again, so it has no cursor and is never kept."""
    if query.cursor is not None or query.as_of is not None:
        raise BadQuery("hybrid is about now; leave as_of and cursor out")
    limit = _length(query.limit, wish.media)
    start, end = _range(query)
    found: dict[str, Any] = {"symbol": query.symbol, "exchange": query.exchange, "start": start, "end": end}
    if limit is None or limit > PAGE:
        return wish.reply(engine.trades_reader(**found, limit=limit, hybrid=True), {"Cache-Control": NEVER})
    table = engine.trades(**found, limit=limit + 1, hybrid=True)
    if table.num_rows > limit and start is not None:
        raise BadQuery(f"there are more than {limit} trades, and a hybrid answer is one page; shorten the range")
    table = table.slice(max(0, table.num_rows - limit))
    told = {"next": None, "snapshot_id": None}
    return wish.reply(table.to_reader(), {"Cache-Control": NEVER}, lambda _: told, whole=True)


def _range(query: TradesParameters) -> tuple[datetime | None, datetime | None]:
    start, end, then = query.first, query.last, query.then
    if query.window_minutes is None:
        return start, end
    return times.window(timedelta(minutes=query.window_minutes), start, end, _moment(then))


def _moment(then: AsOf | None) -> AsOf | None:
    return then if isinstance(then, datetime) else None


def _length(limit: int | None, media: Media) -> int | None:
    """Rows of a page; None: all, which JSON cannot ask for."""
    if media is not Media.JSON:
        return limit
    if limit is not None and limit > PAGE:
        raise BadQuery(f"a page of JSON holds at most {PAGE} trades; follow next, or accept {Media.ARROW}")
    return limit or _USUAL
