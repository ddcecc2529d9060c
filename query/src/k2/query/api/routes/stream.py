"""`/v1/stream`: live trades, quotes or order books, as server-sent events or over a websocket.

Both carry the same stream of one channel: each record once, with an id to resume from. That of books begins with
snapshots. A client that reads too slowly gets a `dropped` event and is disconnected.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final
from urllib.parse import urlsplit

import msgspec
from fastapi import APIRouter, Depends, Header, HTTPException, Query
from fastapi.requests import HTTPConnection, Request
from pydantic import Field
from sse_starlette import EventSourceResponse, ServerSentEvent
from sse_starlette.sse import SendTimeoutError
from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketDisconnect

from k2.common import logs
from k2.query.api.auth import requires
from k2.query.api.errors import unknown_parameter
from k2.query.api.keys import Scope
from k2.query.api.parameters import ChannelName, Exchange, Parameters, parse_channel
from k2.query.book.reader import BookState
from k2.query.errors import BadQuery, CatalogEmpty, Unavailable
from k2.query.execution.cancellation import Interrupt
from k2.query.live import opening, record_json
from k2.query.live.broadcaster import Broadcaster, CursorExpired, SubscriberLimit
from k2.query.live.resume import MAX_LENGTH
from k2.query.live.subscriptions import Dropped, Event, Heartbeat, Subscription
from k2.query.sql.record_sql import RecordFilter
from k2.schemas.channels import BOOK, TRADES, Channel

if TYPE_CHECKING:
    from starlette import types

    from k2.query.api.delivery.responses import QueryExecutor


log = logs.get("stream")

HEARTBEAT: Final = 10.0
SEND_TIMEOUT: Final = 30.0  # seconds until a client that reads nothing is disconnected
MAX_SYMBOLS: Final = 200
MAX_BOOKS: Final = 10  # symbols of a stream of books, each of which begins with a whole book in memory
_RETRY_SOON: Final = {"Retry-After": "5"}
_POLICY_VIOLATION, _TRY_AGAIN_LATER = 1008, 1013  # close codes of RFC 6455


_DESCRIPTION: Final = (
    "events `trade`, `quote` or `book`, by the channel, and `dropped`. Each has the columns of its channel, with "
    "decimals as strings. A stream of books without an id to resume from begins with the newest state of each "
    "connection as a `book` of the kind snapshot, in `parts`; the deltas of a connection follow in order."
)


class StreamParameters(Parameters):
    """Query parameters of `/v1/stream`."""

    channel: ChannelName = TRADES.name
    symbols: Annotated[str, Field(max_length=10_000, description="comma separated, such as BTCUSDT,ETHUSDT")] = ""
    exchange: Exchange | None = None
    cursor: Annotated[str, Field(max_length=MAX_LENGTH, description="the id to resume from")] = ""


def router() -> APIRouter:
    """Return the two routes. `app.state.broadcasters` serve them, by channel; None where nothing is streamed."""
    routes = APIRouter(tags=["stream"])
    routes.add_api_route(
        "/v1/stream",
        _events,
        methods=["GET"],
        name="stream",
        dependencies=[Depends(requires(Scope.STREAM))],
        response_class=EventSourceResponse,
        responses={200: {"content": {"text/event-stream": {}}, "description": _DESCRIPTION}},
    )
    routes.add_api_websocket_route("/v1/stream", _websocket)
    return routes


async def _events(
    request: Request,
    query: Annotated[StreamParameters, Query()],
    last_event_id: Annotated[str | None, Header(max_length=MAX_LENGTH)] = None,
) -> Response:
    """Live records of one channel, each once. `Last-Event-ID` or `cursor` resumes after the event with this id."""
    stream = await _subscribe(request, query, last_event_id or query.cursor)
    rate_headers: dict[str, str] = getattr(request.state, "headers", {})
    return _EventStream(stream, rate_headers)


@dataclass(frozen=True, slots=True)
class _Stream:
    """A subscription to a channel; one of books begins with the states, unless it resumes."""

    channel: Channel
    subscription: Subscription
    states: list[BookState] | None

    @property
    def event_name(self) -> str:
        """The name of the channel's events."""
        return record_json.EVENTS[self.channel]

    def events(self) -> AsyncGenerator[Event | Heartbeat | Dropped]:
        """Return what is sent."""
        events = self.subscription.events(HEARTBEAT)
        if self.states is None:
            return events
        return opening.from_states(self.states, events, self.subscription.id)


