"""HTTP API of the embedded schema registry: the subset of Confluent's API that producers and consumers use."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import web

from k2.cli.embedded.schema_store import LEVELS, Incompatible, InvalidSchema, SchemaStore
from k2.common.loopback import is_loopback

_SUBJECT_NOT_FOUND, _VERSION_NOT_FOUND, _SCHEMA_NOT_FOUND, _LEVEL_NOT_FOUND = 40401, 40402, 40403, 40408
_INVALID_SCHEMA, _INVALID_VERSION, _INVALID_LEVEL = 42201, 42202, 42203

_SAFE: frozenset[str] = frozenset({"GET", "HEAD", "OPTIONS"})
_JSON_TYPES: tuple[str, ...] = (
    "application/vnd.schemaregistry.v1+json",
    "application/vnd.schemaregistry+json",
    "application/json",
)


class _ApiError(Exception):
    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


def application(store: SchemaStore) -> web.Application:
    """Return the web application over a store."""
    api = _Api(store)
    app = web.Application(middlewares=[_error_middleware, _local_middleware], client_max_size=4 << 20)
    app.add_routes(
        [
            web.get("/", api.root),
            web.get("/subjects", api.subjects),
            web.post("/subjects/{subject}", api.lookup),
            web.get("/subjects/{subject}/versions", api.versions),
            web.post("/subjects/{subject}/versions", api.register),
            web.get("/subjects/{subject}/versions/{version}", api.version),
            web.get("/schemas/ids/{id}", api.schema),
            web.get("/schemas/types", api.types),
            web.get("/config", api.level),
            web.put("/config", api.set_level),
            web.get("/config/{subject}", api.level),
            web.put("/config/{subject}", api.set_level),
            web.post("/compatibility/subjects/{subject}/versions/{version}", api.compatible),
        ]
    )
    return app


@web.middleware
async def _error_middleware(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except _ApiError as error:
        return _json({"error_code": error.code, "message": str(error)}, error.status)
    except InvalidSchema as error:
        return _json({"error_code": _INVALID_SCHEMA, "message": str(error)}, 422)
    except Incompatible as error:
        return _json({"error_code": 409, "message": str(error)}, 409)


@web.middleware
async def _local_middleware(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Reject what a web page of another origin can send: another Host, or a body that is not declared as JSON."""
    if not is_loopback(request.headers.get("Host", "")):
        raise _ApiError(403, 40301, "only requests to this machine are allowed; use 127.0.0.1 or localhost")
    if request.method not in _SAFE and request.content_type not in _JSON_TYPES:
        raise _ApiError(415, 41501, f"the Content-Type must be one of {', '.join(_JSON_TYPES)}")
    return await handler(request)


class _Api:
    def __init__(self, store: SchemaStore) -> None:
        self._store = store

    async def root(self, _: web.Request) -> web.Response:
        return _json({})

    async def types(self, _: web.Request) -> web.Response:
        return _json(["AVRO"])

    async def subjects(self, _: web.Request) -> web.Response:
        return _json(await asyncio.to_thread(self._store.subjects))

    async def versions(self, request: web.Request) -> web.Response:
        return _json(await self._versions(request.match_info["subject"]))

    async def version(self, request: web.Request) -> web.Response:
        subject = request.match_info["subject"]
        version = await self._version(subject, request.match_info["version"])
        schema = await asyncio.to_thread(self._store.version, subject, version)
        assert schema is not None
        return _json({"subject": subject, "version": version, "id": schema[0], "schema": schema[1]})

    async def register(self, request: web.Request) -> web.Response:
        subject, text = request.match_info["subject"], await _schema_text(request)
        schema_id = await asyncio.to_thread(self._store.register, subject, text)
        return _json({"id": schema_id})

    async def lookup(self, request: web.Request) -> web.Response:
        subject, text = request.match_info["subject"], await _schema_text(request)
        await self._versions(subject)
        entry = await asyncio.to_thread(self._store.lookup, subject, text)
        if entry is None:
            raise _ApiError(404, _SCHEMA_NOT_FOUND, "Schema not found")
        return _json({"subject": subject, "id": entry[0], "version": entry[1], "schema": text})

    async def schema(self, request: web.Request) -> web.Response:
        number = request.match_info["id"]
        text = await asyncio.to_thread(self._store.text, int(number)) if number.isdigit() else None
        if text is None:
            raise _ApiError(404, _SCHEMA_NOT_FOUND, f"Schema {number} not found")
        return _json({"schema": text})

    async def compatible(self, request: web.Request) -> web.Response:
        subject, text = request.match_info["subject"], await _schema_text(request)
        await self._version(subject, request.match_info["version"])
        return _json({"is_compatible": await asyncio.to_thread(self._store.compatible, subject, text)})

    async def level(self, request: web.Request) -> web.Response:
        subject = request.match_info.get("subject", "")
        own = await asyncio.to_thread(self._store.own_level, subject)
        if own is None and subject and request.query.get("defaultToGlobal") != "true":
            raise _ApiError(404, _LEVEL_NOT_FOUND, f"Subject '{subject}' does not have its own compatibility level")
        level = own or await asyncio.to_thread(self._store.level, subject)
        return _json({"compatibilityLevel": level})

    async def set_level(self, request: web.Request) -> web.Response:
        level = (await _body(request)).get("compatibility")
        if level not in LEVELS:
            raise _ApiError(422, _INVALID_LEVEL, f"compatibility must be one of {', '.join(LEVELS)}")
        await asyncio.to_thread(self._store.set_level, request.match_info.get("subject", ""), level)
        return _json({"compatibility": level})

    async def _versions(self, subject: str) -> list[int]:
        versions = await asyncio.to_thread(self._store.versions, subject)
        if not versions:
            raise _ApiError(404, _SUBJECT_NOT_FOUND, f"Subject '{subject}' not found")
        return versions

    async def _version(self, subject: str, text: str) -> int:
        versions = await self._versions(subject)
        if text == "latest":
            return versions[-1]
        if not text.isdigit():
            raise _ApiError(422, _INVALID_VERSION, f"version {text!r} must be a number or `latest`")
        if int(text) not in versions:
            raise _ApiError(404, _VERSION_NOT_FOUND, f"Version {text} not found")
        return int(text)


async def _body(request: web.Request) -> dict[str, Any]:
    try:
        return msgspec.json.decode(await request.read(), type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _ApiError(422, _INVALID_SCHEMA, f"the body is not a JSON object: {error}") from error


async def _schema_text(request: web.Request) -> str:
    body = await _body(request)
    text = body.get("schema")
    if not isinstance(text, str) or body.get("schemaType", "AVRO") != "AVRO":
        raise _ApiError(422, _INVALID_SCHEMA, "the body needs a `schema`, and `schemaType` must be AVRO")
    return text


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(value), status=status, content_type="application/vnd.schemaregistry.v1+json"
    )
