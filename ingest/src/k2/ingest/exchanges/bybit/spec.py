"""Bybit v5 spot: endpoints and limits."""

from k2.ingest.exchanges.base import Limits, RestBudget
from k2.schemas.exchanges.registry import EXCHANGES


class BybitSpec:
    """The declared data of Bybit v5 spot."""

    spec = EXCHANGES["bybit"]
    has_sequence = False
    record_ids = r"[ -~]{1,64}"
    url = "wss://stream.bybit.com"
    path = "/v5/public/spot"
    rest_url = "https://api.bybit.com"
    limits = Limits(stale_after=30.0, ping_text='{"op":"ping"}', ping_interval=20.0)
    rest_budget = RestBudget(rate=20.0, burst=20.0)  # of 600 in 5 s
