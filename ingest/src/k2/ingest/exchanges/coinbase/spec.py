"""Coinbase Exchange: endpoints and limits."""

from k2.ingest.exchanges.base import Limits, RestBudget
from k2.schemas.exchanges.registry import EXCHANGES


class CoinbaseSpec:
    """The declared data of Coinbase Exchange."""

    spec = EXCHANGES["coinbase"]
    has_sequence = True
    url = "wss://ws-feed.exchange.coinbase.com"
    path = ""
    rest_url = "https://api.exchange.coinbase.com"
    limits = Limits(stale_after=5.0)  # a heartbeat comes every second
    rest_budget = RestBudget(rate=6.0, burst=15.0)  # of 8 a second, 20 at once
