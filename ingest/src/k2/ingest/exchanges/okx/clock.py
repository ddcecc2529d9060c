"""OKX v5 spot: its time over REST (okx.com/docs-v5, "Get system time")."""

from decimal import Decimal

from k2.ingest.exchanges.clock_source import clock_source
from k2.ingest.exchanges.okx.answers import ANSWERS

CLOCK = clock_source("/api/v5/public/time", ("data", 0, "ts"), ANSWERS, micros=Decimal(1000), resolution=0.001)
