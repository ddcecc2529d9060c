"""The exchange of the made-up protocol: numbered updates on a websocket, the whole book over REST."""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiohttp import web

SYMBOLS = ("BTCUSDT", "ETHUSDT")


def _instrument(symbol: str) -> dict[str, Any]:
    """Return what Binance's list, whose names the protocol borrows, says of a symbol."""
    filters = [
        {"filterType": "PRICE_FILTER", "tickSize": "0.01000000"},
        {"filterType": "LOT_SIZE", "stepSize": "0.00001000"},
    ]
    assets = {"baseAsset": symbol.removesuffix("USDT"), "quoteAsset": "USDT"}
    return {"symbol": symbol, "status": "TRADING", **assets, "filters": filters}


@dataclass
class DepthVenue:
    """Sends `updates` to each client; `skip` are numbers that it never sends, `cut_after` ends the first connection."""

    updates: int
    skip: frozenset[int] = frozenset()
    cut_after: int = 0
    sent: list[bytes] = field(default_factory=list)
    snapshots: int = 0
    clients: int = 0
    _runner: web.AppRunner | None = None

    async def start(self) -> int:
        """Open the port and return it."""
        app = web.Application()
        app.add_routes(
            [
                web.get("/depth", self._websocket),
                web.get("/snapshot", self._snapshot),
                web.get("/api/v3/exchangeInfo", self._instruments),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Close the port."""
        assert self._runner is not None
        await self._runner.cleanup()

    async def _snapshot(self, request: web.Request) -> web.Response:
        self.snapshots += 1
        return web.json_response({"number": 0, "levels": [[100, 1], [101, 2]]})

    async def _instruments(self, request: web.Request) -> web.Response:
        return web.json_response({"symbols": [_instrument(symbol) for symbol in SYMBOLS]})

    async def _websocket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.clients += 1
        symbols = msgspec.json.decode((await socket.receive()).data)["subscribe"]
        await socket.send_str(msgspec.json.encode({"subscribed": symbols}).decode())
        while self.snapshots < self.clients * len(SYMBOLS):  # noqa: ASYNC110 - the client takes the book first
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)
        last = dict.fromkeys(SYMBOLS, 0)
        end = self.cut_after if self.clients == 1 and self.cut_after else self.updates
        for number in range(1, end + 1):
            for symbol in SYMBOLS:
                if number in self.skip:
                    continue
                await self._send(socket, symbol, number, last[symbol])
                last[symbol] = number
            self._skipped(last, number)
        if self.clients == 1:
            await self._garbage(socket)
        if end != self.updates:
            await asyncio.sleep(0.3)
            await socket.close()
            return socket
        async for _ in socket:
            pass
        return socket

    def _skipped(self, last: dict[str, int], number: int) -> None:
        """Go on as if the skipped update had been sent: the client can see that one is missing."""
        if number in self.skip:
            for symbol in SYMBOLS:
                last[symbol] = number

    async def _send(self, socket: web.WebSocketResponse, symbol: str, number: int, previous: int) -> None:
        levels = [[100 + number, number], [200 + number, 2 * number]]
        await self._frame(socket, symbol, number, previous, levels)

    async def _garbage(self, socket: web.WebSocketResponse) -> None:
        """Send a frame that cannot be parsed, one of another symbol, and one that breaks the channel's own rule."""
        await socket.send_str('{"symbol": "BTCUSDT", "number": ')
        await socket.send_str('{"symbol": "XYZUSDT", "number": 1, "previous": 0, "time": 1, "levels": []}')
        await self._frame(socket, "BTCUSDT", 10_000, 9_999, [])

    async def _frame(
        self, socket: web.WebSocketResponse, symbol: str, number: int, previous: int, levels: list[list[int]]
    ) -> None:
        document = {
            "symbol": symbol, "number": number, "previous": previous, "time": time.time_ns() // 1000, "levels": levels,
        }  # fmt: skip
        frame = msgspec.json.encode(document)
        self.sent.append(frame)
        await socket.send_str(frame.decode())
