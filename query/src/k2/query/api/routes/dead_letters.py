"""`/v1/dead-letters`: records that could not be decoded or validated, with the reason and the original bytes."""

from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from fastapi import APIRouter, Depends, HTTPException, Path, Query
from pydantic import Field

from k2.query.api.auth import requires
from k2.query.api.delivery.responses import StreamedResponse
from k2.query.api.dependencies import Accepted, Slot
from k2.query.api.encoding import response_models
from k2.query.api.encoding.formats import MediaType
from k2.query.api.encoding.results import SHORT_LIVED, QueryResult
from k2.query.api.keys import Scope
from k2.query.api.routes.feeds import RangeParameters
from k2.query.api.settings import MAX_PAGE_ROWS
from k2.query.execution.json_values import to_json_value
from k2.query.kafka.raw_frames import MAX_FRAMES, is_raw_frame_topic
from k2.query.sql import audit_tables
from k2.schemas.channels import TRADES

if TYPE_CHECKING:
    from k2.query.engine import Engine

router = APIRouter(tags=["health of the data"], dependencies=[Depends(requires(Scope.READ))])
_MAX_OFFSET = 2**63 - 1


class DeadLetterParameters(RangeParameters):
    """Query parameters of `/v1/dead-letters`."""

    limit: Annotated[int, Field(ge=1, le=MAX_PAGE_ROWS)] = 1000
    category: Annotated[str | None, Field(max_length=64, description="such as UNDECODABLE")] = None
    stage: Annotated[
        Literal["silver", "ingest"],
        Field(
            description="where it was rejected: a Kafka record in silver, or a frame of the exchange in ingest; "
            f"of frames the newest {MAX_FRAMES} of each exchange are searched"
        ),
    ] = "silver"


@router.get("/v1/dead-letters", responses=response_models.row_responses(response_models.Rows), name="dead letters")
async def dead_letters(
    query: Annotated[DeadLetterParameters, Query()], accepted: Accepted, slot: Slot
) -> StreamedResponse:
    """Dead letters, newest first, each with its Kafka coordinates, category and error message."""

    def run(engine: "Engine") -> QueryResult:
        if query.stage == "ingest":
            table = engine.raw_frames.newest(query.record_filter, query.category, query.limit)
        else:
            table = audit_tables.dead_letters(engine, TRADES, query.record_filter, query.category, query.limit)
        return accepted.encode(table.to_reader(), {"Cache-Control": SHORT_LIVED}, whole=True)

    return slot.stream(run)


@router.get(
    "/v1/dead-letters/{topic}/{partition}/{offset}",
    responses={200: {"model": response_models.DeadLetter}, **response_models.error_responses(404)},
    name="dead letter",
)
async def dead_letter(
    topic: Annotated[str, Path(max_length=249)],
    partition: Annotated[int, Path(ge=0, lt=2**31)],
    offset: Annotated[int, Path(ge=0, le=_MAX_OFFSET)],
    accepted: Accepted,
    slot: Slot,
) -> StreamedResponse:
    """One dead letter of either stage with its bytes: as base64 in `value`, and in `text` if they are UTF-8."""
    if accepted.media_type is not MediaType.JSON:
        raise HTTPException(406, f"a dead letter is available as {MediaType.JSON} only")

    def run(engine: "Engine") -> QueryResult:
        find = engine.raw_frames.get if is_raw_frame_topic(topic) else partial(audit_tables.dead_letter, engine)
        row = find(topic, partition, offset)
        if row is None:
            raise HTTPException(404, "no dead letter has these coordinates; /v1/dead-letters lists them")
        text = _text(row["value"] or b"")
        return QueryResult(
            iter([msgspec.json.encode(to_json_value({"items": None} | row | {"text": text}))]),
            {"Cache-Control": SHORT_LIVED},
        )

    return slot.stream(run)


def _text(value: bytes) -> str | None:
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return text if "\0" not in text else None
