"""`/v1/dead-letters`: what could not be trusted, why, and the bytes as they came."""

from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from fastapi import APIRouter, Depends, Path, Query
from fastapi.requests import Request
from pydantic import Field

from k2.query.api.auth import requires
from k2.query.api.encoding import response_models
from k2.query.api.encoding.formats import Media
from k2.query.api.errors import Refused
from k2.query.api.keys import Scope
from k2.query.api.responses import SHORT, Answer, Reply, Wish, asking
from k2.query.api.routes.feeds import RangeParameters
from k2.query.api.settings import PAGE
from k2.query.execution.json_values import plain
from k2.query.kafka.raw_frames import LOOKED_AT, is_of_frames
from k2.query.sql import audit_tables

if TYPE_CHECKING:
    from k2.query.engine import Engine

router = APIRouter(tags=["health of the data"], dependencies=[Depends(requires(Scope.READ))])
_LONG = 2**63 - 1


class LetterParameters(RangeParameters):
    """What `/v1/dead-letters` can be asked."""

    limit: Annotated[int, Field(ge=1, le=PAGE)] = 1000
    category: Annotated[str | None, Field(max_length=64, description="such as UNDECODABLE")] = None
    stage: Annotated[
        Literal["silver", "ingest"],
        Field(
            description="who could not use it: silver a record of Kafka, or an ingest a frame of its exchange; "
            f"of frames the newest {LOOKED_AT} of each exchange are looked at"
        ),
    ] = "silver"


@router.get("/v1/dead-letters", responses=response_models.rows(response_models.Rows), name="dead letters")
async def dead_letters(request: Request, query: Annotated[LetterParameters, Query()]) -> Answer:
    """Dead letters, the newest first, each with where it lay in Kafka, its category and what was found."""
    wish = Wish.of(request)

    def reply(engine: "Engine") -> Reply:
        if query.stage == "ingest":
            found = engine.frames.newest(query.wanted, query.category, query.limit)
        else:
            found = audit_tables.dead_letters(engine, query.wanted, query.category, query.limit)
        return wish.reply(found.to_reader(), {"Cache-Control": SHORT}, whole=True)

    return asking(request, reply)


@router.get(
    "/v1/dead-letters/{topic}/{partition}/{offset}",
    responses={200: {"model": response_models.DeadLetter}, **response_models.errors(404)},
    name="dead letter",
)
async def dead_letter(
    request: Request,
    topic: Annotated[str, Path(max_length=249)],
    partition: Annotated[int, Path(ge=0, lt=2**31)],
    offset: Annotated[int, Path(ge=0, le=_LONG)],
) -> Answer:
    """One dead letter of either stage with its bytes: as base64 in `value`, and in `text` where they are text."""
    if Wish.of(request).media is not Media.JSON:
        raise Refused(406, f"a dead letter is told as {Media.JSON} only")

    def reply(engine: "Engine") -> Reply:
        find = engine.frames.one if is_of_frames(topic) else partial(audit_tables.dead_letter, engine)
        found = find(topic, partition, offset)
        if found is None:
            raise Refused(404, "there is no dead letter at this place; /v1/dead-letters lists those that there are")
        text = _text(found["value"] or b"")
        return Reply(iter([msgspec.json.encode(plain(found | {"text": text}))]), {"Cache-Control": SHORT})

    return asking(request, reply)


def _text(value: bytes) -> str | None:
    try:
        found = value.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return found if "\0" not in found else None
