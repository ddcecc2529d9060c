"""`/v1/ohlcv`: bars of a symbol."""

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, Query
from fastapi.requests import Request
from pydantic import Field

from k2.query.api import caching
from k2.query.api.auth import requires
from k2.query.api.encoding import response_models
from k2.query.api.keys import Scope
from k2.query.api.parameters import RangeParameters, Symbol
from k2.query.api.responses import NEVER, Answer, Reply, Wish, asking
from k2.query.errors import BadQuery

if TYPE_CHECKING:
    from k2.query.engine import Engine

router = APIRouter(tags=["trades"], dependencies=[Depends(requires(Scope.READ))])


class OhlcvParameters(RangeParameters):
    """What `/v1/ohlcv` can be asked."""

    symbol: Symbol
    interval: Annotated[str, Field(max_length=10, description="1s to 1d, so that whole bars fill a UTC day")] = "1m"
    hybrid: Annotated[bool, Field(description="and what Kafka has that Gold has not yet; never kept")] = False


@router.get("/v1/ohlcv", responses=response_models.rows(response_models.Bars), name="ohlcv")
async def ohlcv(request: Request, query: Annotated[OhlcvParameters, Query()]) -> Answer:
    """Open, high, low, close, volume and vwap of each interval, a row an exchange; without trades, none."""
    wish = Wish.of(request)
    return asking(request, lambda engine: _reply(engine, query, wish))


def _reply(engine: "Engine", query: OhlcvParameters, wish: Wish) -> Reply:
    found: dict[str, Any] = {"symbol": query.symbol, "interval": query.interval, "exchange": query.exchange}
    found |= {"start": query.first, "end": query.last}
    if query.hybrid:
        if query.as_of is not None:
            raise BadQuery("hybrid is about now; leave as_of out")
        told = {"snapshot_id": None}
        return wish.reply(engine.ohlcv_reader(**found, hybrid=True), {"Cache-Control": NEVER}, lambda _: told)
    snapshot = engine.snapshot_id(query.then)
    etag = caching.tag(wish, "ohlcv", snapshot, *found.values())
    headers = caching.kept(etag, for_ever=query.settled) | {"K2-Snapshot": str(snapshot)}
    if wish.unchanged(etag):
        return caching.unchanged(headers)
    pinned = {"snapshot_id": snapshot and str(snapshot)}
    return wish.reply(engine.ohlcv_reader(**found, as_of=snapshot), headers, lambda _: pinned)
