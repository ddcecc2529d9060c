"""The FastAPI application: state, routes and middleware."""

import hashlib
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from importlib.metadata import version
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.middleware.cors import CORSMiddleware

from k2.common.platform import Platform
from k2.query.api import errors
from k2.query.api.auth import AccessControl, HostMiddleware
from k2.query.api.delivery.responses import QueryExecutor
from k2.query.api.encoding import response_models
from k2.query.api.engine_provider import EngineProvider
from k2.query.api.limits import RequestLimitMiddleware
from k2.query.api.metrics import Metrics, MetricsMiddleware
from k2.query.api.routes import (
    book,
    dead_letters,
    feeds,
    health,
    instruments,
    ohlcv,
    prices,
    quotes,
    snapshots,
    sql,
    stream,
    trades,
)
from k2.query.api.settings import ApiSettings
from k2.query.console import serving
from k2.query.live import record_json
from k2.query.live.broadcaster import Broadcaster
from k2.schemas.channels import Channel

DISTRIBUTION: Final = "k2-market-data"
VERSION: Final = "K2_VERSION"  # set in the image, which has no distribution metadata
_ROUTES: Final = (trades, quotes, book, ohlcv, prices, instruments, snapshots, feeds, dead_letters, sql, health)
_EXPOSED: Final = ["ETag", "K2-Snapshot", "Link", "RateLimit", "RateLimit-Policy", "Retry-After"]


def create(settings: ApiSettings, platform: Platform) -> FastAPI:
    """Create the application. The platform need not be reachable yet. Raises `InvalidSpec` for invalid settings."""
    settings.check()
    app = FastAPI(
        title="K2",
        version=os.environ.get(VERSION) or version(DISTRIBUTION),
        summary="Every trade of every exchange, once, provably complete.",
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan,
        exception_handlers=errors.HANDLERS,
    )
    state = app.state
    state.settings, state.platform = settings, platform
    state.secret = _secret(settings, platform)
    state.access = AccessControl(settings)
    state.engine_provider = EngineProvider(platform, settings)
    state.symbol_cache = prices.SymbolCache()
    state.metrics, state.executor = Metrics(), QueryExecutor(state.engine_provider.engine, settings)
    state.metrics.observe_limiters(state.executor.queries, state.executor.statements)
    state.metrics.observe_conflicts(state.engine_provider.tail_conflicts)
    for module in _ROUTES:
        app.include_router(module.router)
    state.broadcasters = {
        channel: Broadcaster(platform, channel, topics=partial(_topics, state.engine_provider, channel))
        for channel in record_json.EVENTS
    }
    app.include_router(stream.router())
    app.include_router(serving.router())
    app.add_middleware(RequestLimitMiddleware, settings=settings)
    if settings.cors:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "X-Api-Key", "Content-Type", "If-None-Match", "Last-Event-ID"],
            expose_headers=_EXPOSED,
        )
    if settings.keys is None and not settings.allow_anonymous:
        app.add_middleware(HostMiddleware)
    app.add_middleware(MetricsMiddleware, metrics=state.metrics)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


def _topics(provider: EngineProvider, channel: Channel) -> Mapping[str, str]:
    return provider.engine().topics(channel)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        stack.callback(app.state.engine_provider.close)
        for broadcaster in app.state.broadcasters.values():
            stack.push_async_callback(broadcaster.close)
        yield


def _secret(settings: ApiSettings, platform: Platform) -> bytes:
    """Return the key that signs cursors: the same for every replica over one catalog, so that any can continue."""
    password = platform.catalog_password.get_secret_value()
    source = settings.secret.get_secret_value() or f"k2\n{platform.catalog_uri}\n{password}\n{platform.warehouse}"
    return hashlib.sha256(source.encode()).digest()


def _openapi(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document, with RFC 9457 errors instead of FastAPI's."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, summary=app.summary, routes=app.routes)
        for operation in (details for path in document["paths"].values() for details in path.values()):
            operation["responses"].pop("422", None)
            operation["security"] = [] if "health" in operation.get("tags", ()) else [{"bearer": []}, {"key": []}, {}]
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        for model in response_models.MODELS:
            schemas[model.__name__] = model.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas[model.__name__].pop("$defs", None)
        document["components"]["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "key": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
        }
        app.openapi_schema = document
    return app.openapi_schema
