"""Error responses as RFC 9457 problem details: one sentence that says what to change."""

from collections.abc import Callable, Coroutine, Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final

import msgspec
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from k2.common import logs
from k2.common.validation_errors import format_value, redact
from k2.query.errors import BadQuery, BadStatement, TooLarge, Unavailable
from k2.query.sql.cage.diagnosis.positions import did_you_mean

PROBLEM_JSON: Final = "application/problem+json"
NOT_ACCEPTABLE: Final = "not_acceptable"  # the type of a validation error of the Accept header
RETRY_AFTER: Final = 5  # seconds
_SENTENCES: Final = {
    404: "no such path; see /openapi.json",
    405: "method not allowed on this path; see /openapi.json",
}
_log = logs.get("api")


class ResponseCut(BaseException):
    """A response whose first bytes were sent ends early; the connection is reset, and the message says why.

    No `Exception`: no handler can answer any more, and it is no failure of the server.
    """


def problem_response(
    status: int, detail: str, headers: Mapping[str, str] | None = None, members: Mapping[str, Any] | None = None
) -> Response:
    """Return an RFC 9457 response, with further members of a problem of its kind."""
    title = HTTPStatus(status).phrase
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail, **(members or {})}
    all_headers = {"Cache-Control": "no-store", **(headers or {})}
    return Response(msgspec.json.encode(body), status, all_headers, PROBLEM_JSON)


def http_problem(error: HTTPException) -> Response:
    """Return the problem response for a rejected request; Starlette's own rejections get a sentence that says more."""
    bare = error.detail == HTTPStatus(error.status_code).phrase
    detail = _SENTENCES.get(error.status_code, error.detail) if bare else error.detail
    return problem_response(error.status_code, str(detail), error.headers)


async def _rejected(_: Request, error: HTTPException) -> Response:
    return http_problem(error)


async def _bad_query(_: Request, error: BadQuery) -> Response:
    return problem_response(413 if isinstance(error, TooLarge) else 400, _one_line(error), members=_position(error))


def _position(error: BadQuery) -> dict[str, Any]:
    """Return where a statement is wrong, as members of the problem."""
    position = error.position if isinstance(error, BadStatement) else None
    if position is None:
        return {}
    return {"line": position.line, "column": position.column, "excerpt": "\n".join(position.excerpt())}


async def _unavailable(_: Request, error: Unavailable) -> Response:
    _log.warning("unavailable", why=_one_line(error))
    return problem_response(503, _one_line(error), {"Retry-After": str(RETRY_AFTER)})


async def _invalid_request(request: Request, error: RequestValidationError) -> Response:
    wrong = min(error.errors(), key=lambda each: bool(each["type"] == NOT_ACCEPTABLE))  # the first, Accept last
    if wrong["type"] == NOT_ACCEPTABLE:
        return problem_response(406, wrong["msg"])
    return problem_response(400, _invalid(wrong, _parameters(request)))


async def _failed(_: Request, error: Exception) -> Response:
    _log.error("failed", exc_info=error)
    return problem_response(500, "internal server error; details are in the server log")


# For `FastAPI(exception_handlers=...)`: every exception becomes a problem response.
HANDLERS: Final[dict[int | type[Exception], Callable[[Request, Any], Coroutine[Any, Any, Response]]]] = {
    HTTPException: _rejected,
    BadQuery: _bad_query,
    Unavailable: _unavailable,
    RequestValidationError: _invalid_request,
    Exception: _failed,
}


def _one_line(error: Exception) -> str:
    return redact(" ".join(str(error).split()))


def unknown_parameter(name: str, parameters: Iterable[str]) -> str:
    """Return the sentence for a parameter that a route does not have."""
    meant = did_you_mean(name, parameters)
    return f"{format_value(name)} is not a known parameter{meant or '; see /openapi.json'}"


def _parameters(request: Request) -> list[str]:
    """Return the names of a route's query parameters, or of the fields of its body."""
    route: Any = request.scope.get("route")
    dependant = getattr(route, "dependant", None)
    fields = [*getattr(dependant, "query_params", ()), *getattr(dependant, "body_params", ())]
    models = [field.field_info.annotation for field in fields]
    return [name for model in models for name in getattr(model, "model_fields", ())]


def _invalid(wrong: Mapping[str, Any], parameters: list[str]) -> str:
    """Describe a validation error of the parameters or the body."""
    name = ".".join(str(part) for part in wrong["loc"][1:]) or "the body"
    message = str(wrong["msg"]).removeprefix("Value error, ").removeprefix("Input should be ")
    match wrong["type"]:
        case "missing":
            return f"{name} is missing"
        case "extra_forbidden":
            return unknown_parameter(name, parameters)
        case "json_invalid":
            return "the body is not valid JSON"
    value = wrong.get("input")
    return f"{name}: {format_value(value)} is not allowed: {message[:1].lower()}{message[1:]}"
