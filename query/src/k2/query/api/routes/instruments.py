"""`/v1/instruments`: what exchanges list, as it was valid at a time."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import Field

from k2.query.api.auth import requires
from k2.query.api.delivery.responses import StreamedResponse
from k2.query.api.dependencies import Accepted, Slot
from k2.query.api.encoding import response_models
from k2.query.api.encoding.results import SHORT_LIVED, AcceptedFormat, QueryResult
from k2.query.api.keys import Scope
from k2.query.api.parameters import Exchange, Parameters, Symbol, Time, parse_time
from k2.query.sql.instruments import valid_at
from k2.query.sql.record_sql import RecordFilter

if TYPE_CHECKING:
    from k2.query.engine import Engine

router = APIRouter(tags=["trades"], dependencies=[Depends(requires(Scope.READ))])


class InstrumentParameters(Parameters):
    """Query parameters of `/v1/instruments`."""

    exchange: Exchange | None = None
    symbol: Symbol | None = None
    at: Annotated[Time | None, Field(description="the time at which the instruments are valid; default: now")] = None


@router.get("/v1/instruments", responses=response_models.row_responses(response_models.Instruments), name="instruments")
async def instruments(
    query: Annotated[InstrumentParameters, Query()], accepted: Accepted, slot: Slot
) -> StreamedResponse:
    """Return the instruments of exchanges at a time: assets, status, steps, and since when they are so.

    Delisted ones are among them, with their status.
    """
    return slot.stream(lambda engine: _query(engine, query, accepted))


def _query(engine: "Engine", query: InstrumentParameters, accepted: AcceptedFormat) -> QueryResult:
    moment = parse_time(query.at, "at") or datetime.now(UTC)
    table = valid_at(engine, moment, RecordFilter.of(query.symbol, query.exchange, None, None))
    return accepted.encode(table.to_reader(), {"Cache-Control": SHORT_LIVED}, whole=True)
