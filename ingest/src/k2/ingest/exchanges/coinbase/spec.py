"""Coinbase Exchange: endpoints and limits."""

from k2.ingest.exchanges.base import Limits, Notices, RestBudget
from k2.schemas.exchanges.registry import EXCHANGES


class CoinbaseSpec:
    """The declared data of Coinbase Exchange."""

    spec = EXCHANGES["coinbase"]
    has_sequence = True
    url = "wss://ws-feed.exchange.coinbase.com"
    path = ""
    notices = Notices()
    rest_url = "https://api.exchange.coinbase.com"
    # A heartbeat comes every second. Answers carry no number, so that one request is sent at a time. An address opens 8
    # connections a second.
    limits = Limits(stale_after=5.0, unanswered_requests=1, connects=4, connects_period=1.0)
    rest_budget = RestBudget(rate=6.0, burst=15.0, limit=28.0, period=1.0)  # of 20 at once and 8 a second
