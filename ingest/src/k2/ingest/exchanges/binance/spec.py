"""Binance spot: endpoints and limits."""

from k2.ingest.exchanges.base import Limits, RestBudget
from k2.schemas.exchanges.registry import EXCHANGES


class BinanceSpec:
    """The declared data of Binance spot."""

    spec = EXCHANGES["binance"]
    has_sequence = True
    url = "wss://stream.binance.com:9443"
    path = "/stream"
    rest_url = "https://api.binance.com"
    # Binance pings every 20 s; it closes a client that sends more than 5 messages a second.
    limits = Limits(stale_after=30.0, subscribe_interval=0.5)
    rest_budget = RestBudget(rate=80.0, burst=2000.0)  # of 6,000 weight a minute