class _EventStream(EventSourceResponse):
    """A subscription as server-sent events. The subscription is closed however the response ends."""

    def __init__(self, stream: _Stream, headers: dict[str, str]) -> None:
        self._subscription = stream.subscription
        super().__init__(
            _server_sent_events(stream),
            headers=headers,
            ping=0,
            send_timeout=SEND_TIMEOUT,
            sep="\n",
        )

    async def __call__(self, scope: "types.Scope", receive: "types.Receive", send: "types.Send") -> None:
        """Send until the client disconnects or stops reading."""
        try:
            await super().__call__(scope, receive, send)
        except SendTimeoutError:
            log.info("client disconnected after send timeout", seconds=SEND_TIMEOUT)
        finally:
            self._subscription.close()


async def _server_sent_events(stream: _Stream) -> AsyncIterator[ServerSentEvent]:
    async with aclosing(stream.events()) as events:
        async for event in events:
            match event:
                case Event():
                    record = record_json.encode(stream.channel, event.row).decode()
                    yield ServerSentEvent(record, event=stream.event_name, id=event.id)
                case Heartbeat():
                    yield ServerSentEvent(comment="heartbeat", id=event.id)
                case Dropped():
                    reason = msgspec.json.encode({"reason": event.reason, "id": event.id})
                    yield ServerSentEvent(reason.decode(), event="dropped", id=event.id)


