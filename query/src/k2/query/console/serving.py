"""The console's files under `/console/`: read once, named by their content, and allowed to ask this server only."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from fastapi import APIRouter
from fastapi.requests import Request
from fastapi.responses import RedirectResponse, Response

from k2.query.api.errors import Refused

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
    "Cache-Control": "no-cache",  # asked for again each time, and sent again only when it has changed
}


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    media: str
    tag: str


def router() -> APIRouter:
    """The routes of the console."""
    held = dict(_files())
    found = APIRouter(include_in_schema=False)

    @found.get("/")
    @found.get("/console")
    async def home(request: Request) -> RedirectResponse:
        return RedirectResponse(request.scope.get("root_path", "") + "/console/", 307)

    @found.get("/console/")
    @found.get("/console/{name}")
    async def file(request: Request, name: str = "index.html") -> Response:
        asked = held.get(name)
        if asked is None:
            raise Refused(404, "the console has no such file; it begins at /console/")
        headers = _HEADERS | {"ETag": asked.tag}
        known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
        if asked.tag in known:
            return Response(status_code=304, headers=headers)
        return Response(asked.content, headers=headers, media_type=asked.media)

    return found


def _files() -> Iterator[tuple[str, _File]]:
    for path in files(__package__).joinpath("files").iterdir():
        if Path(path.name).suffix in _TYPES:
            yield path.name, _file(path.name, path.read_bytes())
    yield _LIBRARY, _file(_LIBRARY, _library().read_bytes())


def _file(name: str, content: bytes) -> _File:
    return _File(content, _TYPES[Path(name).suffix], f'"{hashlib.sha256(content).hexdigest()[:32]}"')


def _library() -> Path:
    """TradingView's Lightweight Charts, where the package that carries it was installed, which is not imported."""
    spec = find_spec(_CHARTS)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"{_CHARTS} is not installed; pip install 'k2-market-data[api]' brings it")
    return Path(spec.submodule_search_locations[0]) / "js" / _LIBRARY
