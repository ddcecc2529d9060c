"""`/v1/snapshots`: what as_of can name."""

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Depends, Query
from fastapi.requests import Request
from pydantic import Field

from k2.query.api.auth import requires
from k2.query.api.encoding import response_models
from k2.query.api.keys import Scope
from k2.query.api.parameters import Parameters
from k2.query.api.responses import SHORT, Answer, Reply, Wish, asking
from k2.schemas.tables import GOLD

if TYPE_CHECKING:
    from k2.query.engine import Engine

router = APIRouter(tags=["tables"], dependencies=[Depends(requires(Scope.READ))])


class SnapshotParameters(Parameters):
    """What `/v1/snapshots` can be asked."""

    table: Annotated[str, Field(max_length=100, description="a table's name")] = GOLD


@router.get("/v1/snapshots", responses=response_models.rows(response_models.Rows), name="snapshots")
async def snapshots(request: Request, query: Annotated[SnapshotParameters, Query()]) -> Answer:
    """A table's snapshots, oldest first: id, parent, when and what it committed, rows added and in all, tags."""
    wish = Wish.of(request)
    return asking(request, lambda engine: _reply(engine, query.table, wish))


def _reply(engine: "Engine", name: str, wish: Wish) -> Reply:
    import pyarrow as pa

    table = engine.snapshots(name)
    for column in ("snapshot_id", "parent_id"):  # JavaScript would round them
        place = table.schema.get_field_index(column)
        table = table.set_column(place, column, table.column(column).cast(pa.string()))
    return wish.reply(table.to_reader(), {"Cache-Control": SHORT}, whole=True)
