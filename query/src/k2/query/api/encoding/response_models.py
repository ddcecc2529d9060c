"""Response models of the OpenAPI document. They validate nothing: rows are sent as the engine returns them."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from pydantic import BaseModel, Field, create_model

from k2.query.api.encoding.formats import MediaType
from k2.query.api.errors import PROBLEM_JSON
from k2.query.sql.quote_sql import QUOTE_LIST
from k2.schemas.channels import QUOTES, TRADES
from k2.schemas.tables import BARS_TABLE, INSTRUMENTS_TABLE, Column
from k2.schemas.tables.spec import PRICE


class Problem(BaseModel):
    """An error as RFC 9457 problem details."""

    type: str
    title: str
    status: int
    detail: str = Field(description="one sentence that says what to change")
    line: int | None = Field(None, description="of an SQL statement, where it is wrong, from 1")
    column: int | None = Field(None, description="in that line, from 1")
    excerpt: str | None = Field(None, description="the line, and below it a line with a caret at the column")


def _row_model(
    name: str, doc: str, columns: Iterable[Column], described: Mapping[str, str], optional: Iterable[str] = ()
) -> type[BaseModel]:
    """Return the model of a table's rows in JSON: numbers for int and bigint, strings for every other type."""
    fields: dict[str, Any] = {}
    for column in columns:
        kind: Any = int if column.type in {"int", "bigint"} else str
        kind = kind | None if column.nullable or column.name in optional else kind
        fields[column.name] = (kind, Field(description=described.get(column.name)))
    return create_model(name, __doc__=doc, **fields)


Trade: Final = _row_model(
    "Trade",
    "One trade.",
    (column for column in TRADES.gold.columns if column.name in TRADES.column_names),
    {
        "timestamp": "exchange time, RFC 3339 in UTC",
        "price": "an exact decimal",
        "quantity": "an exact decimal, in the base asset",
        "side": "BUY or SELL: the aggressor's side",
        "vendor_data": "further fields of the exchange, as JSON",
    },
    optional=("vendor_data",),
)


class TradesPage(BaseModel):
    """A page of trades."""

    data: list[Trade]  # type: ignore[valid-type]
    next: str | None = Field(description="URL of the next page")
    snapshot_id: str | None = Field(description="snapshot of Gold; pass it as as_of to get the same result again")


Quote: Final = _row_model(
    "Quote",
    "The best bid and ask at one time.",
    (
        # Integers in the table, decimals here.
        replace(column, type=PRICE) if column.name.endswith(("_price", "_quantity")) else column
        for column in QUOTES.columns
        if column.name in QUOTE_LIST.columns
    ),
    {
        "timestamp": "exchange time, RFC 3339 in UTC; null where the exchange sends none",
        **dict.fromkeys(("bid_price", "ask_price"), "an exact decimal; null if the side is empty"),
        **dict.fromkeys(("bid_quantity", "ask_quantity"), "an exact decimal, in the base asset"),
        "verdict": "verified, unverifiable or suspect: whether quotes before it may be missing",
    },
)


class QuotesPage(BaseModel):
    """A page of quotes."""

    data: list[Quote]  # type: ignore[valid-type]
    next: str | None = Field(description="URL of the next page")
    snapshot_id: str | None = Field(description="snapshot of Gold; pass it as as_of to get the same result again")


class Level(BaseModel):
    """A price of a book, and the quantity of all orders at it."""

    price: str = Field(description="an exact decimal")
    quantity: str = Field(description="an exact decimal, in the base asset")


class Book(BaseModel):
    """An order book at an instant."""

    exchange: str
    symbol: str
    at: str = Field(description="the instant")
    time: str = Field(description="time of the last message that the book includes")
    age_ms: int = Field(description="milliseconds from `time` to `at`")
    snapshot_time: str = Field(description="time of the snapshot that it stands on")
    verdict: str = Field(description="verified, unverifiable or suspect: the worst of the messages that it stands on")
    last_id: int | None = Field(description="the exchange's id of its state, where there are ids")
    connections: list[str] = Field(description="the connections whose messages it stands on")
    bids: list[Level] = Field(description="best first")
    asks: list[Level] = Field(description="best first")


class Books(BaseModel):
    """Order books, by exchange and instant."""

    data: list[Book]


