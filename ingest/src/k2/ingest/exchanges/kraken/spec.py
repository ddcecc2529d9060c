"""Kraken spot: endpoints and limits."""

from k2.ingest.exchanges.base import Limits, Notices, RestBudget
from k2.schemas.exchanges.registry import EXCHANGES


class KrakenSpec:
    """The declared data of Kraken spot."""

    spec = EXCHANGES["kraken"]
    has_sequence = True
    url = "wss://ws.kraken.com"
    path = "/v2"
    notices = Notices()
    rest_url = "https://api.kraken.com"
    # A heartbeat comes every second; Kraken itself advises this deadline. An address opens about 150 connections in 10
    # minutes.
    limits = Limits(stale_after=5.0, connects=75, connects_period=600.0)
    rest_budget = RestBudget(rate=1.0, burst=3.0)
