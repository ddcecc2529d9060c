"""`/v1/ohlcv`: OHLCV bars of a symbol."""

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import Field

from k2.query.api.auth import requires
from k2.query.api.delivery.responses import StreamedResponse
from k2.query.api.dependencies import Accepted, Slot
from k2.query.api.encoding import response_models
from k2.query.api.encoding.results import NO_STORE, AcceptedFormat, QueryResult, cache_headers, make_etag, not_modified
from k2.query.api.keys import Scope
from k2.query.api.parameters import RangeParameters, Symbol
from k2.query.errors import BadQuery

if TYPE_CHECKING:
    from k2.query.engine import Engine

router = APIRouter(tags=["trades"], dependencies=[Depends(requires(Scope.READ))])


class OhlcvParameters(RangeParameters):
    """Query parameters of `/v1/ohlcv`."""

    symbol: Symbol
    interval: Annotated[str, Field(max_length=10, description="1s to 1d; must divide a UTC day")] = "1m"
    hybrid: Annotated[bool, Field(description="include trades that are in Kafka but not yet in Gold; not cached")] = (
        False
    )


@router.get("/v1/ohlcv", responses=response_models.row_responses(response_models.Bars), name="ohlcv")
async def ohlcv(query: Annotated[OhlcvParameters, Query()], accepted: Accepted, slot: Slot) -> StreamedResponse:
    """Open, high, low, close, volume and VWAP, one row per interval and exchange with trades."""
    return slot.stream(lambda engine: _query(engine, query, accepted))


def _query(engine: "Engine", query: OhlcvParameters, accepted: AcceptedFormat) -> QueryResult:
    arguments: dict[str, Any] = {"symbol": query.symbol, "interval": query.interval, "exchange": query.exchange}
    arguments |= {"start": query.start_time, "end": query.end_time}
    if query.hybrid:
        if query.as_of is not None:
            raise BadQuery("hybrid reads the present; remove as_of")
        envelope: dict[str, Any] = {"snapshot_id": None}
        return accepted.encode(
            engine.ohlcv_reader(**arguments, hybrid=True), {"Cache-Control": NO_STORE}, lambda _: envelope
        )
    snapshot = engine.snapshot_id(query.as_of_value)
    etag = make_etag(accepted, "ohlcv", snapshot, *arguments.values())
    headers = cache_headers(etag, immutable=query.immutable) | {"K2-Snapshot": str(snapshot)}
    if accepted.matches(etag):
        return not_modified(headers)
    envelope = {"snapshot_id": snapshot and str(snapshot)}
    return accepted.encode(engine.ohlcv_reader(**arguments, as_of=snapshot), headers, lambda _: envelope)
