"""Coinbase Exchange: its time over REST (docs.cdp.coinbase.com, "Get server time")."""

from decimal import Decimal

from k2.ingest.exchanges.clock_source import clock_source
from k2.ingest.exchanges.coinbase.answers import ANSWERS

CLOCK = clock_source("/time", ("epoch",), ANSWERS, micros=Decimal(1_000_000), resolution=0.001)
