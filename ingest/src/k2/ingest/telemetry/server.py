"""What a shard says of itself over HTTP: /metrics, /status, /healthz, /readyz."""

import time
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest

from k2.ingest.telemetry.stats import Stats
from k2.schemas.values import format_decimal, from_micros


def document(stats: Stats, *, feed: str, exchange: str, shard: str) -> dict[str, Any]:
    """The figures of `kubectl get feeds`, for one shard."""
    return {
        "feed": feed,
        "exchange": exchange,
        "shard": shard,
        "connected": stats.connections > 0,
        "endpoint": stats.endpoint,
        "message": stats.message,
        "uptimeSeconds": round(time.monotonic() - stats.started_at, 1),
        "messagesPerSecond": round(stats.rate, 1),
        "lastMessageTime": from_micros(stats.last_received).isoformat() if stats.last_received else None,
        "reconnects": stats.reconnects,
        "received": sum(stats.received.values()),
        "delivered": sum(stats.delivered.values()),
        "inFlight": stats.in_flight,
        "deliveryFailures": stats.failures,
        "unaccepted": stats.unaccepted,
        "duplicates": sum(stats.duplicates.values()),
        "backfilled": stats.sources["backfill"],
        "gaps": {
            "open": stats.gaps_open,
            "detected": sum(stats.gaps_detected.values()),
            "repaired": sum(stats.gaps_repaired.values()),
            "unrecoverable": sum(stats.gaps_unrecoverable.values()),
        },
        "deadLetters": dict(stats.dead_letters),
        "errors": dict(stats.errors),
        "refused": stats.refused,
        "circuit": ("closed", "half-open", "open")[stats.circuit],
        "residentBytes": stats.resident_bytes,
        "symbols": {
            symbol: {"trades": stats.received[symbol], "price": format_decimal(price)}
            for symbol, price in stats.last_prices.items()
        },
    }


async def serve(
    stats: Stats, registry: CollectorRegistry, *, host: str, port: int, feed: str, exchange: str, shard: str
) -> web.AppRunner:
    """Starts the server; raises OSError if the port is taken."""

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": "text/plain; version=0.0.4"})

    async def status(_: web.Request) -> web.Response:
        return web.json_response(document(stats, feed=feed, exchange=exchange, shard=shard))

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        if stats.connections and not stats.circuit:
            return web.Response(text="ok\n")
        return web.Response(status=503, text=f"{stats.message or 'not connected'}\n")

    app = web.Application()
    app.add_routes(
        [
            web.get("/metrics", metrics),
            web.get("/status", status),
            web.get("/healthz", healthz),
            web.get("/readyz", readyz),
        ]
    )
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    return runner
