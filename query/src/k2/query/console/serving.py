"""Static files of the web console under `/console/`: loaded once, with ETags and a strict Content-Security-Policy."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from fastapi import APIRouter, HTTPException
from fastapi.requests import Request
from fastapi.responses import RedirectResponse, Response

_CHARTS: Final = "bn_lightweight_charts"
_LIBRARY: Final = "lightweight-charts.js"
_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",  # revalidated by ETag on every load
}


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    media_type: str
    etag: str


def router() -> APIRouter:
    """Return the routes of the console."""
    files_by_name = dict(_files())
    routes = APIRouter(include_in_schema=False)

    @routes.get("/")
    @routes.get("/console")
    async def home(request: Request) -> RedirectResponse:
        return RedirectResponse(request.scope.get("root_path", "") + "/console/", 307)

    @routes.get("/console/")
    @routes.get("/console/{name}")
    async def file(request: Request, name: str = "index.html") -> Response:
        static = files_by_name.get(name)
        if static is None:
            raise HTTPException(404, "no such console file; the console is at /console/")
        headers = _HEADERS | {"ETag": static.etag}
        etags = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
        if static.etag in etags:
            return Response(status_code=304, headers=headers)
        return Response(static.content, headers=headers, media_type=static.media_type)

    return routes


def _files() -> Iterator[tuple[str, _File]]:
    for path in files(__package__).joinpath("files").iterdir():
        if Path(path.name).suffix in _TYPES:
            yield path.name, _file(path.name, path.read_bytes())
    yield _LIBRARY, _file(_LIBRARY, _library().read_bytes())


def _file(name: str, content: bytes) -> _File:
    return _File(content, _TYPES[Path(name).suffix], f'"{hashlib.sha256(content).hexdigest()[:32]}"')


def _library() -> Path:
    """Return the path of TradingView's Lightweight Charts in its installed package, without importing that."""
    spec = find_spec(_CHARTS)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"{_CHARTS} is not installed; run pip install 'k2-market-data[api]'")
    return Path(spec.submodule_search_locations[0]) / "js" / _LIBRARY
