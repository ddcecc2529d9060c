"""Bybit v5 spot: endpoints and limits."""

from k2.ingest.exchanges.base import Limits, Notices, RestBudget
from k2.schemas.exchanges.registry import EXCHANGES

TRADES_TOPIC = "publicTrade."
QUOTES_TOPIC = "orderbook.1."  # as long as the other, so that one limit of characters holds for both


class BybitSpec:
    """The declared data of Bybit v5 spot."""

    spec = EXCHANGES["bybit"]
    has_sequence = False
    record_ids = r"[ -~]{1,64}"
    url = "wss://stream.bybit.com"
    path = "/v5/public/spot"
    notices = Notices("/v5/public/misc/status", ('{"req_id":"1","op":"subscribe","args":["system.status"]}',))
    rest_url = "https://api.bybit.com"
    # Spot takes ten arguments a request and 21,000 characters of arguments a connection; half of them are left for
    # subscriptions that are sent again. An address opens 500 connections in 5 minutes.
    limits = Limits(
        stale_after=30.0,
        symbols_per_message=10,
        characters_per_connection=10_500,
        argument_characters=len(TRADES_TOPIC),
        connects=250,
        connects_period=300.0,
        ping_text='{"op":"ping"}',
        ping_interval=20.0,
    )
    rest_budget = RestBudget(rate=20.0, burst=20.0, limit=600.0, period=5.0)
