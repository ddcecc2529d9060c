"""Bybit spot."""

from k2.ingest.exchanges.bybit.parse import Bybit

CHANNELS = {"trades": {"": Bybit}}
