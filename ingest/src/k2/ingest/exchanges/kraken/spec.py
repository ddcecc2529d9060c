"""Kraken spot: endpoints and limits."""

from k2.ingest.exchanges.base import Limits, RestBudget
from k2.schemas.exchanges.registry import EXCHANGES


class KrakenSpec:
    """The declared data of Kraken spot."""

    spec = EXCHANGES["kraken"]
    has_sequence = True
    url = "wss://ws.kraken.com"
    path = "/v2"
    rest_url = "https://api.kraken.com"
    limits = Limits(stale_after=5.0)  # a heartbeat comes every second; Kraken itself advises this deadline
    rest_budget = RestBudget(rate=1.0, burst=3.0)