async def _websocket(websocket: WebSocket) -> None:
    """Serve the stream over a websocket: `{"event": "trade", "id": ..., "data": {...}}`, `dropped`, and `heartbeat`."""
    await websocket.accept()
    try:
        _check_origin(websocket)
        websocket.state.client = websocket.app.state.access.authorize(websocket, Scope.STREAM)
        query = _parameters(websocket)
        stream = await _subscribe(websocket, query, query.cursor)
    except HTTPException as error:
        await _reject(websocket, error.detail, retryable=error.status_code in {429, 503})
        return
    except (BadQuery, Unavailable) as error:
        await _reject(websocket, str(error), retryable=isinstance(error, Unavailable))
        return
    sending = asyncio.create_task(_send(websocket, stream))
    receiving = asyncio.create_task(_until_disconnect(websocket))
    try:
        await asyncio.wait([sending, receiving], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (sending, receiving):
            task.cancel()
        results = await asyncio.gather(sending, receiving, return_exceptions=True)
        stream.subscription.close()
    for result in results:
        if isinstance(result, Exception) and not isinstance(result, WebSocketDisconnect | TimeoutError | RuntimeError):
            raise result


async def _reject(websocket: WebSocket, reason: str, *, retryable: bool) -> None:
    await websocket.close(_TRY_AGAIN_LATER if retryable else _POLICY_VIOLATION, _close_reason(reason))


async def _send(websocket: WebSocket, stream: _Stream) -> None:
    name = stream.event_name.encode()
    async with aclosing(stream.events()) as events:
        async for event in events:
            match event:
                case Event():
                    record = record_json.encode(stream.channel, event.row)
                    message = b'{"event":"%b","id":"%b","data":%b}' % (name, event.id.encode(), record)
                case Dropped():
                    message = msgspec.json.encode(
                        {"event": "dropped", "id": event.id, "data": {"reason": event.reason}}
                    )
                case Heartbeat():
                    message = msgspec.json.encode({"event": "heartbeat", "id": event.id})
            async with asyncio.timeout(SEND_TIMEOUT):
                await websocket.send_text(message.decode())
    await websocket.close(_TRY_AGAIN_LATER, _close_reason("dropped; resume from the id of the last event"))


async def _until_disconnect(websocket: WebSocket) -> None:
    """Return when the client disconnects. Its messages are ignored."""
    while True:
        message = await websocket.receive()
        if message["type"] == "websocket.disconnect":
            return


async def _subscribe(connection: HTTPConnection, query: StreamParameters, cursor: str) -> _Stream:
    broadcasters: Mapping[Channel, Broadcaster] | None = getattr(connection.app.state, "broadcasters", None)
    if broadcasters is None:
        raise HTTPException(503, "live streaming is not available; it needs Kafka", _RETRY_SOON)
    channel = parse_channel(query.channel)
    symbols, exchange = _selection(query, channel)
    try:
        subscription = await broadcasters[channel].subscribe(symbols, exchange, cursor or None)
    except SubscriberLimit as error:
        raise HTTPException(429, str(error), _RETRY_SOON) from error
    except CursorExpired as error:
        raise HTTPException(410, str(error)) from error
    if channel is not BOOK or cursor:
        return _Stream(channel, subscription, None)
    try:
        return _Stream(channel, subscription, await _book_states(connection, symbols, exchange))
    except BaseException:
        subscription.close()
        raise


def _selection(query: StreamParameters, channel: Channel) -> tuple[frozenset[str], str | None]:
    """Return the symbols, none for all, and the exchange."""
    names = [name.strip() for name in query.symbols.split(",") if name.strip()]
    if channel is BOOK and not 0 < len(names) <= MAX_BOOKS:
        raise BadQuery(f"symbols: a stream of books takes 1 to {MAX_BOOKS} symbols, not {len(names)}")
    if len(names) > MAX_SYMBOLS:
        raise BadQuery(
            f"symbols: {len(names)} symbols exceed the limit of {MAX_SYMBOLS} per stream; omit the parameter for all"
        )
    filters = [RecordFilter.of(name, query.exchange, None, None) for name in names]
    exchange = RecordFilter.of(None, query.exchange, None, None).exchange
    return frozenset(each.symbol for each in filters if each.symbol), exchange


async def _book_states(connection: HTTPConnection, symbols: frozenset[str], exchange: str | None) -> list[BookState]:
    """Read where a stream of books begins, as a query of the client."""
    executor: QueryExecutor = connection.app.state.executor

    def read() -> list[BookState]:
        engine = executor.get_engine()
        return [state for symbol in sorted(symbols) for state in engine.book_states(symbol, exchange)]

    async with executor.queries.acquire(connection.state.client.name):
        try:
            return await executor.run_step(Interrupt(), read)
        except CatalogEmpty:  # what there is of the first books comes with the stream
            return []


def _parameters(websocket: WebSocket) -> StreamParameters:
    from pydantic import ValidationError

    try:
        return StreamParameters.model_validate(dict(websocket.query_params))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise BadQuery(unknown_parameter(name, StreamParameters.model_fields)) from error
        raise BadQuery(f"{name}: {first['msg']}; see /openapi.json") from error


def _check_origin(websocket: WebSocket) -> None:
    """Reject a foreign Origin header: browsers apply no CORS check to websockets."""
    origin = websocket.headers.get("origin")
    settings = getattr(websocket.app.state, "settings", None)
    allowed = settings.cors if settings else ()
    if origin and urlsplit(origin).netloc != websocket.headers.get("host") and not {origin, "*"} & set(allowed):
        raise HTTPException(403, "this origin is not allowed; add it to K2_API_CORS")


def _close_reason(reason: str) -> str:
    """Truncate a reason to what a close frame can carry."""
    return reason.encode()[:120].decode(errors="ignore")
