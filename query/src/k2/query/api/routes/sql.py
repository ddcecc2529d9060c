"""`POST /v1/sql`: one SELECT over the tables, fenced in and limited."""

from typing import TYPE_CHECKING, Annotated, Final

from fastapi import APIRouter, Depends
from fastapi.requests import Request
from pydantic import BaseModel, ConfigDict, Field

from k2.query import times
from k2.query.api.auth import requires
from k2.query.api.encoding import response_models
from k2.query.api.encoding.formats import Media
from k2.query.api.errors import Refused
from k2.query.api.keys import Scope
from k2.query.api.parameters import Moment
from k2.query.api.responses import NEVER, Answer, Reply, Wish, asking
from k2.query.api.settings import PAGE
from k2.query.errors import BadQuery
from k2.query.sql import guard

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyarrow import RecordBatch, RecordBatchReader

    from k2.query.engine import Engine

router = APIRouter(tags=["sql"], dependencies=[Depends(requires(Scope.SQL))])
_MOST: Final = 10**12


class Statement(BaseModel):
    """One SELECT."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    statement: Annotated[
        str, Field(min_length=1, max_length=guard.LONGEST, description="DuckDB's SQL over K2's tables, one SELECT")
    ]
    as_of: Moment | None = None
    limit: Annotated[int | None, Field(ge=1, le=_MOST, description="rows; JSON gives 10000 at most")] = None


@router.post("/v1/sql", responses=response_models.rows(response_models.SqlRows, 415), name="sql")
async def sql(request: Request, asked: Statement) -> Answer:
    """What one SELECT over the tables gives. Nothing can be changed, and no file and no network can be reached.

    JSON gives the first rows and says whether there are more. Other formats give all, or break off where there are more
    than the server allows.
    """
    wish, most = Wish.of(request), request.app.state.settings.sql_rows
    return asking(request, lambda engine: _reply(engine, asked, wish, most), statement=True)


def _reply(engine: "Engine", asked: Statement, wish: Wish, most: int) -> Reply:
    as_of = times.parse_as_of(asked.as_of) if asked.as_of is not None else None
    in_json = wish.media is Media.JSON
    highest = min(PAGE, most) if in_json else most
    if asked.limit is not None and asked.limit > highest:
        raise BadQuery(f"at most {highest} rows are given as {wish.media}; lower the limit")
    cut = _Cut(asked.limit or highest, quiet=in_json or asked.limit is not None)
    reader = cut.rows(engine.sql_reader(asked.statement, as_of=as_of))
    headers = {"Cache-Control": NEVER}
    return wish.reply(reader, headers, lambda _: {"truncated": cut.more}, whole=in_json)


class _Cut:
    """The first rows of an answer, and whether there were more."""

    def __init__(self, limit: int, *, quiet: bool) -> None:
        self.more = False
        self._limit, self._quiet = limit, quiet

    def rows(self, reader: "RecordBatchReader") -> "RecordBatchReader":
        import pyarrow as pa

        def batches() -> "Iterator[RecordBatch]":
            left = self._limit
            with reader:
                for batch in reader:
                    self.more = batch.num_rows > left
                    if self.more and not self._quiet:
                        raise Refused(413, f"there are more than {self._limit} rows; write a LIMIT, or ask for less")
                    if left:
                        yield batch.slice(0, left)
                    left -= min(left, batch.num_rows)
                    if self.more:
                        return

        return pa.RecordBatchReader.from_batches(reader.schema, batches())
