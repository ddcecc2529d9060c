"""Binance spot: endpoints and limits."""

from k2.ingest.exchanges.base import Limits, Notices, RestBudget
from k2.schemas.exchanges.registry import EXCHANGES


class BinanceSpec:
    """The declared data of Binance spot."""

    spec = EXCHANGES["binance"]
    has_sequence = True
    url = "wss://stream.binance.com:9443"
    path = "/stream"
    notices = Notices()
    rest_url = "https://api.binance.com"
    # Binance pings every 20 s; it closes a client that sends more than 5 messages a second, pongs included. A request
    # above 8 KB is never answered; a connection carries 1,024 streams; an address opens 300 connections in 5 minutes.
    limits = Limits(
        stale_after=30.0,
        subscribe_interval=0.5,
        symbols_per_message=200,
        message_bytes=8_000,
        symbols_per_connection=1_000,
        acknowledges_any=True,
        connects=150,
        connects_period=300.0,
    )
    # The counter of the 6,000 begins again with each minute.
    rest_budget = RestBudget(rate=70.0, burst=1500.0, limit=6000.0, period=60.0, counter="X-MBX-USED-WEIGHT-1M")
