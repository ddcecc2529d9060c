"""HTTP server of an ingest process: /metrics, /status, /healthz, /readyz."""

import time
from typing import Final

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from k2.ingest.telemetry.stats import Stats
from k2.schemas.channels import Channel, Record
from k2.schemas.states import CircuitState
from k2.schemas.status import GapCounts, InstrumentsStatus, ShardStatus, SymbolStatus
from k2.schemas.values import format_decimal, from_micros

_HEARTBEAT_TIMEOUT: Final = 30.0
_CIRCUIT_STATES = (CircuitState.CLOSED, CircuitState.HALF_OPEN, CircuitState.OPEN)


def shard_status(stats: Stats, channel: Channel, *, feed: str, exchange: str, shard: str) -> ShardStatus:
    """Return the `/status` document of one channel of a shard."""
    return ShardStatus(
        feed=feed,
        exchange=exchange,
        channel=channel.name,
        shard=shard,
        connected=stats.connected,
        endpoint=stats.endpoint,
        message=stats.message,
        resume=stats.resume,
        uptime_seconds=round(time.monotonic() - stats.started_at, 1),
        messages_per_second=round(stats.rate, 1),
        loop_lag_seconds=round(stats.loop_lag, 3),
        last_message_time=from_micros(stats.last_received).isoformat() if stats.last_received else None,
        reconnects=stats.reconnects,
        received=sum(stats.received.values()),
        delivered=sum(stats.delivered.values()),
        in_flight=stats.in_flight,
        delivery_failures=stats.failures,
        unaccepted=stats.unaccepted,
        duplicates=sum(stats.duplicates.values()),
        backfilled=stats.sources["backfill"],
        gaps=GapCounts(
            open=stats.gaps_open,
            detected=sum(stats.gaps_detected.values()),
            repaired=sum(stats.gaps_repaired.values()),
            unrecoverable=sum(stats.gaps_unrecoverable.values()),
        ),
        never_issued=sum(stats.gaps_never_issued.values()),
        dead_letters=dict(stats.dead_letters),
        errors=dict(stats.errors),
        refused=dict(stats.refused),
        circuit=_CIRCUIT_STATES[stats.circuit],
        resident_bytes=stats.resident_bytes,
        clock_offset_seconds=round(stats.clock_offset, 3) if stats.clock_offset is not None else None,
        clock_wrong=stats.clock_wrong,
        symbols={symbol: _symbol(stats, channel, symbol) for symbol in {**stats.symbol_states, **stats.newest}},
        states={state.value: count for state, count in stats.symbols_by_state.items()},
        instruments=_instruments(stats),
        shards=stats.spread,
    )


def _instruments(stats: Stats) -> InstrumentsStatus:
    if not stats.list_read_at:
        return InstrumentsStatus(error=stats.list_error)
    return InstrumentsStatus(
        read_at=from_micros(stats.list_read_at).isoformat(),
        age_seconds=round(time.time() - stats.list_read_at / 1e6, 1),
        cached=stats.list_cached,
        error=stats.list_error,
        halted=stats.halted,
        matching=stats.matching,
        left_out=stats.left_out,
    )


def _symbol(stats: Stats, channel: Channel, symbol: str) -> SymbolStatus:
    record = stats.newest.get(symbol)
    state, reason = stats.symbol_states.get(symbol, ("", ""))
    price = _price(channel, record) if record is not None else ""
    return SymbolStatus(received=stats.received[symbol], price=price, state=state, reason=reason)


def _price(channel: Channel, record: Record) -> str:
    return format_decimal(getattr(record, channel.price_column)) if channel.price_column else ""


def unhealthy(stats: Stats, now: float) -> str:
    """Return why only a restart can help; empty if the process is well. `now` is monotonic.

    Services that do not answer, Kafka included, are none of these reasons: `/readyz` tells them.
    """
    for name, moved in stats.heartbeats.items():
        if now - moved > _HEARTBEAT_TIMEOUT:
            return f"the {name} loop has not moved for {now - moved:.0f} s"
    return stats.stuck


async def serve(
    stats: Stats,
    channel: Channel,
    registry: CollectorRegistry,
    *,
    host: str,
    port: int,
    feed: str,
    exchange: str,
    shard: str,
) -> web.AppRunner:
    """Start the server. Raises OSError if the port is in use."""

    async def metrics(request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(",".join(request.headers.getall("Accept", [])))
        return web.Response(body=encode(registry), headers={"Content-Type": content_type})

    async def status_document(_: web.Request) -> web.Response:
        status = shard_status(stats, channel, feed=feed, exchange=exchange, shard=shard)
        return web.Response(body=msgspec.json.encode(status), content_type="application/json", charset="utf-8")

    async def healthz(_: web.Request) -> web.Response:
        if reason := unhealthy(stats, time.monotonic()):
            return web.Response(status=503, text=f"{reason}\n")
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        if stats.connected and not stats.circuit:
            return web.Response(text="ok\n")
        return web.Response(status=503, text=f"{stats.message or 'not connected'}\n")

    app = web.Application()
    app.add_routes(
        [
            web.get("/metrics", metrics),
            web.get("/status", status_document),
            web.get("/healthz", healthz),
            web.get("/readyz", readyz),
        ]
    )
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    return runner