_BAR_INTERNALS: Final = {"first_trade_time", "first_id", "last_trade_time", "last_id", "exchange_date"}
_BAR_COLUMNS: Final = (
    *(column for column in BARS_TABLE.columns if column.name not in _BAR_INTERNALS),
    Column("close_time", "timestamp", ""),
    Column("complete", "string", ""),
)
Bar: Final = _row_model(
    "Bar",
    "The trades of one bar, aggregated.",
    _BAR_COLUMNS,
    {
        "open_time": "the beginning of the interval; of a bar by activity, the time of its first trade",
        "close_time": "only of bars by activity: the time of the last trade",
        "volume": "the sum of quantities, exact; null beyond 38 digits",
        "vwap": "rounded half up to 12 places; null if a sum exceeds 38 digits",
        "notional": "the sum of price times quantity, exact; null beyond 38 digits",
        "complete": "whether every trade was captured, by the audit: true, false or unverifiable",
    },
    optional=("open", "high", "low", "close", "volume", "vwap", "notional", "close_time"),
)


class Bars(BaseModel):
    """Bars in time order."""

    data: list[Bar]  # type: ignore[valid-type]
    snapshot_id: str | None


Instrument: Final = _row_model(
    "Instrument",
    "A version of an instrument.",
    (column for column in INSTRUMENTS_TABLE.columns if column.name != "definition"),
    {column.name: column.doc for column in INSTRUMENTS_TABLE.columns},
    optional=(
        "settle_asset", "contract_size", "expiry", "tick_size", "lot_size", "min_notional", "listed_at", "delisted_at",
        "valid_to",
    ),
)  # fmt: skip


class Instruments(BaseModel):
    """Instruments, by exchange and raw symbol."""

    data: list[Instrument]  # type: ignore[valid-type]


class Rows(BaseModel):
    """Rows of any other kind."""

    data: list[dict[str, Any]]


class SqlRows(Rows):
    """The result of a SQL statement."""

    truncated: bool = Field(description="whether there are more rows than returned")


class DeadLetter(BaseModel):
    """A record that could not be decoded or validated."""

    exchange: str
    topic: str
    partition: int
    offset: int
    schema_id: int | None
    error_category: str
    error_message: str | None
    dead_lettered_at: str
    value: str = Field(description="the bytes, as base64")
    text: str | None = Field(description="the bytes as text, if they are UTF-8")
    items: list[dict[str, Any]] | None = Field(
        description="of a frame: which of its items are invalid, and why; null if it is invalid as a whole"
    )


_ERRORS: Final = {
    400: "the query is invalid",
    401: "missing or unknown API key",
    403: "the key lacks the scope",
    406: "no such format",
    413: "the result is too large, or takes too long",
    429: "too many requests; Retry-After says when to retry",
    503: "the catalog, the files or the server are not available; Retry-After says when to retry",
}
_BYTES: Final = {"schema": {"type": "string", "format": "binary"}}


def error_responses(*more: int) -> dict[int | str, dict[str, Any]]:
    """Return the errors of every route, and `more` that only one route has."""
    descriptions = {**_ERRORS, **dict.fromkeys(more, "")}
    titles = {404: "not found", 410: "the cursor's snapshot has expired", 415: "the body is compressed"}
    schema = {"schema": {"$ref": "#/components/schemas/Problem"}}
    return {
        status: {"description": words or titles[status], "content": {PROBLEM_JSON: schema}}
        for status, words in sorted(descriptions.items())
    }


def row_responses(model: type[BaseModel], *more: int) -> dict[int | str, dict[str, Any]]:
    """Return the responses of a route that returns rows in every format."""
    model_schema = {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}
    content = {MediaType.JSON.value: model_schema, MediaType.CSV.value: {"schema": {"type": "string"}}}
    content |= {MediaType.PARQUET.value: _BYTES, MediaType.ARROW.value: _BYTES}
    success: dict[int | str, dict[str, Any]] = {200: {"description": "the rows", "content": content}}
    return success | {304: {"description": "not modified"}} | error_responses(*more)


MODELS: Final[tuple[type[BaseModel], ...]] = (
    Problem, Trade, TradesPage, Quote, QuotesPage, Level, Book, Books, Bar, Bars, Instrument,
    Instruments, Rows, SqlRows, DeadLetter,
)  # fmt: skip
