"""What routes depend on: the format that the client accepts, and a slot for its query.

A slot is taken, and the engine opened, when the response is sent: only a valid request waits, and for no longer than
its client does. FastAPI resolves dependencies before it has validated the other parameters.
"""

from typing import Annotated

from fastapi import Depends, Header
from fastapi.requests import Request
from pydantic import AfterValidator

from k2.query.api.delivery.responses import QueryExecutor, QuerySlot
from k2.query.api.encoding import formats
from k2.query.api.encoding.formats import MediaType
from k2.query.api.encoding.results import AcceptedFormat

_HIDDEN = Header(include_in_schema=False)  # the document lists the media types as those of the response


async def _accepted_format(
    accept: Annotated[str, AfterValidator(formats.negotiate), _HIDDEN] = MediaType.JSON,
    accept_encoding: Annotated[str | None, _HIDDEN] = None,
    if_none_match: Annotated[str, _HIDDEN] = "",
) -> AcceptedFormat:
    return AcceptedFormat(MediaType(accept), formats.accepts_gzip(accept_encoding), if_none_match)


async def _query_slot(request: Request) -> QuerySlot:
    executor: QueryExecutor = request.app.state.executor
    return QuerySlot(executor, request.state.client, (executor.queries,))


async def _statement_slot(request: Request) -> QuerySlot:
    executor: QueryExecutor = request.app.state.executor
    return QuerySlot(executor, request.state.client, (executor.statements, executor.queries))


Accepted = Annotated[AcceptedFormat, Depends(_accepted_format)]
Slot = Annotated[QuerySlot, Depends(_query_slot)]
StatementSlot = Annotated[QuerySlot, Depends(_statement_slot)]  # the stricter limit of SQL applies
