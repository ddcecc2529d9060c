"""`/v1/price` and `/v1/symbols`: what is traded, and at what price it was at a moment."""

import time
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import TYPE_CHECKING, Annotated, Final

from fastapi import APIRouter, Depends, Query
from fastapi.requests import Request
from pydantic import Field

from k2.query.api import caching
from k2.query.api.auth import requires
from k2.query.api.encoding import response_models
from k2.query.api.keys import Scope
from k2.query.api.parameters import AsOfParameters, Exchange, Symbol, Time, moment
from k2.query.api.responses import SHORT, Answer, Reply, Wish, asking
from k2.query.errors import BadQuery
from k2.query.sql import audit_tables
from k2.query.sql.trade_sql import Wanted

if TYPE_CHECKING:
    from pyarrow import Table

    from k2.query.engine import Engine

router = APIRouter(tags=["trades"], dependencies=[Depends(requires(Scope.READ))])
_DAYS: Final = 10
_MINUTES: Final = _DAYS * 24 * 60
_COUNT_EVERY: Final = 60.0


class PriceParameters(AsOfParameters):
    """What `/v1/price` can be asked."""

    symbol: Symbol | None = None
    exchange: Exchange | None = None
    at: Annotated[Time | None, Field(description="the moment; without it, now")] = None
    within_minutes: Annotated[
        float, Field(gt=0, le=_MINUTES, description=f"how old a trade may be that tells a price, {_DAYS} days at most")
    ] = 60.0


@router.get("/v1/price", responses=response_models.rows(response_models.Rows), name="price")
async def price(request: Request, query: Annotated[PriceParameters, Query()]) -> Answer:
    """The price of one symbol or of all at a moment: that of the last trade before it, a row an exchange and symbol.

    A symbol that was not traded within `within_minutes` before the moment has no row.
    """
    wish = Wish.of(request)
    return asking(request, lambda engine: _price(engine, query, wish))


@router.get("/v1/symbols", responses=response_models.rows(response_models.Rows), name="symbols")
async def symbols(request: Request) -> Answer:
    """Every symbol of every exchange: assets, number of trades, first and last trade. Counted once a minute at most."""
    wish, counted = Wish.of(request), request.app.state.symbols
    return asking(request, lambda engine: _symbols(engine, counted, wish))


class Symbols:
    """The symbols as they were counted last."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._found: tuple[int | None, float, Table] | None = None

    def table(self, engine: "Engine") -> "tuple[int | None, Table]":
        """The snapshot that was counted, and its symbols."""
        with self._lock:  # one counts, the others wait for what it finds
            snapshot, now = engine.snapshot_id(), time.monotonic()
            found = self._found
            pause = _COUNT_EVERY if found and found[2].num_rows else 0.0  # who waits for the first trade shall see it
            if found is None or (found[0] != snapshot and now - found[1] > pause):
                found = self._found = (snapshot, now, engine.symbols(snapshot))
            return found[0], found[2]


def _price(engine: "Engine", query: PriceParameters, wish: Wish) -> Reply:
    at = moment(query.at, "at")
    then = query.then
    end = at or (then if isinstance(then, datetime) else datetime.now(UTC))
    try:
        start = end - timedelta(minutes=query.within_minutes)
    except OverflowError:
        raise BadQuery("at: within_minutes before this is before the year 1; choose a later time") from None
    snapshot = engine.snapshot_id(then)
    wanted = Wanted.of(query.symbol, query.exchange, start, end)
    etag = caching.tag(wish, "price", snapshot, wanted)
    headers = caching.kept(etag, for_ever=query.settled and at is not None) | {"K2-Snapshot": str(snapshot)}
    if wish.unchanged(etag):
        return caching.unchanged(headers)
    told = {"at": None if at is None else query.at, "snapshot_id": snapshot and str(snapshot)}
    return wish.reply(audit_tables.prices(engine, wanted, snapshot).to_reader(), headers, lambda _: told, whole=True)


def _symbols(engine: "Engine", counted: Symbols, wish: Wish) -> Reply:
    snapshot, table = counted.table(engine)
    etag = caching.tag(wish, "symbols", snapshot)
    headers = {"ETag": etag, "Cache-Control": SHORT, "K2-Snapshot": str(snapshot)}
    if wish.unchanged(etag):
        return caching.unchanged(headers)
    told = {"snapshot_id": snapshot and str(snapshot)}
    return wish.reply(table.to_reader(), headers, lambda _: told, whole=True)
