"""Frames that no exchange documents, over a real socket: each is kept as it came, and the connection lives."""

from collections.abc import Awaitable, Callable, Sequence

import pytest
from aiohttp import WSMsgType, web

from k2.ingest.connection.session import Tuning

TRADE = (
    b'{"stream":"btcusdt@trade","data":{"e":"trade","E":1723161255343,"s":"BTCUSDT","t":3735683259,'
    b'"p":"61837.63000000","q":"0.02000000","T":1723161255342,"m":true,"M":true}}'
)
ODD = [
    (WSMsgType.BINARY, b"\x00\x01\xff"),
    (WSMsgType.BINARY, TRADE),  # Binance documents text
    (WSMsgType.BINARY, b""),
    (WSMsgType.TEXT, b""),
    (WSMsgType.TEXT, b"\xff\xfe{"),
    (WSMsgType.TEXT, TRADE[:100]),
    (WSMsgType.TEXT, b"[" * 100_000),
    (WSMsgType.TEXT, b'"' + b"x" * 900_000 + b'"'),
]
Serve = Callable[[Sequence[tuple[WSMsgType, bytes]]], Awaitable[str]]


@pytest.fixture
async def exchange():
    """An exchange that sends some frames to each client and then waits; gives its address."""
    runners = []

    async def start(frames: Sequence[tuple[WSMsgType, bytes]]) -> str:
        async def stream(request: web.Request) -> web.WebSocketResponse:
            socket = web.WebSocketResponse()
            await socket.prepare(request)
            for kind, frame in frames:
                await socket.send_frame(frame, kind)
            async for _ in socket:
                pass
            return socket

        app = web.Application()
        app.add_routes([web.get("/stream", stream)])
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        runners.append(runner)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return f"ws://127.0.0.1:{runner.addresses[0][1]}"

    yield start
    for runner in runners:
        await runner.cleanup()


async def test_what_is_no_message_is_kept_whole_and_the_connection_lives(exchange: Serve, shard, eventually):
    url = await exchange([*ODD, (WSMsgType.TEXT, TRADE)])
    ingest = shard("binance", ["BTCUSDT"])
    ingest.start(url, tuning=Tuning(), repair=False)
    await eventually(lambda: ingest.stats.received["BTCUSDT"])
    assert (ingest.stats.reconnects, ingest.stats.connections) == (0, 1)
    assert await ingest.stop() == 0
    assert sorted(ingest.dead_letters()) == sorted((frame, "MALFORMED_FRAME") for _, frame in ODD)
    assert [trade["trade_id"] for trade in ingest.stored()] == ["3735683259"]


async def test_one_absurd_id_in_the_stream_costs_no_trade_and_opens_no_gap(exchange: Serve, shard, eventually):
    first = 3_735_683_259
    frames = [
        TRADE.replace(b"3735683259", str(number).encode()) for number in (first, 9 * 10**18, first + 1, first + 2)
    ]
    url = await exchange([(WSMsgType.TEXT, frame) for frame in frames])
    ingest = shard("binance", ["BTCUSDT"])
    ingest.start(url, tuning=Tuning(), repair=False)
    await eventually(lambda: ingest.stats.received["BTCUSDT"] == 4)
    assert await ingest.stop() == 0
    assert sorted(int(record["trade_id"]) for record in ingest.stored()) == [first, first + 1, first + 2]
    assert ingest.dead_letters() == [(frames[1], "IMPLAUSIBLE_ID")]
    assert not ingest.gap_events()
