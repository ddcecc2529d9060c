"""`POST /v1/sql`: one statement that only reads the tables, in a process of its own and limited."""

from typing import TYPE_CHECKING, Annotated, Final

from fastapi import APIRouter, Depends, HTTPException
from fastapi.requests import Request
from pydantic import BaseModel, ConfigDict, Field

from k2.query import times
from k2.query.api.auth import requires
from k2.query.api.delivery.responses import StreamedResponse
from k2.query.api.dependencies import Accepted, StatementSlot
from k2.query.api.encoding import response_models
from k2.query.api.encoding.formats import MediaType
from k2.query.api.encoding.results import NO_STORE, AcceptedFormat, QueryResult
from k2.query.api.keys import Scope
from k2.query.api.parameters import AsOfText
from k2.query.api.settings import MAX_PAGE_ROWS
from k2.query.errors import BadQuery
from k2.query.sql.cage import statements

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyarrow import RecordBatch, RecordBatchReader

    from k2.query.engine import Engine

router = APIRouter(tags=["sql"], dependencies=[Depends(requires(Scope.SQL))])
_MAX_LIMIT: Final = 10**12


class Statement(BaseModel):
    """Request body of `/v1/sql`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    statement: Annotated[
        str,
        Field(
            min_length=1, max_length=statements.MAX_LENGTH, description="one statement in DuckDB's SQL over K2's tables"
        ),
    ]
    as_of: AsOfText | None = None
    limit: Annotated[
        int | None, Field(ge=1, le=_MAX_LIMIT, description="maximum number of rows; JSON returns at most 10000")
    ] = None


@router.post("/v1/sql", responses=response_models.row_responses(response_models.SqlRows, 415), name="sql")
async def sql(request: Request, body: Statement, accepted: Accepted, slot: StatementSlot) -> StreamedResponse:
    """Run one statement that only reads the tables, in a process without access to other files or the network.

    JSON returns the first rows and whether there are more. Other formats return all rows; the connection is aborted if
    there are more than the server allows.
    """
    max_rows: int = request.app.state.settings.max_sql_rows
    return slot.stream(lambda engine: _query(engine, body, accepted, max_rows))


def _query(engine: "Engine", body: Statement, accepted: AcceptedFormat, max_rows: int) -> QueryResult:
    as_of = times.parse_as_of(body.as_of) if body.as_of is not None else None
    in_json = accepted.media_type is MediaType.JSON
    highest = min(MAX_PAGE_ROWS, max_rows) if in_json else max_rows
    if body.limit is not None and body.limit > highest:
        raise BadQuery(f"{accepted.media_type} returns at most {highest} rows; lower the limit")
    row_limit = _RowLimit(body.limit or highest, truncate=in_json or body.limit is not None)
    reader = row_limit.apply(engine.sql_reader(body.statement, as_of=as_of))
    headers = {"Cache-Control": NO_STORE}
    return accepted.encode(reader, headers, lambda _: {"truncated": row_limit.truncated}, whole=in_json)


class _RowLimit:
    """Limit the rows of a result; `truncated` says whether there were more."""

    def __init__(self, limit: int, *, truncate: bool) -> None:
        self.truncated = False
        self._limit, self._truncate = limit, truncate

    def apply(self, reader: "RecordBatchReader") -> "RecordBatchReader":
        import pyarrow as pa

        def batches() -> "Iterator[RecordBatch]":
            remaining = self._limit
            with reader:
                for batch in reader:
                    self.truncated = batch.num_rows > remaining
                    if self.truncated and not self._truncate:
                        raise HTTPException(
                            413, f"the result has more than {self._limit} rows; add a LIMIT or narrow the query"
                        )
                    if remaining:
                        yield batch.slice(0, remaining)
                    remaining -= min(remaining, batch.num_rows)
                    if self.truncated:
                        return

        return pa.RecordBatchReader.from_batches(reader.schema, batches())
