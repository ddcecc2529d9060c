"""The application: what it is made of, and in which order a request goes through it."""

import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.middleware.cors import CORSMiddleware

from k2.common.platform import Platform
from k2.query.api import errors
from k2.query.api.auth import Access
from k2.query.api.encoding import response_models
from k2.query.api.engine_provider import Lakehouse
from k2.query.api.limits import Limits
from k2.query.api.metrics import MetricsMiddleware, Metrics
from k2.query.api.responses import Work
from k2.query.api.routes import dead_letters, feeds, health, ohlcv, prices, snapshots, sql, stream, trades
from k2.query.api.settings import ApiSettings
from k2.query.console import serving
from k2.query.live.broadcaster import Hub

DISTRIBUTION: Final = "k2-market-data"
VERSION: Final = "K2_VERSION"  # in the image, where the packages are files and no distribution
_ROUTES: Final = (trades, ohlcv, prices, snapshots, feeds, dead_letters, sql, health)
_EXPOSED: Final = ["ETag", "K2-Snapshot", "Link", "RateLimit", "RateLimit-Policy", "Retry-After"]


def create(settings: ApiSettings, platform: Platform) -> FastAPI:
    """The API over a platform, which need not be there yet. Raises `InvalidSpec` for settings that cannot be served."""
    settings.check()
    app = FastAPI(
        title="K2",
        version=os.environ.get(VERSION) or version(DISTRIBUTION),
        summary="Every trade of every exchange, once, provably complete.",
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan,
    )
    state = app.state
    state.settings, state.platform = settings, platform
    state.secret = _secret(settings, platform)
    state.access = Access(settings)
    state.lakehouse = Lakehouse(platform, settings.memory, settings.statements)
    state.symbols = prices.Symbols()
    state.metrics, state.work = Metrics(), Work(state.lakehouse.engine, settings)
    state.metrics.observe_limiters(state.work.queries, state.work.statements)
    for module in _ROUTES:
        app.include_router(module.router)
    state.hub = Hub(platform, topics=lambda: state.lakehouse.engine().topics())
    app.include_router(stream.router())
    app.include_router(serving.router())
    errors.register(app)
    app.add_middleware(Limits, settings=settings)
    if settings.cors:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "X-Api-Key", "Content-Type", "If-None-Match", "Last-Event-ID"],
            expose_headers=_EXPOSED,
        )
    app.add_middleware(MetricsMiddleware, metrics=state.metrics)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        stack.callback(app.state.lakehouse.close)
        stack.push_async_callback(app.state.hub.close)
        yield


def _secret(settings: ApiSettings, platform: Platform) -> bytes:
    """What cursors are signed with: of several servers over one catalog, the same, so that any can go on."""
    password = platform.catalog_password.get_secret_value()
    told = settings.secret.get_secret_value() or f"k2\n{platform.catalog_uri}\n{password}\n{platform.warehouse}"
    return hashlib.sha256(told.encode()).digest()


def _openapi(app: FastAPI) -> dict[str, Any]:
    """The document: with our errors in the place of FastAPI's, and without what has none of them."""
    if app.openapi_schema is None:
        found = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
        for operation in (about for path in found["paths"].values() for about in path.values()):
            operation["responses"].pop("422", None)
            operation["security"] = [] if "health" in operation.get("tags", ()) else [{"bearer": []}, {"key": []}, {}]
        shapes = found.setdefault("components", {}).setdefault("schemas", {})
        for name in ("HTTPValidationError", "ValidationError"):
            shapes.pop(name, None)
        for shape in response_models.SHAPES:
            shapes[shape.__name__] = shape.model_json_schema(ref_template="#/components/schemas/{model}")
            shapes[shape.__name__].pop("$defs", None)
        found["components"]["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "key": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
        }
        app.openapi_schema = found
    return app.openapi_schema
