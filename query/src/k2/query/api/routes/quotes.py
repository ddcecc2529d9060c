"""`/v1/quotes`: quotes in pages that never shift, or the whole result as a stream."""

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
from k2.query.sql.quote_sql import QUOTE_LIST

router = APIRouter(tags=["quotes"], dependencies=[Depends(requires(Scope.READ))])


@router.get("/v1/quotes", responses=response_models.row_responses(response_models.QuotesPage), name="quotes")
async def quotes(
    request: Request, query: Annotated[PageParameters, Query()], accepted: Accepted, slot: Slot
) -> StreamedResponse:
    """Best bids and asks ordered by time: the exchange's, or that of arrival where it sends none.

    With `start` or `window_minutes` a page has the first quotes of the range, and `next` those after them; otherwise
    it has the newest, and `next` those before them. `next` is null on the last page. All pages read one snapshot;
    those of a hybrid query read the present, each after the last quote of the page before.
    """
    return record_pages.respond(request, query, accepted, slot, QUOTE_LIST)
