"""`/v1/stream`: trades as they come, as server-sent events or over a websocket.

Both are the same stream: each trade once, with an id to resume from. A client that does not read what waits for it is
told so and let go.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Annotated, Any, Final
from urllib.parse import urlsplit

import msgspec
from fastapi import APIRouter, Depends, Header, Query
from fastapi.requests import HTTPConnection, Request
from pydantic import Field
from sse_starlette import EventSourceResponse, ServerSentEvent
from sse_starlette.sse import SendTimeoutError
from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketDisconnect

from k2.common import logs
from k2.query import times
from k2.query.api.auth import requires
from k2.query.api.errors import Refused
from k2.query.api.keys import Scope
from k2.query.api.parameters import Exchange, Parameters
from k2.query.errors import BadQuery, Unavailable
from k2.query.kafka.validation import Row
from k2.query.live.broadcaster import Full, Gone, Hub
from k2.query.live.resume import LONGEST
from k2.query.live.subscriptions import Dropped, Event, Silence, Subscription
from k2.query.sql.trade_sql import Wanted
from k2.schemas.values import moment, plain

if TYPE_CHECKING:
    from starlette import types

log = logs.get("stream")

HEARTBEAT: Final = 10.0
STALL: Final = 30.0  # seconds until a client that takes nothing is let go
SYMBOLS: Final = 200
_SOON: Final = {"Retry-After": "5"}
_POLICY, _LATER = 1008, 1013  # a websocket's close codes


class StreamParameters(Parameters):
    """What `/v1/stream` can be asked."""

    symbols: Annotated[str, Field(max_length=10_000, description="comma separated, such as BTCUSDT,ETHUSDT")] = ""
    exchange: Exchange | None = None
    cursor: Annotated[str, Field(max_length=LONGEST, description="the id to resume from")] = ""


def router() -> APIRouter:
    """The two routes. The application's state holds their `hub`; None where nothing is streamed."""
    found = APIRouter(tags=["stream"])
    found.add_api_route(
        "/v1/stream",
        _events,
        methods=["GET"],
        name="stream",
        dependencies=[Depends(requires(Scope.STREAM))],
        response_class=EventSourceResponse,
        responses={200: {"content": {"text/event-stream": {}}, "description": "events `trade` and `dropped`"}},
    )
    found.add_api_websocket_route("/v1/stream", _websocket)
    return found


async def _events(
    request: Request,
    query: Annotated[StreamParameters, Query()],
    last_event_id: Annotated[str | None, Header(max_length=LONGEST)] = None,
) -> Response:
    """Trades as they come, each once. `Last-Event-ID` or `cursor` resumes after the event that had this id."""
    subscription = await _subscribed(request, query, last_event_id or query.cursor)
    spent: dict[str, str] = getattr(request.state, "headers", {})
    return _Told(subscription, spent)


class _Told(EventSourceResponse):
    """A subscription as server-sent events. However it ends, the subscription ends with it."""

    def __init__(self, subscription: Subscription, headers: dict[str, str]) -> None:
        self._subscription = subscription
        super().__init__(
            _sent(subscription),
            headers=headers,
            ping=0,
            send_timeout=STALL,
            sep="\n",
        )

    async def __call__(self, scope: "types.Scope", receive: "types.Receive", send: "types.Send") -> None:
        """Sends until the client is gone, or reads nothing."""
        try:
            await super().__call__(scope, receive, send)
        except SendTimeoutError:
            log.info("a client that read nothing was let go", seconds=STALL)
        finally:
            self._subscription.close()


async def _sent(subscription: Subscription) -> AsyncIterator[ServerSentEvent]:
    async with aclosing(_of(subscription)) as events:
        async for event in events:
            match event:
                case Event():
                    yield ServerSentEvent(trade(event.row).decode(), event="trade", id=event.id)
                case Silence():
                    yield ServerSentEvent(comment="heartbeat", id=event.id)
                case Dropped():
                    reason = msgspec.json.encode({"reason": event.reason, "id": event.id})
                    yield ServerSentEvent(reason.decode(), event="dropped", id=event.id)


