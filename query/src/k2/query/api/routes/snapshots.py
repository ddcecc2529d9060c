"""`/v1/snapshots`: the snapshots and tags that `as_of` accepts."""

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import Field

from k2.query.api.auth import requires
from k2.query.api.delivery.responses import StreamedResponse
from k2.query.api.dependencies import Accepted, Slot
from k2.query.api.encoding import response_models
from k2.query.api.encoding.results import SHORT_LIVED, AcceptedFormat, QueryResult
from k2.query.api.keys import Scope
from k2.query.api.parameters import Parameters
from k2.schemas.tables import GOLD

if TYPE_CHECKING:
    from k2.query.engine import Engine

router = APIRouter(tags=["tables"], dependencies=[Depends(requires(Scope.READ))])


class SnapshotParameters(Parameters):
    """Query parameters of `/v1/snapshots`."""

    table: Annotated[str, Field(max_length=100, description="name of the table")] = GOLD


@router.get("/v1/snapshots", responses=response_models.row_responses(response_models.Rows), name="snapshots")
async def snapshots(query: Annotated[SnapshotParameters, Query()], accepted: Accepted, slot: Slot) -> StreamedResponse:
    """Snapshots of a table, oldest first: id, parent, commit time, operation, added and total rows, tags."""
    return slot.stream(lambda engine: _query(engine, query.table, accepted))


def _query(engine: "Engine", name: str, accepted: AcceptedFormat) -> QueryResult:
    import pyarrow as pa

    table = engine.snapshots(name)
    for column in ("snapshot_id", "parent_id"):  # JavaScript would round 64-bit integers
        index = table.schema.get_field_index(column)
        table = table.set_column(index, column, table.column(column).cast(pa.string()))
    return accepted.encode(table.to_reader(), {"Cache-Control": SHORT_LIVED}, whole=True)
