"""OKX v5 spot: endpoints and limits."""

from k2.ingest.exchanges.base import Limits, RestBudget
from k2.schemas.exchanges.registry import EXCHANGES


class OkxSpec:
    """The declared data of OKX v5 spot."""

    spec = EXCHANGES["okx"]
    has_sequence = True
    url = "wss://ws.okx.com"
    path = "/ws/v5/business"
    rest_url = "https://www.okx.com"
    # The exchange cuts after 30 s of silence; a ping every 20 s brings a pong, and that is a frame.
    limits = Limits(stale_after=30.0, ping_text="ping", ping_interval=20.0)
    rest_budget = RestBudget(rate=8.0, burst=10.0)  # of 20 in 2 s
