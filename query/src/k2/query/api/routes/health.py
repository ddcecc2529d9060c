"""`/healthz`, `/readyz` and `/metrics`, for operators of the server. They need no key."""

from contextlib import suppress

from fastapi import APIRouter
from fastapi.requests import Request
from fastapi.responses import PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from k2.query.api.encoding import response_models
from k2.query.errors import CatalogEmpty
from k2.query.execution.cancellation import Interrupt
from k2.schemas.tables import GOLD

router = APIRouter(tags=["health"])
_PLAIN = {"content": {"text/plain": {"schema": {"type": "string"}}}}


@router.get(
    "/healthz", response_class=PlainTextResponse, responses={200: {"description": "the process is alive", **_PLAIN}}
)
async def healthz() -> PlainTextResponse:
    """Liveness: the process answers."""
    return PlainTextResponse("ok\n")


@router.get(
    "/readyz",
    response_class=PlainTextResponse,
    responses={200: {"description": "ready for requests", **_PLAIN}, 503: response_models.error_responses()[503]},
)
async def readyz(request: Request) -> PlainTextResponse:
    """Readiness: the catalog and Gold are reachable. A platform without data yet is ready."""
    state = request.app.state

    def ready() -> None:
        with suppress(CatalogEmpty):
            state.engine_provider.engine().snapshot_id(table=GOLD)

    await state.executor.run_step(Interrupt(), ready)
    return PlainTextResponse("ok\n")


@router.get(
    "/metrics",
    response_class=PlainTextResponse,
    responses={200: {"description": "metrics in the Prometheus text format", **_PLAIN}},
)
async def metrics(request: Request) -> Response:
    """Metrics for Prometheus."""
    return Response(generate_latest(request.app.state.metrics.registry), media_type=CONTENT_TYPE_LATEST)
