"""Binance spot: its time over REST (developers.binance.com, "General endpoints", Check server time)."""

from decimal import Decimal

from k2.ingest.exchanges.binance.answers import ANSWERS
from k2.ingest.exchanges.clock_source import clock_source

CLOCK = clock_source("/api/v3/time", ("serverTime",), ANSWERS, micros=Decimal(1000), resolution=0.001)
