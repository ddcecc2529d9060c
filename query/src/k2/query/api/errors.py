"""Errors as RFC 9457 tells them: `application/problem+json`, one sentence that says what to change."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import msgspec
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from k2.common import logs
from k2.common.validation_errors import redacted, shown
from k2.query.errors import BadQuery, TooLarge, Unavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

PROBLEM: Final = "application/problem+json"
RETRY: Final = 5  # seconds
_SENTENCES: Final = {
    404: "there is nothing at this address; see /openapi.json",
    405: "this address does not take this method; see /openapi.json",
}
_log = logs.get("api")


class Refused(Exception):
    """A request that is not answered: its status, one sentence that says what to change, and headers."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, dict(headers or {})


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """The answer that tells an error."""
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    told = {"Cache-Control": "no-store", **(headers or {})}
    return Response(msgspec.json.encode(body), status, told, PROBLEM)


def told(error: Exception) -> Response:
    """The answer to a request that ended with an error."""
    match error:
        case Refused():
            return problem(error.status, error.detail, error.headers)
        case BadQuery():
            return problem(413 if isinstance(error, TooLarge) else 400, _line(error))
        case Unavailable():
            _log.warning("unavailable", why=_line(error))
            return problem(503, _line(error), {"Retry-After": str(RETRY)})
        case RequestValidationError():
            return problem(400, _invalid(error.errors()))
        case HTTPException():
            detail = _SENTENCES.get(error.status_code, str(error.detail))
            return problem(error.status_code, detail, error.headers)
    _log.error("failed", exc_info=error)
    return problem(500, "this is a mistake of the server, not yours; its log says more")


def register(app: FastAPI) -> None:
    """Lets every error be told as a problem."""

    async def tell(_: Request, error: Exception) -> Response:
        return told(error)

    for kind in (Refused, BadQuery, Unavailable, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, tell)


def _line(error: Exception) -> str:
    return redacted(" ".join(str(error).split()))


def _invalid(found: "Sequence[Any]") -> str:
    """The first thing that is wrong with the parameters or the body."""
    wrong = found[0]
    name = ".".join(str(part) for part in wrong["loc"][1:]) or "the body"
    message = str(wrong["msg"]).removeprefix("Value error, ").removeprefix("Input should be ")
    match wrong["type"]:
        case "missing":
            return f"{name} is missing"
        case "extra_forbidden":
            return f"{shown(name)} is not known here; see /openapi.json"
        case "json_invalid":
            return "the body is not JSON"
    value = wrong.get("input")
    return f"{name}: {shown(value)} is not allowed: {message[:1].lower()}{message[1:]}"
