"""OKX v5 spot: endpoints and limits."""

from k2.ingest.exchanges.base import Limits, Notices, RestBudget
from k2.schemas.exchanges.registry import EXCHANGES


class OkxSpec:
    """The declared data of OKX v5 spot."""

    spec = EXCHANGES["okx"]
    has_sequence = True
    url = "wss://ws.okx.com"
    path = "/ws/v5/business"
    notices = Notices()
    rest_url = "https://www.okx.com"
    # The exchange cuts after 30 s of silence; a ping every 20 s brings a pong, and that is a frame.
    # One request with many arguments counts once among 480 an hour; it may have 64 KB. A refusal carries no number, so
    # that one request is sent at a time. An address opens 3 connections a second.
    limits = Limits(
        stale_after=30.0,
        symbols_per_message=300,
        message_bytes=60_000,
        unanswered_requests=1,
        requests_per_hour=400,
        connects=2,
        connects_period=1.0,
        ping_text="ping",
        ping_interval=20.0,
    )
    rest_budget = RestBudget(rate=7.0, burst=5.0, limit=20.0, period=2.0)
