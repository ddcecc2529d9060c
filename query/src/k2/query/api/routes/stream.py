"""`/v1/stream`: live trades, as server-sent events or over a websocket.

Both carry the same stream: each trade once, with an id to resume from. A client that reads too slowly gets a `dropped`
event and is disconnected.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Annotated, Any, Final
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
from k2.query import times
from k2.query.api.auth import requires
from k2.query.api.errors import unknown_parameter
from k2.query.api.keys import Scope
from k2.query.api.parameters import Exchange, Parameters
from k2.query.errors import BadQuery, Unavailable
from k2.query.kafka.row_types import Row
from k2.query.live.broadcaster import Broadcaster, CursorExpired, SubscriberLimit
from k2.query.live.resume import MAX_LENGTH
from k2.query.live.subscriptions import Dropped, Event, Heartbeat, Subscription
from k2.query.sql.record_sql import RecordFilter
from k2.schemas.channels import TRADES
from k2.schemas.values import format_decimal, from_micros

if TYPE_CHECKING:
    from starlette import types


log = logs.get("stream")

HEARTBEAT: Final = 10.0
SEND_TIMEOUT: Final = 30.0  # seconds until a client that reads nothing is disconnected
MAX_SYMBOLS: Final = 200
_RETRY_SOON: Final = {"Retry-After": "5"}
_POLICY_VIOLATION, _TRY_AGAIN_LATER = 1008, 1013  # close codes of RFC 6455


class StreamParameters(Parameters):
    """Query parameters of `/v1/stream`."""

    symbols: Annotated[str, Field(max_length=10_000, description="comma separated, such as BTCUSDT,ETHUSDT")] = ""
    exchange: Exchange | None = None
    cursor: Annotated[str, Field(max_length=MAX_LENGTH, description="the id to resume from")] = ""


def router() -> APIRouter:
    """Return the two routes. `app.state.broadcaster` serves them; None where nothing is streamed."""
    routes = APIRouter(tags=["stream"])
    routes.add_api_route(
        "/v1/stream",
        _events,
        methods=["GET"],
        name="stream",
        dependencies=[Depends(requires(Scope.STREAM))],
        response_class=EventSourceResponse,
        responses={200: {"content": {"text/event-stream": {}}, "description": "events `trade` and `dropped`"}},
    )
    routes.add_api_websocket_route("/v1/stream", _websocket)
    return routes


async def _events(
    request: Request,
    query: Annotated[StreamParameters, Query()],
    last_event_id: Annotated[str | None, Header(max_length=MAX_LENGTH)] = None,
) -> Response:
    """Live trades, each once. `Last-Event-ID` or `cursor` resumes after the event with this id."""
    subscription = await _subscribe(request, query, last_event_id or query.cursor)
    rate_headers: dict[str, str] = getattr(request.state, "headers", {})
    return _EventStream(subscription, rate_headers)


class _EventStream(EventSourceResponse):
    """A subscription as server-sent events. The subscription is closed however the response ends."""

    def __init__(self, subscription: Subscription, headers: dict[str, str]) -> None:
        self._subscription = subscription
        super().__init__(
            _server_sent_events(subscription),
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


async def _server_sent_events(subscription: Subscription) -> AsyncIterator[ServerSentEvent]:
    async with aclosing(_events_of(subscription)) as events:
        async for event in events:
            match event:
                case Event():
                    yield ServerSentEvent(trade_json(event.row).decode(), event="trade", id=event.id)
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
        websocket.app.state.access.authorize(websocket, Scope.STREAM)
        query = _parameters(websocket)
        subscription = await _subscribe(websocket, query, query.cursor)
    except HTTPException as error:
        await _reject(websocket, error.detail, retryable=error.status_code in {429, 503})
        return
    except (BadQuery, Unavailable) as error:
        await _reject(websocket, str(error), retryable=isinstance(error, Unavailable))
        return
    sending = asyncio.create_task(_send(websocket, subscription))
    receiving = asyncio.create_task(_until_disconnect(websocket))
    try:
        await asyncio.wait([sending, receiving], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (sending, receiving):
            task.cancel()
        results = await asyncio.gather(sending, receiving, return_exceptions=True)
        subscription.close()
    for result in results:
        if isinstance(result, Exception) and not isinstance(result, WebSocketDisconnect | TimeoutError | RuntimeError):
            raise result


async def _reject(websocket: WebSocket, reason: str, *, retryable: bool) -> None:
    await websocket.close(_TRY_AGAIN_LATER if retryable else _POLICY_VIOLATION, _close_reason(reason))


async def _send(websocket: WebSocket, subscription: Subscription) -> None:
    async with aclosing(_events_of(subscription)) as events:
        async for event in events:
            match event:
                case Event():
                    message = b'{"event":"trade","id":"%b","data":%b}' % (event.id.encode(), trade_json(event.row))
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


def trade_json(row: Row) -> bytes:
    """Encode a trade as JSON: decimals as strings, times as RFC 3339."""
    fields: dict[str, Any] = dict(zip(TRADES.column_names, row, strict=True))
    for name in ("timestamp", "ingestion_timestamp"):
        fields[name] = _time(fields[name])
    for name in ("price", "quantity"):
        fields[name] = format_decimal(fields[name])
    return msgspec.json.encode(fields)


def _events_of(subscription: Subscription) -> AsyncGenerator[Event | Heartbeat | Dropped]:
    return subscription.events(HEARTBEAT)


async def _subscribe(connection: HTTPConnection, query: StreamParameters, cursor: str) -> Subscription:
    broadcaster: Broadcaster | None = getattr(connection.app.state, "broadcaster", None)
    if broadcaster is None:
        raise HTTPException(503, "live streaming is not available; it needs Kafka", _RETRY_SOON)
    names = [name.strip() for name in query.symbols.split(",") if name.strip()]
    if len(names) > MAX_SYMBOLS:
        raise BadQuery(
            f"symbols: {len(names)} symbols exceed the limit of {MAX_SYMBOLS} per stream; omit the parameter for all"
        )
    filters = [RecordFilter.of(name, query.exchange, None, None) for name in names]
    exchange = RecordFilter.of(None, query.exchange, None, None).exchange
    symbols = frozenset(each.symbol for each in filters if each.symbol)
    try:
        return await broadcaster.subscribe(symbols, exchange, cursor or None)
    except SubscriberLimit as error:
        raise HTTPException(429, str(error), _RETRY_SOON) from error
    except CursorExpired as error:
        raise HTTPException(410, str(error)) from error


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


def _time(micros: int) -> str | None:
    with suppress(OverflowError):
        return times.to_rfc3339(from_micros(micros))
    return None


def _close_reason(reason: str) -> str:
    """Truncate a reason to what a close frame can carry."""
    return reason.encode()[:120].decode(errors="ignore")
