"""Bybit v5 spot: its time over REST (bybit-exchange.github.io/docs/v5, "Get Bybit Server Time")."""

from decimal import Decimal

from k2.ingest.exchanges.bybit.answers import ANSWERS
from k2.ingest.exchanges.clock_source import clock_source

CLOCK = clock_source("/v5/market/time", ("result", "timeNano"), ANSWERS, micros=Decimal("0.001"), resolution=0.0)
