"""Error responses as RFC 9457 problem details: one sentence that says what to change."""

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
from k2.common.validation_errors import format_value, redact
from k2.query.errors import BadQuery, TooLarge, Unavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

PROBLEM_JSON: Final = "application/problem+json"
RETRY_AFTER: Final = 5  # seconds
_SENTENCES: Final = {
    404: "no such path; see /openapi.json",
    405: "method not allowed on this path; see /openapi.json",
}
_log = logs.get("api")


class RequestRejected(Exception):
    """A rejected request: HTTP status, one sentence that says what to change, and response headers."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, dict(headers or {})


def problem_response(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return an RFC 9457 response."""
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    all_headers = {"Cache-Control": "no-store", **(headers or {})}
    return Response(msgspec.json.encode(body), status, all_headers, PROBLEM_JSON)


def error_response(error: Exception) -> Response:
    """Return the problem response for an exception; log what is not the client's fault."""
    match error:
        case RequestRejected():
            return problem_response(error.status, error.detail, error.headers)
        case BadQuery():
            return problem_response(413 if isinstance(error, TooLarge) else 400, _one_line(error))
        case Unavailable():
            _log.warning("unavailable", why=_one_line(error))
            return problem_response(503, _one_line(error), {"Retry-After": str(RETRY_AFTER)})
        case RequestValidationError():
            return problem_response(400, _invalid(error.errors()))
        case HTTPException():
            detail = _SENTENCES.get(error.status_code, str(error.detail))
            return problem_response(error.status_code, detail, error.headers)
    _log.error("failed", exc_info=error)
    return problem_response(500, "internal server error; details are in the server log")


def register(app: FastAPI) -> None:
    """Register handlers that turn every exception into a problem response."""

    async def handle(_: Request, error: Exception) -> Response:
        return error_response(error)

    for kind in (RequestRejected, BadQuery, Unavailable, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, handle)


def _one_line(error: Exception) -> str:
    return redact(" ".join(str(error).split()))


def _invalid(errors: "Sequence[Any]") -> str:
    """Describe the first validation error of the parameters or the body."""
    wrong = errors[0]
    name = ".".join(str(part) for part in wrong["loc"][1:]) or "the body"
    message = str(wrong["msg"]).removeprefix("Value error, ").removeprefix("Input should be ")
    match wrong["type"]:
        case "missing":
            return f"{name} is missing"
        case "extra_forbidden":
            return f"{format_value(name)} is not a known parameter; see /openapi.json"
        case "json_invalid":
            return "the body is not valid JSON"
    value = wrong.get("input")
    return f"{name}: {format_value(value)} is not allowed: {message[:1].lower()}{message[1:]}"
