"""`/healthz`, `/readyz` and `/metrics`: for whoever runs the server. They need no key."""

from contextlib import suppress

from fastapi import APIRouter
from fastapi.requests import Request
from fastapi.responses import PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from k2.query.api.encoding import response_models
from k2.query.errors import NotYet
from k2.query.execution.cancellation import Interrupt
from k2.schemas.tables import GOLD

router = APIRouter(tags=["health"])
_PLAIN = {"content": {"text/plain": {"schema": {"type": "string"}}}}


@router.get("/healthz", response_class=PlainTextResponse, responses={200: {"description": "it lives", **_PLAIN}})
async def healthz() -> PlainTextResponse:
    """Whether the process answers."""
    return PlainTextResponse("ok\n")


@router.get(
    "/readyz",
    response_class=PlainTextResponse,
    responses={200: {"description": "it can answer", **_PLAIN}, 503: response_models.errors()[503]},
)
async def readyz(request: Request) -> PlainTextResponse:
    """Whether the catalog and Gold can be reached. A platform on which nothing was written yet is one that can be."""
    state = request.app.state

    def ready() -> None:
        with suppress(NotYet):
            state.lakehouse.engine().snapshot_id(table=GOLD)

    await state.work.step(Interrupt(), ready)
    return PlainTextResponse("ok\n")


@router.get("/metrics", response_class=PlainTextResponse, responses={200: {"description": "figures", **_PLAIN}})
async def metrics(request: Request) -> Response:
    """What Prometheus collects."""
    return Response(generate_latest(request.app.state.metrics.registry), media_type=CONTENT_TYPE_LATEST)