async def _websocket(websocket: WebSocket) -> None:
    """The same over a websocket: `{"event": "trade", "id": ..., "data": {...}}`, `dropped`, and `heartbeat`."""
    await websocket.accept()
    try:
        _refuse_strangers(websocket)
        websocket.app.state.access.admit(websocket, Scope.STREAM)
        query = _parameters(websocket)
        subscription = await _subscribed(websocket, query, query.cursor)
    except (Refused, BadQuery, Unavailable) as error:
        later = isinstance(error, Unavailable) or (isinstance(error, Refused) and error.status in {429, 503})
        await websocket.close(_LATER if later else _POLICY, _short(str(error)))
        return
    sending = asyncio.create_task(_send(websocket, subscription))
    hearing = asyncio.create_task(_hear(websocket))
    try:
        await asyncio.wait([sending, hearing], return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (sending, hearing):
            task.cancel()
        found = await asyncio.gather(sending, hearing, return_exceptions=True)
        subscription.close()
    for ended in found:
        if isinstance(ended, Exception) and not isinstance(ended, WebSocketDisconnect | TimeoutError | RuntimeError):
            raise ended


async def _send(websocket: WebSocket, subscription: Subscription) -> None:
    async with aclosing(_of(subscription)) as events:
        async for event in events:
            match event:
                case Event():
                    told = b'{"event":"trade","id":"%b","data":%b}' % (event.id.encode(), trade(event.row))
                case Dropped():
                    told = msgspec.json.encode({"event": "dropped", "id": event.id, "data": {"reason": event.reason}})
                case Silence():
                    told = msgspec.json.encode({"event": "heartbeat", "id": event.id})
            async with asyncio.timeout(STALL):
                await websocket.send_text(told.decode())
    await websocket.close(_LATER, _short("dropped; resume from the id of the last event"))


async def _hear(websocket: WebSocket) -> None:
    """Until the client is gone. What it says is not listened to."""
    while True:
        message = await websocket.receive()
        if message["type"] == "websocket.disconnect":
            return


def trade(row: Row) -> bytes:
    """A trade as JSON: decimals are strings, times RFC 3339."""
    told: dict[str, Any] = row._asdict()
    for name in ("timestamp", "ingestion_timestamp"):
        told[name] = _time(told[name])
    for name in ("price", "quantity"):
        told[name] = plain(told[name])
    return msgspec.json.encode(told)


def _of(subscription: Subscription) -> AsyncGenerator[Event | Silence | Dropped]:
    return subscription.events(HEARTBEAT)


async def _subscribed(connection: HTTPConnection, query: StreamParameters, cursor: str) -> Subscription:
    hub: Hub | None = getattr(connection.app.state, "hub", None)
    if hub is None:
        raise Refused(503, "there is no live stream here; it needs Kafka", _SOON)
    names = [name.strip() for name in query.symbols.split(",") if name.strip()]
    if len(names) > SYMBOLS:
        raise BadQuery(
            f"symbols: {len(names)} are more than the {SYMBOLS} that one stream takes; leave them out for all"
        )
    wanted = [Wanted.of(name, query.exchange, None, None) for name in names]
    exchange = Wanted.of(None, query.exchange, None, None).exchange
    symbols = frozenset(found.symbol for found in wanted if found.symbol)
    try:
        return await hub.subscribe(symbols, exchange, cursor or None)
    except Full as error:
        raise Refused(429, str(error), _SOON) from error
    except Gone as error:
        raise Refused(410, str(error)) from error


def _parameters(websocket: WebSocket) -> StreamParameters:
    from pydantic import ValidationError

    try:
        return StreamParameters.model_validate(dict(websocket.query_params))
    except ValidationError as error:
        wrong = error.errors()[0]
        name = ".".join(str(part) for part in wrong["loc"])
        raise BadQuery(f"{name}: {wrong['msg']}; see /openapi.json") from error


def _refuse_strangers(websocket: WebSocket) -> None:
    """A page of elsewhere may open a websocket to anywhere, and no browser asks first."""
    origin = websocket.headers.get("origin")
    settings = getattr(websocket.app.state, "settings", None)
    allowed = settings.cors if settings else ()
    if origin and urlsplit(origin).netloc != websocket.headers.get("host") and not {origin, "*"} & set(allowed):
        raise Refused(403, "pages of this origin may not ask; K2_API_CORS names those that may")


def _time(micros: int) -> str | None:
    with suppress(OverflowError):
        return times.text(moment(micros))
    return None


def _short(reason: str) -> str:
    """A reason as long as a websocket can carry it."""
    return reason.encode()[:120].decode(errors="ignore")
