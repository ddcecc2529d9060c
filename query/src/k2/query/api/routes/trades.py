"""`/v1/trades`: trades in pages that never shift, or the whole result as a stream."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from fastapi.requests import Request

from k2.query.api.auth import requires
from k2.query.api.delivery.responses import StreamedResponse
from k2.query.api.dependencies import Accepted, Slot
from k2.query.api.encoding import response_models
from k2.query.api.keys import Scope
from k2.query.api.routes import record_pages
from k2.query.api.routes.record_pages import PageParameters
from k2.query.sql.trade_sql import TRADE_LIST

router = APIRouter(tags=["trades"], dependencies=[Depends(requires(Scope.READ))])


@router.get("/v1/trades", responses=response_models.row_responses(response_models.TradesPage), name="trades")
async def trades(
    request: Request, query: Annotated[PageParameters, Query()], accepted: Accepted, slot: Slot
) -> StreamedResponse:
    """Trades ordered by time, then by trade id.

    With `start` or `window_minutes` a page has the first trades of the range, and `next` those after them; otherwise
    it has the newest, and `next` those before them. `next` is null on the last page. All pages read one snapshot;
    those of a hybrid query read the present, each after the last trade of the page before.
    """
    return record_pages.respond(request, query, accepted, slot, TRADE_LIST)
