"""The shapes of answers, for the OpenAPI document. Nothing is validated by them: rows go out as they come."""

from typing import Any, Final

from pydantic import BaseModel, Field

from k2.query.api.encoding.formats import Media
from k2.query.api.errors import PROBLEM


class Problem(BaseModel):
    """An error, as RFC 9457 tells it."""

    type: str
    title: str
    status: int
    detail: str = Field(description="one sentence that says what to change")


class Trade(BaseModel):
    """One trade."""

    message_id: str
    trade_id: str
    symbol: str
    exchange: str
    base_asset: str
    quote_currency: str
    timestamp: str = Field(description="exchange time, RFC 3339 in UTC")
    price: str = Field(description="an exact decimal")
    quantity: str = Field(description="an exact decimal, in the base asset")
    side: str = Field(description="BUY or SELL: the aggressor's side")
    ingestion_timestamp: str
    vendor_data: str | None = Field(description="what else the exchange sent, as JSON")


class TradesPage(BaseModel):
    """A page of trades."""

    data: list[Trade]
    next: str | None = Field(description="the address of the next page")
    snapshot_id: str | None = Field(description="of Gold; give it as as_of and the answer never changes")


class Bar(BaseModel):
    """What was traded in an interval."""

    exchange: str
    symbol: str
    start: str
    open: str
    high: str
    low: str
    close: str
    volume: str
    trades: int
    vwap: str


class Bars(BaseModel):
    """Bars in order of time."""

    data: list[Bar]
    snapshot_id: str | None


class Rows(BaseModel):
    """Rows of other kinds."""

    data: list[dict[str, Any]]


class SqlRows(Rows):
    """What a statement gives."""

    truncated: bool = Field(description="whether there are more rows than were asked for")


class DeadLetter(BaseModel):
    """A record that could not be trusted."""

    exchange: str
    topic: str
    partition: int
    offset: int
    schema_id: int | None
    error_category: str
    error_message: str | None
    dlq_timestamp: str
    value: str = Field(description="its bytes, as base64")
    text: str | None = Field(description="the same, where they are text")


_ERRORS: Final = {
    400: "the question must be changed",
    401: "no key, or one that is not known",
    403: "the key does not allow this",
    406: "there is no such format",
    413: "the answer would be too large, or would take too long",
    429: "too many requests; Retry-After says when to come back",
    503: "the catalog, the files or this server cannot answer now; Retry-After says when to come back",
}
_BYTES: Final = {"schema": {"type": "string", "format": "binary"}}


def errors(*more: int) -> dict[int | str, dict[str, Any]]:
    """The errors of every route, and those of one route."""
    known = {**_ERRORS, **dict.fromkeys(more, "")}
    titles = {404: "there is no such thing", 410: "the cursor's snapshot has expired", 415: "the body is packed"}
    schema = {"schema": {"$ref": "#/components/schemas/Problem"}}
    return {
        status: {"description": words or titles[status], "content": {PROBLEM: schema}}
        for status, words in sorted(known.items())
    }


def rows(model: type[BaseModel], *more: int) -> dict[int | str, dict[str, Any]]:
    """The answers of a route that gives rows in every format."""
    shape = {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}
    content = {Media.JSON.value: shape, Media.CSV.value: {"schema": {"type": "string"}}}
    content |= {Media.PARQUET.value: _BYTES, Media.ARROW.value: _BYTES}
    found: dict[int | str, dict[str, Any]] = {200: {"description": "the rows", "content": content}}
    return found | {304: {"description": "what you have has not changed"}} | errors(*more)


SHAPES: Final[tuple[type[BaseModel], ...]] = (Problem, Trade, TradesPage, Bar, Bars, Rows, SqlRows, DeadLetter)
