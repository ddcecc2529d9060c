"""`/v1/book`: the order book at an instant, or at regular instants of a range."""

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Final

from fastapi import APIRouter, Depends, Query
from pydantic import Field

from k2.query.api.auth import requires
from k2.query.api.delivery.responses import StreamedResponse
from k2.query.api.dependencies import Accepted, Slot
from k2.query.api.encoding import response_models
from k2.query.api.encoding.results import NO_STORE, AcceptedFormat, QueryResult
from k2.query.api.keys import Scope
from k2.query.api.parameters import RangeParameters, Symbol, Time, parse_time
from k2.query.book.reader import BookQuery
from k2.query.candles.intervals import parse_length
from k2.query.errors import BadQuery

if TYPE_CHECKING:
    from k2.query.engine import Engine

router = APIRouter(tags=["book"], dependencies=[Depends(requires(Scope.READ))])
_MAX_DEPTH: Final = 1_000_000
_MINUTE: Final = timedelta(minutes=1)


class BookParameters(RangeParameters):
    """Query parameters of `/v1/book`."""

    symbol: Symbol
    at: Annotated[Time | None, Field(description="the instant; default: now")] = None
    interval: Annotated[
        str | None, Field(max_length=16, description="with start and end: a book each 1s, 1m, ...; default 1m")
    ] = None
    depth: Annotated[int | None, Field(ge=1, le=_MAX_DEPTH, description="levels of each side; default: all")] = None
    hybrid: Annotated[bool, Field(description="include messages that are in Kafka but not yet in Gold; not cached")] = (
        False
    )


@router.get("/v1/book", responses=response_models.row_responses(response_models.Books), name="book")
async def book(query: Annotated[BookParameters, Query()], accepted: Accepted, slot: Slot) -> StreamedResponse:
    """Order books of a symbol, at one instant or at regular instants from `start` to before `end`.

    A book is the last whole snapshot at or before the instant and the deltas after it, of one connection or, by the
    exchange's ids, of all. There is no row for an instant before the first snapshot of an exchange.
    """
    return slot.stream(lambda engine: _query(engine, query, accepted))


def _query(engine: "Engine", query: BookParameters, accepted: AcceptedFormat) -> QueryResult:
    options = {"depth": query.depth, "as_of": query.as_of_value, "hybrid": query.hybrid}
    start, end = query.start_time, query.end_time
    if start is None and end is None and query.interval is None:
        books = BookQuery.at(query.symbol, query.exchange, parse_time(query.at, "at"), **options)
    elif start is None or end is None or query.at is not None:
        raise BadQuery("give at for one book, or start and end for books at an interval")
    else:
        interval = parse_length(query.interval) if query.interval is not None else _MINUTE
        books = BookQuery.over(query.symbol, query.exchange, start, end, interval, **options)
    return accepted.encode(engine.books_reader(books), {"Cache-Control": NO_STORE})
