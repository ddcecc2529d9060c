"""Kraken spot: its time over REST (docs.kraken.com, "Get Server Time": whole seconds)."""

from decimal import Decimal

from k2.ingest.exchanges.clock_source import clock_source
from k2.ingest.exchanges.kraken.answers import ANSWERS

CLOCK = clock_source("/0/public/Time", ("result", "unixtime"), ANSWERS, micros=Decimal(1_000_000), resolution=1.0)
