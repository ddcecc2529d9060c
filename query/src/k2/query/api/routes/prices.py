"""`/v1/price` and `/v1/symbols`: the price at a point in time, and the traded symbols."""

import time
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import TYPE_CHECKING, Annotated, Final

from fastapi import APIRouter, Depends, Query
from fastapi.requests import Request
from pydantic import Field

from k2.query.api.auth import requires
from k2.query.api.delivery.responses import StreamedResponse
from k2.query.api.dependencies import Accepted, Slot
from k2.query.api.encoding import response_models
from k2.query.api.encoding.results import (
    SHORT_LIVED,
    AcceptedFormat,
    QueryResult,
    cache_headers,
    make_etag,
    not_modified,
)
from k2.query.api.keys import Scope
from k2.query.api.parameters import AsOfParameters, Exchange, Symbol, Time, parse_time
from k2.query.errors import BadQuery
from k2.query.sql import audit_tables
from k2.query.sql.record_sql import RecordFilter

if TYPE_CHECKING:
    from pyarrow import Table

    from k2.query.engine import Engine

router = APIRouter(tags=["trades"], dependencies=[Depends(requires(Scope.READ))])
_MAX_DAYS: Final = 10
_MAX_MINUTES: Final = _MAX_DAYS * 24 * 60
_REFRESH_SECONDS: Final = 60.0


class PriceParameters(AsOfParameters):
    """Query parameters of `/v1/price`."""

    symbol: Symbol | None = None
    exchange: Exchange | None = None
    at: Annotated[Time | None, Field(description="the time; default: now")] = None
    within_minutes: Annotated[
        float, Field(gt=0, le=_MAX_MINUTES, description=f"maximum age of the trade, at most {_MAX_DAYS} days")
    ] = 60.0


class SymbolCache:
    """The symbols of Gold, cached for a minute."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._cached: tuple[int | None, float, Table] | None = None

    def table(self, engine: "Engine") -> "tuple[int | None, Table]":
        """Return the snapshot id and its symbols."""
        with self._lock:  # one request counts, the others wait for its result
            snapshot, now = engine.snapshot_id(), time.monotonic()
            cached = self._cached
            max_age = _REFRESH_SECONDS if cached and cached[2].num_rows else 0.0  # show the first trade at once
            if cached is None or (cached[0] != snapshot and now - cached[1] > max_age):
                cached = self._cached = (snapshot, now, engine.symbols(snapshot))
            return cached[0], cached[2]


async def _symbol_cache(request: Request) -> SymbolCache:
    cache: SymbolCache = request.app.state.symbol_cache
    return cache


CachedSymbols = Annotated[SymbolCache, Depends(_symbol_cache)]


@router.get("/v1/price", responses=response_models.row_responses(response_models.Rows), name="price")
async def price(query: Annotated[PriceParameters, Query()], accepted: Accepted, slot: Slot) -> StreamedResponse:
    """Return the price of one symbol, or of all, at a time: that of the last trade before it, per exchange and symbol.

    A symbol without a trade within `within_minutes` before the time has no row.
    """
    return slot.stream(lambda engine: _price(engine, query, accepted))


@router.get("/v1/symbols", responses=response_models.row_responses(response_models.Rows), name="symbols")
async def symbols(symbol_cache: CachedSymbols, accepted: Accepted, slot: Slot) -> StreamedResponse:
    """All symbols of all exchanges: assets, trade count, first and last trade. Refreshed at most once a minute."""
    return slot.stream(lambda engine: _symbols(engine, symbol_cache, accepted))


def _price(engine: "Engine", query: PriceParameters, accepted: AcceptedFormat) -> QueryResult:
    at = parse_time(query.at, "at")
    as_of = query.as_of_value
    end = at or (as_of if isinstance(as_of, datetime) else datetime.now(UTC))
    try:
        start = end - timedelta(minutes=query.within_minutes)
    except OverflowError:
        raise BadQuery("at: within_minutes reaches back before the year 1; choose a later time") from None
    snapshot = engine.snapshot_id(as_of)
    trade_filter = RecordFilter.of(query.symbol, query.exchange, start, end)
    etag = make_etag(accepted, "price", snapshot, trade_filter)
    headers = cache_headers(etag, immutable=query.immutable and at is not None) | {"K2-Snapshot": str(snapshot)}
    if accepted.matches(etag):
        return not_modified(headers)
    envelope = {"at": None if at is None else query.at, "snapshot_id": snapshot and str(snapshot)}
    return accepted.encode(
        audit_tables.prices(engine, trade_filter, snapshot).to_reader(), headers, lambda _: envelope, whole=True
    )


def _symbols(engine: "Engine", symbol_cache: SymbolCache, accepted: AcceptedFormat) -> QueryResult:
    snapshot, table = symbol_cache.table(engine)
    etag = make_etag(accepted, "symbols", snapshot)
    headers = {"ETag": etag, "Cache-Control": SHORT_LIVED, "K2-Snapshot": str(snapshot)}
    if accepted.matches(etag):
        return not_modified(headers)
    envelope = {"snapshot_id": snapshot and str(snapshot)}
    return accepted.encode(table.to_reader(), headers, lambda _: envelope, whole=True)
